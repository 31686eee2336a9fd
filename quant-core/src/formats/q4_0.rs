//! Q4_0: 32 values, a half-precision scale, 4-bit codes offset by 8.

use alloc::vec::Vec;

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, Quantizer, Rows,
    batch::{Batch, row_values, scatter, scatter_f16, weigh, word},
};
use crate::{
    GgmlType,
    lanes::Lanes,
    search::{fit_scale, signed_extreme},
};

const LEN: usize = 32;

/// A block of Q4_0: value `i` is `d · (code − 8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// Codes: the low nibbles hold values 0..16, the high nibbles 16..32.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == GgmlType::Q4_0.block_bytes());

impl SymmetricBlock for BlockQ4_0 {
    const HALF: i32 = 8;

    #[inline(always)]
    fn pack<S: Lanes>(s: S, d: S::I32, codes: &[S::I32; LEN], blocks: &mut [Self]) {
        scatter_f16(s, d, blocks, |b| &mut b.d);
        scatter(s, &nibbles(s, codes), blocks, |b| &mut b.qs);
    }
}

/// The format of [`GgmlType::Q4_0`].
#[derive(Debug)]
pub struct Q4_0;

impl BlockFormat for Q4_0 {
    type Block = BlockQ4_0;
    const TYPE: GgmlType = GgmlType::Q4_0;

    #[inline(always)]
    fn dequantize(block: &BlockQ4_0, out: &mut [f32]) {
        let d = block.d.to_f32();
        let (low, high) = out.split_at_mut(LEN / 2);
        for ((low, high), q) in low.iter_mut().zip(high).zip(block.qs) {
            *low = (i32::from(q & 15) - 8) as f32 * d;
            *high = (i32::from(q >> 4) - 8) as f32 * d;
        }
    }
}

impl Quantizer for Q4_0 {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ4_0]) {
        quantize_symmetric(s, rows, blocks);
    }
}

/// What tells Q4_0 and Q5_0 apart.
pub(super) trait SymmetricBlock: Sized {
    /// Codes are `0..2 * HALF`, and `HALF` stands for zero.
    const HALF: i32;
    /// Writes the scale bits and codes of a batch into its blocks.
    fn pack<S: Lanes>(s: S, d: S::I32, codes: &[S::I32; LEN], blocks: &mut [Self]);
}

/// The quantizer that Q4_0 and Q5_0 share: a signed scale.
#[inline(always)]
pub(super) fn quantize_symmetric<S: Lanes, B: SymmetricBlock>(
    s: S,
    rows: Rows<'_>,
    blocks: &mut [B],
) {
    let count = blocks.len();
    let mean_squares = if rows.importance.is_some() { rows.mean_squares(s) } else { Vec::new() };
    let mut x = [s.splat(0.0); LEN];
    let mut codes = [s.splat_i(0); LEN];
    for first in (0..count).step_by(S::N) {
        let batch: Batch = rows.batch::<S>(first, count, LEN);
        s.load_columns(rows.values, &batch.starts, &mut x);
        let d = if let Some(importance) = rows.importance {
            let sigma2 = row_values(s, &mean_squares, &batch, rows.row_len);
            let weights = weigh(s, &x, importance, &batch.columns, sigma2);
            let fit = fit_scale::<_, LEN, true>(s, &x, &weights, B::HALF);
            for i in 0..LEN {
                codes[i] = fit.code(s, x[i], B::HALF);
            }
            fit.scale
        } else {
            let (extreme, _) = signed_extreme(s, &x);
            let d = s.div(extreme, s.splat(-B::HALF as f32));
            let zero = s.splat(0.0);
            let inverse = s.select(s.eq(d, zero), zero, s.div(s.splat(1.0), d));
            for i in 0..LEN {
                // Truncation, not rounding: ggml adds the offset and a half first.
                // Codes pass through a byte: where the inverse is infinite they become zero.
                let code = s.trunc(s.add(s.mul(x[i], inverse), s.splat(B::HALF as f32 + 0.5)));
                let code = s.and_i(code, s.splat_i(0xff));
                codes[i] = s.min_i(s.splat_i(2 * B::HALF - 1), code);
            }
            d
        };
        let blocks = &mut blocks[batch.first..batch.first + batch.live];
        B::pack(s, s.to_f16_bits(d), &codes, blocks);
    }
}

/// The low four bits of 32 codes as 16 bytes: code `i` in the low nibble of byte `i`, code
/// `i + 16` in the high one.
#[inline(always)]
pub(super) fn nibbles<S: Lanes>(s: S, codes: &[S::I32; LEN]) -> [S::I32; 4] {
    let low = s.splat_i(15);
    let mut words = [s.splat_i(0); 4];
    for (w, out) in words.iter_mut().enumerate() {
        let mut bytes = [s.splat_i(0); 4];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let (a, b) = (codes[4 * w + i], codes[4 * w + i + 16]);
            *byte = s.or_i(s.and_i(a, low), s.shl::<4>(s.and_i(b, low)));
        }
        *out = word(s, bytes);
    }
    words
}
