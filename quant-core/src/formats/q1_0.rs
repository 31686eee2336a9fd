//! Q1_0: 128 values, a half-precision scale, signs.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, Quantizer, Rows,
    batch::{scatter, scatter_f16},
};
use crate::{GgmlType, lanes::Lanes};

const LEN: usize = 128;

/// A block of Q1_0: value `i` is `d` where its bit is set, else `−d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "the name is ggml's own")]
pub struct BlockQ1_0 {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// A bit for each value, the first lowest.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ1_0>() == GgmlType::Q1_0.block_bytes());

/// The format of [`GgmlType::Q1_0`].
#[derive(Debug)]
#[allow(non_camel_case_types, reason = "the name is ggml's own")]
pub struct Q1_0;

impl BlockFormat for Q1_0 {
    type Block = BlockQ1_0;
    const TYPE: GgmlType = GgmlType::Q1_0;

    #[inline(always)]
    fn dequantize(block: &BlockQ1_0, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (out, q) in out.chunks_exact_mut(8).zip(block.qs) {
            for (bit, out) in out.iter_mut().enumerate() {
                *out = if q >> bit & 1 == 1 { d } else { -d };
            }
        }
    }
}

impl Quantizer for Q1_0 {
    const IMPORTANCE: Importance = Importance::Ignored;
    const SEARCHES: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ1_0]) {
        let count = blocks.len();
        let mut x = [s.splat(0.0); 32];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, LEN);
            let mut sum = s.splat(0.0);
            let mut words = [s.splat_i(0); LEN / 32];
            for (j, word) in words.iter_mut().enumerate() {
                s.load_columns(rows.values, &batch.starts.map(|start| start + 32 * j), &mut x);
                for (i, &v) in x.iter().enumerate() {
                    sum = s.add(sum, s.abs(v));
                    let bit = s.splat_i((1u32 << i) as i32);
                    let set = s.select_i(s.le(s.splat(0.0), v), bit, s.splat_i(0));
                    *word = s.or_i(*word, set);
                }
            }
            let d = s.div(sum, s.splat(LEN as f32));
            let blocks = &mut blocks[batch.first..batch.first + batch.live];
            scatter_f16(s, s.to_f16_bits(d), blocks, |b| &mut b.d);
            scatter(s, &words, blocks, |b| &mut b.qs);
        }
    }
}
