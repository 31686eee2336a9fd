//! Q2_K: 256 values in sixteen sub-blocks, each with a 4-bit scale and minimum; 2-bit codes.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    batch::{scatter, scatter_f16, weigh, word},
    k_signed::{SUB, SUBS, load, two_bit_words},
};
use crate::{
    GgmlType,
    lanes::{Lanes, Pair, nearest_clamped, nearest_int},
    search::{Grid, fit_positive, fit_scale_min},
};

/// A super-block of Q2_K: value `i` of sub-block `j` is `d · scale[j] · code − dmin · min[j]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ2K {
    /// Per sub-block: the scale in the low nibble, the minimum in the high one.
    pub scales: [u8; SUBS],
    /// Codes: of each 128 values, byte `i` holds values `i`, `i + 32`, `i + 64`, `i + 96`.
    pub qs: [u8; QK_K / 4],
    /// Scale of the scales, half-precision bits.
    pub d: F16Le,
    /// Scale of the minimums, half-precision bits.
    pub dmin: F16Le,
}

const _: () = assert!(size_of::<BlockQ2K>() == GgmlType::Q2_K.block_bytes());

/// The format of [`GgmlType::Q2_K`].
#[derive(Debug)]
pub struct Q2K;

impl BlockFormat for Q2K {
    type Block = BlockQ2K;
    const TYPE: GgmlType = GgmlType::Q2_K;

    #[inline(always)]
    fn dequantize(block: &BlockQ2K, out: &mut [f32]) {
        for (half, out) in out.chunks_exact_mut(QK_K / 2).enumerate() {
            let (first, second) = out.split_at_mut(QK_K / 4);
            let (a, b) = first.split_at_mut(2 * SUB);
            let (c, d) = second.split_at_mut(2 * SUB);
            restore_quarter::<0>(block, half, a);
            restore_quarter::<1>(block, half, b);
            restore_quarter::<2>(block, half, c);
            restore_quarter::<3>(block, half, d);
        }
    }
}

