//! What Q4_K and Q5_K share: eight sub-blocks of 32 values, each with a 6-bit scale and a 6-bit
//! minimum, packed into twelve bytes.

use super::{
    F16Le, QK_K, Rows,
    batch::{scatter, scatter_f16, weigh, word},
};
use crate::lanes::{Lanes, nearest_clamped, nearest_int};
use crate::search::{Grid, fit_positive, fit_scale_min};

const SUB: usize = 32;
const SUBS: usize = QK_K / SUB;

/// What tells Q4_K and Q5_K apart.
///
/// Packing is a method, not a closure handed over: closures do not take on the instruction set of
/// the function they are written in, and their vector code would not be inlined.
pub(super) trait KMinBlock: Sized {
    /// The largest code.
    const LARGEST: i32;
    /// The search without importance.
    const GRID: Grid;
    fn d(&mut self) -> &mut F16Le;
    fn dmin(&mut self) -> &mut F16Le;
    fn scales(&mut self) -> &mut [u8; 12];
    /// Writes the codes of a batch into its blocks.
    fn pack<S: Lanes>(s: S, codes: &[S::I32; QK_K], blocks: &mut [Self]);
}

/// Quantizes super-blocks.
#[inline(always)]
pub(super) fn quantize<S: Lanes, B: KMinBlock>(s: S, rows: Rows<'_>, blocks: &mut [B]) {
    let count = blocks.len();
    let zero = s.splat(0.0);
    let mut x = [[zero; SUB]; SUBS];
    let mut codes = [s.splat_i(0); QK_K];
    for first in (0..count).step_by(S::N) {
        let batch = rows.batch::<S>(first, count, QK_K);
        let mut sigma2 = zero;
        for (j, x) in x.iter_mut().enumerate() {
            let starts = batch.starts.map(|start| start + j * SUB);
            s.load_columns(rows.values, &starts, x);
            for &v in x.iter() {
                sigma2 = s.add(sigma2, s.mul(v, v));
            }
        }
        sigma2 = s.div(s.mul(s.splat(2.0), sigma2), s.splat(QK_K as f32));

        let (mut scales, mut mins, mut totals) = ([zero; SUBS], [zero; SUBS], [zero; SUBS]);
        for j in 0..SUBS {
            let x = &x[j];
            let (weights, grid) = if let Some(importance) = rows.importance {
                let columns = batch.columns.map(|column| column + j * SUB);
                let weights = weigh(s, x, importance, &columns, sigma2);
                for &w in &weights {
                    totals[j] = s.add(totals[j], w);
                }
                (weights, Grid { start: -0.9, step: 0.05, last: 36 })
            } else {
                (magnitude_weights(s, x), B::GRID)
            };
            let fit = fit_scale_min::<S, SUB, false>(s, x, &weights, B::LARGEST, grid);
            scales[j] = fit.scale;
            mins[j] = fit.min;
            for i in 0..SUB {
                codes[j * SUB + i] = fit.code(s, x[i], B::LARGEST);
            }
        }

        let (d, scale_codes, dmin, min_codes) = if rows.importance.is_some() {
            let (d, scale_codes) = fit_positive(s, &scales, &totals, 63);
            let (dmin, min_codes) = fit_positive(s, &mins, &totals, 63);
            (d, scale_codes, dmin, min_codes)
        } else {
            let (d, scale_codes) = six_bits(s, &scales);
            let (dmin, min_codes) = six_bits(s, &mins);
            (d, scale_codes, dmin, min_codes)
        };
        let (d_bits, dmin_bits) = (s.to_f16_bits(d), s.to_f16_bits(dmin));
        let (d, dmin) = (s.f16_bits_to_f32(d_bits), s.f16_bits_to_f32(dmin_bits));

        for j in 0..SUBS {
            let scale = s.mul(d, s.to_f32(scale_codes[j]));
            let min = s.mul(dmin, s.to_f32(min_codes[j]));
            // A scale that rounds to zero leaves the codes of the search.
            let keep = s.eq(scale, zero);
            for i in 0..SUB {
                let value = s.div(s.add(x[j][i], min), scale);
                let code = nearest_clamped(s, value, 0, B::LARGEST);
                codes[j * SUB + i] = s.select_i(keep, codes[j * SUB + i], code);
            }
        }

        let blocks = &mut blocks[first..first + batch.live];
        scatter_f16(s, d_bits, blocks, |b| b.d());
        scatter_f16(s, dmin_bits, blocks, |b| b.dmin());
        scatter(s, &pack_scales(s, &scale_codes, &min_codes), blocks, |b| b.scales());
        B::pack(s, &codes, blocks);
    }
}

