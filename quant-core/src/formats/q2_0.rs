//! Q2_0: 64 values, a half-precision scale, codes of two bits.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, Quantizer, Rows,
    batch::{scatter, scatter_f16},
};
use crate::{GgmlType, lanes::Lanes};

const LEN: usize = 64;

/// A block of Q2_0: value `i` is `d` times its code less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "the name is ggml's own")]
pub struct BlockQ2_0 {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// Codes, four a byte, the first lowest.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ2_0>() == GgmlType::Q2_0.block_bytes());

/// The format of [`GgmlType::Q2_0`].
#[derive(Debug)]
#[allow(non_camel_case_types, reason = "the name is ggml's own")]
pub struct Q2_0;

impl BlockFormat for Q2_0 {
    type Block = BlockQ2_0;
    const TYPE: GgmlType = GgmlType::Q2_0;

    #[inline(always)]
    fn dequantize(block: &BlockQ2_0, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (out, q) in out.chunks_exact_mut(4).zip(block.qs) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = (i32::from(q >> (2 * i) & 3) - 1) as f32 * d;
            }
        }
    }
}

impl Quantizer for Q2_0 {
    const IMPORTANCE: Importance = Importance::Ignored;
    const SEARCHES: bool = false;

    /// The scale is the largest magnitude, so that code 3, twice the scale, is never used.
    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ2_0]) {
        let count = blocks.len();
        let zero = s.splat(0.0);
        let mut x = [zero; LEN];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, LEN);
            s.load_columns(rows.values, &batch.starts, &mut x);
            let mut d = zero;
            for &v in &x {
                d = s.max(d, s.abs(v));
            }
            let inverse = s.select(s.lt(zero, d), s.div(s.splat(1.0), d), zero);
            let mut words = [s.splat_i(0); LEN / 16];
            for (word, x) in words.iter_mut().zip(x.chunks_exact(16)) {
                for &v in x.iter().rev() {
                    // Halves are rounded away from zero. Where the scale is too small for an
                    // inverse, ggml's rounding makes the lowest code of infinities and NaNs.
                    let v = s.mul(v, inverse);
                    let above = s.select_i(s.le(s.splat(0.5), v), s.splat_i(2), s.splat_i(1));
                    let low = s.not(s.and(s.lt(s.splat(-0.5), v), s.lt(v, s.splat(f32::INFINITY))));
                    let code = s.select_i(low, s.splat_i(0), above);
                    *word = s.or_i(s.shl::<2>(*word), code);
                }
            }
            let blocks = &mut blocks[batch.first..batch.first + batch.live];
            scatter_f16(s, s.to_f16_bits(d), blocks, |b| &mut b.d);
            scatter(s, &words, blocks, |b| &mut b.qs);
        }
    }
}
