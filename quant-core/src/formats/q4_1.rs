//! Q4_1: 32 values, a half-precision scale and minimum, 4-bit codes.

use alloc::vec::Vec;

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, Quantizer, Rows,
    batch::{row_values, scatter, scatter_f16, weigh},
    q4_0::nibbles,
};
use crate::{
    GgmlType,
    lanes::Lanes,
    search::{Grid, fit_scale_min},
};

const LEN: usize = 32;

/// A block of Q4_1: value `i` is `d · code + m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// Minimum, half-precision bits.
    pub m: F16Le,
    /// Codes: the low nibbles hold values 0..16, the high nibbles 16..32.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_1>() == GgmlType::Q4_1.block_bytes());

impl AffineBlock for BlockQ4_1 {
    const LARGEST: i32 = 15;

    #[inline(always)]
    fn pack<S: Lanes>(s: S, d: S::I32, m: S::I32, codes: &[S::I32; LEN], blocks: &mut [Self]) {
        scatter_f16(s, d, blocks, |b| &mut b.d);
        scatter_f16(s, m, blocks, |b| &mut b.m);
        scatter(s, &nibbles(s, codes), blocks, |b| &mut b.qs);
    }
}

/// The format of [`GgmlType::Q4_1`].
#[derive(Debug)]
pub struct Q4_1;

impl BlockFormat for Q4_1 {
    type Block = BlockQ4_1;
    const TYPE: GgmlType = GgmlType::Q4_1;

    #[inline(always)]
    fn dequantize(block: &BlockQ4_1, out: &mut [f32]) {
        let (d, m) = (block.d.to_f32(), block.m.to_f32());
        let (low, high) = out.split_at_mut(LEN / 2);
        for ((low, high), q) in low.iter_mut().zip(high).zip(block.qs) {
            *low = f32::from(q & 15) * d + m;
            *high = f32::from(q >> 4) * d + m;
        }
    }
}

impl Quantizer for Q4_1 {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ4_1]) {
        quantize_affine(s, rows, blocks);
    }
}

/// What tells Q4_1 and Q5_1 apart.
pub(super) trait AffineBlock: Sized {
    /// The largest code.
    const LARGEST: i32;
    /// Writes the scale bits, minimum bits and codes of a batch into its blocks.
    fn pack<S: Lanes>(s: S, d: S::I32, m: S::I32, codes: &[S::I32; LEN], blocks: &mut [Self]);
}

/// The quantizer that Q4_1 and Q5_1 share: a scale and a minimum.
#[inline(always)]
pub(super) fn quantize_affine<S: Lanes, B: AffineBlock>(s: S, rows: Rows<'_>, blocks: &mut [B]) {
    let count = blocks.len();
    let mean_squares = if rows.importance.is_some() { rows.mean_squares(s) } else { Vec::new() };
    let mut x = [s.splat(0.0); LEN];
    let mut codes = [s.splat_i(0); LEN];
    for first in (0..count).step_by(S::N) {
        let batch = rows.batch::<S>(first, count, LEN);
        s.load_columns(rows.values, &batch.starts, &mut x);
        let (d, m) = if let Some(importance) = rows.importance {
            let sigma2 = row_values(s, &mean_squares, &batch, rows.row_len);
            let weights = weigh(s, &x, importance, &batch.columns, sigma2);
            let grid = Grid { start: -0.9, step: 0.05, last: 36 };
            let fit = fit_scale_min::<S, LEN, false>(s, &x, &weights, B::LARGEST, grid);
            for i in 0..LEN {
                codes[i] = fit.code(s, x[i], B::LARGEST);
            }
            (fit.scale, s.mul(s.splat(-1.0), fit.min))
        } else {
            let (mut lowest, mut highest) = (s.splat(f32::MAX), s.splat(-f32::MAX));
            for &v in &x {
                lowest = s.min(v, lowest);
                highest = s.max(v, highest);
            }
            let d = s.div(s.sub(highest, lowest), s.splat(B::LARGEST as f32));
            let zero = s.splat(0.0);
            let inverse = s.select(s.eq(d, zero), zero, s.div(s.splat(1.0), d));
            for i in 0..LEN {
                let scaled = s.mul(s.sub(x[i], lowest), inverse);
                let code = s.trunc(s.add(scaled, s.splat(0.5)));
                let code = s.and_i(code, s.splat_i(0xff));
                codes[i] = s.min_i(s.splat_i(B::LARGEST), code);
            }
            (d, lowest)
        };
        let blocks = &mut blocks[batch.first..batch.first + batch.live];
        B::pack(s, s.to_f16_bits(d), s.to_f16_bits(m), &codes, blocks);
    }
}