impl Quantizer for Q2K {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ2K]) {
        let count = blocks.len();
        let zero = s.splat(0.0);
        let mut x = [[zero; SUB]; SUBS];
        let mut codes = [s.splat_i(0); QK_K];
        let both = Pair(s);
        // Declared here, for filling them with zeros takes time.
        let mut pairs = [(zero, zero); SUB];
        let mut weights = [(zero, zero); SUB];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, QK_K);
            let sigma2 = s.div(load(s, &rows, &batch, &mut x), s.splat(QK_K as f32));

            let (mut scales, mut mins, mut totals) = ([zero; SUBS], [zero; SUBS], [zero; SUBS]);
            for j in (0..SUBS).step_by(2) {
                // Two sub-blocks at a time: 16 values are too few to hide the divisions between one
                // candidate and the next.
                let (first, second) = (&x[j], &x[j + 1]);
                for i in 0..SUB {
                    pairs[i] = (first[i], second[i]);
                }
                let fit = if let Some(importance) = rows.importance {
                    let columns = batch.columns.map(|column| column + j * SUB);
                    let of_first = weigh(s, first, importance, &columns, sigma2);
                    let columns = batch.columns.map(|column| column + (j + 1) * SUB);
                    let of_second = weigh(s, second, importance, &columns, sigma2);
                    for i in 0..SUB {
                        weights[i] = (of_first[i], of_second[i]);
                        totals[j] = s.add(totals[j], of_first[i]);
                        totals[j + 1] = s.add(totals[j + 1], of_second[i]);
                    }
                    let grid = Grid { start: -0.9, step: 0.05, last: 36 };
                    fit_scale_min::<Pair<S>, SUB, false>(both, &pairs, &weights, 3, grid)
                } else {
                    for i in 0..SUB {
                        weights[i] = both.abs(pairs[i]);
                    }
                    let grid = Grid { start: -0.5, step: 0.1, last: 15 };
                    fit_scale_min::<Pair<S>, SUB, true>(both, &pairs, &weights, 3, grid)
                };
                (scales[j], scales[j + 1]) = fit.scale;
                (mins[j], mins[j + 1]) = fit.min;
                for i in 0..SUB {
                    let code = fit.code(both, pairs[i], 3);
                    (codes[j * SUB + i], codes[(j + 1) * SUB + i]) = code;
                }
            }

            let (d, scale_codes, dmin, min_codes) = if rows.importance.is_some() {
                let (d, scale_codes) = fit_positive(s, &scales, &totals, 15);
                let (dmin, min_codes) = fit_positive(s, &mins, &totals, 15);
                (d, scale_codes, dmin, min_codes)
            } else {
                let (d, scale_codes) = four_bits(s, &scales);
                let (dmin, min_codes) = four_bits(s, &mins);
                (d, scale_codes, dmin, min_codes)
            };
            let (d_bits, dmin_bits) = (s.to_f16_bits(d), s.to_f16_bits(dmin));
            let (d, dmin) = (s.f16_bits_to_f32(d_bits), s.f16_bits_to_f32(dmin_bits));

            let mut packed = [s.splat_i(0); SUBS];
            for j in 0..SUBS {
                let byte = s.or_i(scale_codes[j], s.shl::<4>(min_codes[j]));
                packed[j] = s.and_i(byte, s.splat_i(0xff));
                let nibble = s.splat_i(15);
                let scale = s.mul(d, s.to_f32(s.and_i(packed[j], nibble)));
                let min = s.mul(dmin, s.to_f32(s.shr::<4>(packed[j])));
                let keep = s.eq(scale, zero);
                for i in 0..SUB {
                    let code = nearest_clamped(s, s.div(s.add(x[j][i], min), scale), 0, 3);
                    codes[j * SUB + i] = s.select_i(keep, codes[j * SUB + i], code);
                }
            }

            let blocks = &mut blocks[first..first + batch.live];
            scatter_f16(s, d_bits, blocks, |b| &mut b.d);
            scatter_f16(s, dmin_bits, blocks, |b| &mut b.dmin);
            let mut words = [s.splat_i(0); SUBS / 4];
            for (w, out) in words.iter_mut().enumerate() {
                let i = 4 * w;
                *out = word(s, [packed[i], packed[i + 1], packed[i + 2], packed[i + 3]]);
            }
            scatter(s, &words, blocks, |b| &mut b.scales);
            scatter(s, &two_bit_words(s, &codes), blocks, |b| &mut b.qs);
        }
    }
}

/// Restores 32 of the 128 values of a half. The quarter is a constant so that its shift is.
#[inline(always)]
fn restore_quarter<const QUARTER: usize>(block: &BlockQ2K, half: usize, out: &mut [f32]) {
    let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
    let qs = &block.qs[half * 32..][..32];
    let scales = &block.scales[half * 8 + QUARTER * 2..][..2];
    for ((out, qs), packed) in out.chunks_exact_mut(SUB).zip(qs.chunks_exact(SUB)).zip(scales) {
        let scale = d * f32::from(packed & 15);
        let min = dmin * f32::from(packed >> 4);
        for (out, q) in out.iter_mut().zip(qs) {
            *out = scale * f32::from(q >> (2 * QUARTER) & 3) - min;
        }
    }
}

/// Codes `0..=15` of values that are not negative, in steps of a 15th of the largest, and that step.
#[inline(always)]
fn four_bits<S: Lanes>(s: S, values: &[S::F32; SUBS]) -> (S::F32, [S::I32; SUBS]) {
    let zero = s.splat(0.0);
    let mut max = zero;
    for &v in values {
        max = s.max(v, max);
    }
    let positive = s.lt(zero, max);
    let inverse = s.select(positive, s.div(s.splat(15.0), max), zero);
    let mut codes = [s.splat_i(0); SUBS];
    for (code, &v) in codes.iter_mut().zip(values) {
        *code = s.and_i(nearest_int(s, s.mul(inverse, v)), s.splat_i(0xff));
    }
    (s.select(positive, s.div(max, s.splat(15.0)), zero), codes)
}