/// The weights without importance: the sub-block's root mean square and the value's magnitude.
#[inline(always)]
fn magnitude_weights<S: Lanes>(s: S, x: &[S::F32; SUB]) -> [S::F32; SUB] {
    let mut sum = s.splat(0.0);
    for &v in x {
        sum = s.add(sum, s.mul(v, v));
    }
    let rms = s.sqrt(s.div(sum, s.splat(SUB as f32)));
    let mut weights = *x;
    for w in &mut weights {
        *w = s.add(rms, s.abs(*w));
    }
    weights
}

/// Codes `0..=63` of values that are not negative, in steps of a 63rd of the largest, and that step.
#[inline(always)]
fn six_bits<S: Lanes>(s: S, values: &[S::F32; SUBS]) -> (S::F32, [S::I32; SUBS]) {
    let zero = s.splat(0.0);
    let mut max = zero;
    for &v in values {
        max = s.max(v, max);
    }
    let inverse = s.select(s.lt(zero, max), s.div(s.splat(63.0), max), zero);
    let mut codes = [s.splat_i(0); SUBS];
    for (code, &v) in codes.iter_mut().zip(values) {
        let byte = s.and_i(nearest_int(s, s.mul(inverse, v)), s.splat_i(0xff));
        *code = s.min_i(s.splat_i(63), byte);
    }
    (s.div(max, s.splat(63.0)), codes)
}

/// Eight 6-bit scales and minimums as twelve bytes: the first four of each in bytes 0..8, the low
/// nibbles of the rest in bytes 8..12, their upper bits on top of bytes 0..8.
#[inline(always)]
fn pack_scales<S: Lanes>(s: S, scales: &[S::I32; SUBS], mins: &[S::I32; SUBS]) -> [S::I32; 3] {
    let low = s.splat_i(15);
    let mut bytes = [[s.splat_i(0); 4]; 3];
    for j in 0..4 {
        bytes[0][j] = s.or_i(scales[j], s.shl::<6>(s.shr::<4>(scales[j + 4])));
        bytes[1][j] = s.or_i(mins[j], s.shl::<6>(s.shr::<4>(mins[j + 4])));
        bytes[2][j] = s.or_i(s.and_i(scales[j + 4], low), s.shl::<4>(s.and_i(mins[j + 4], low)));
    }
    [word(s, bytes[0]), word(s, bytes[1]), word(s, bytes[2])]
}

/// The scale and minimum codes of sub-block `j`.
#[inline(always)]
pub(super) fn unpack_scale(scales: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        (scales[j + 4] & 15 | scales[j - 4] >> 6 << 4, scales[j + 4] >> 4 | scales[j] >> 6 << 4)
    }
}

/// The low nibbles of 256 codes as 128 bytes: of each 64 codes, the first half in the low nibbles.
#[inline(always)]
pub(super) fn nibble_words<S: Lanes>(s: S, codes: &[S::I32; QK_K]) -> [S::I32; 32] {
    let low = s.splat_i(15);
    let mut words = [s.splat_i(0); 32];
    for (w, out) in words.iter_mut().enumerate() {
        let at = w / 8 * 64 + w % 8 * 4;
        let mut bytes = [s.splat_i(0); 4];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let (a, b) = (codes[at + i], codes[at + 32 + i]);
            *byte = s.or_i(s.and_i(a, low), s.shl::<4>(s.and_i(b, low)));
        }
        *out = word(s, bytes);
    }
    words
}
