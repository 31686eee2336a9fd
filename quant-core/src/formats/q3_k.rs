//! Q3_K: 256 values in sixteen sub-blocks, each with a signed 6-bit scale; signed 3-bit codes.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    batch::{scatter, scatter_f16, weigh, word},
    k_signed::{SUB, SUBS, load, recode, two_bit_words},
};
use crate::{
    GgmlType,
    lanes::{Lanes, Pair, nearest_clamped},
    search::{fit_scale, fit_scale_by_descent, signed_extreme},
};

/// A super-block of Q3_K: value `i` of sub-block `j` is `d · (scale[j] − 32) · (code − 4)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ3K {
    /// Third bits: bit `j` of byte `i` belongs to value `32 · j + i`.
    pub hmask: [u8; QK_K / 8],
    /// Low two bits: of each 128 values, byte `i` holds values `i`, `i + 32`, `i + 64`, `i + 96`.
    pub qs: [u8; QK_K / 4],
    /// Sixteen 6-bit scales: low nibbles in bytes 0..8, upper two bits in bytes 8..12.
    pub scales: [u8; 12],
    /// Scale of the scales, half-precision bits.
    pub d: F16Le,
}

const _: () = assert!(size_of::<BlockQ3K>() == GgmlType::Q3_K.block_bytes());

/// The format of [`GgmlType::Q3_K`].
#[derive(Debug)]
pub struct Q3K;

impl BlockFormat for Q3K {
    type Block = BlockQ3K;
    const TYPE: GgmlType = GgmlType::Q3_K;

    #[inline(always)]
    fn dequantize(block: &BlockQ3K, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (j, out) in out.chunks_exact_mut(SUB).enumerate() {
            let nibble = block.scales[j % 8] >> (j / 8 * 4) & 15;
            let upper = block.scales[8 + j % 4] >> (j / 4 * 2) & 3;
            let scale = d * f32::from((nibble | upper << 4) as i8 - 32);
            let qs = &block.qs[j / 8 * 32 + j % 2 * SUB..][..SUB];
            let high = &block.hmask[j % 2 * SUB..][..SUB];
            let shift = 2 * (j / 2 % 4);
            for ((out, q), high) in out.iter_mut().zip(qs).zip(high) {
                let code = (q >> shift & 3 | (high >> (j / 2) & 1) << 2) as i8 - 4;
                *out = scale * f32::from(code);
            }
        }
    }
}

impl Quantizer for Q3K {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ3K]) {
        let count = blocks.len();
        let zero = s.splat(0.0);
        let mut x = [[zero; SUB]; SUBS];
        let mut codes = [s.splat_i(0); QK_K];
        let both = Pair(s);
        // Declared here, for filling them with zeros takes time.
        let mut pairs = [(zero, zero); SUB];
        let mut pair_codes = [both.splat_i(0); SUB];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, QK_K);
            let sum = load(s, &rows, &batch, &mut x);
            let sigma2 = s.div(s.mul(s.splat(2.0), sum), s.splat(QK_K as f32));

            let (mut scales, mut totals) = ([zero; SUBS], [zero; SUBS]);
            if let Some(importance) = rows.importance {
                for j in 0..SUBS {
                    let x = &x[j];
                    let columns = batch.columns.map(|column| column + j * SUB);
                    let weights = weigh(s, x, importance, &columns, sigma2);
                    for &w in &weights {
                        totals[j] = s.add(totals[j], w);
                    }
                    let fit = fit_scale::<_, SUB, true>(s, x, &weights, 4);
                    scales[j] = fit.scale;
                    for i in 0..SUB {
                        codes[j * SUB + i] = fit.code(s, x[i], 4);
                    }
                }
            } else {
                for j in (0..SUBS).step_by(2) {
                    // A descent is one chain of operations that wait for each other: two
                    // sub-blocks at a time.
                    for i in 0..SUB {
                        pairs[i] = (x[j][i], x[j + 1][i]);
                    }
                    let fit = fit_scale_by_descent(both, &pairs, 4, &mut pair_codes);
                    (scales[j], scales[j + 1]) = fit;
                    for i in 0..SUB {
                        (codes[j * SUB + i], codes[(j + 1) * SUB + i]) = pair_codes[i];
                    }
                }
            }

            let (d, scale_codes) = if rows.importance.is_some() {
                let fit = fit_scale::<_, SUBS, false>(s, &scales, &totals, 32);
                let mut codes = [s.splat_i(0); SUBS];
                for j in 0..SUBS {
                    codes[j] = fit.code(s, scales[j], 32);
                }
                (fit.scale, codes)
            } else {
                scale_codes(s, &scales)
            };
            let d_bits = s.to_f16_bits(d);
            let d = s.f16_bits_to_f32(d_bits);
            for j in 0..SUBS {
                let scale = s.mul(d, s.to_f32(s.sub_i(scale_codes[j], s.splat_i(32))));
                recode(s, &x[j], scale, 4, &mut codes[j * SUB..][..SUB]);
            }

            let blocks = &mut blocks[first..first + batch.live];
            scatter_f16(s, d_bits, blocks, |b| &mut b.d);
            scatter(s, &pack_scales(s, &scale_codes), blocks, |b| &mut b.scales);
            scatter(s, &third_bits(s, &codes), blocks, |b| &mut b.hmask);
            scatter(s, &two_bit_words(s, &codes), blocks, |b| &mut b.qs);
        }
    }
}

/// The scale of the scales without importance and their codes `0..64`: the scale of largest
/// magnitude becomes −32.
#[inline(always)]
fn scale_codes<S: Lanes>(s: S, scales: &[S::F32; SUBS]) -> (S::F32, [S::I32; SUBS]) {
    let zero = s.splat(0.0);
    let (extreme, _) = signed_extreme(s, scales);
    let none = s.eq(extreme, zero);
    let inverse = s.div(s.splat(-32.0), extreme);
    let mut codes = [s.splat_i(0); SUBS];
    for j in 0..SUBS {
        let code = nearest_clamped(s, s.mul(inverse, scales[j]), -32, 31);
        codes[j] = s.select_i(none, s.splat_i(0), s.add_i(code, s.splat_i(32)));
    }
    (s.select(none, zero, s.div(s.splat(1.0), inverse)), codes)
}

/// Sixteen 6-bit codes as twelve bytes.
#[inline(always)]
fn pack_scales<S: Lanes>(s: S, codes: &[S::I32; SUBS]) -> [S::I32; 3] {
    let low = s.splat_i(15);
    let mut words = [s.splat_i(0); 3];
    for (w, out) in words.iter_mut().enumerate().take(2) {
        let mut bytes = [s.splat_i(0); 4];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let j = 4 * w + i;
            *byte = s.or_i(s.and_i(codes[j], low), s.shl::<4>(s.and_i(codes[j + 8], low)));
        }
        *out = word(s, bytes);
    }
    let mut bytes = [s.splat_i(0); 4];
    for (i, byte) in bytes.iter_mut().enumerate() {
        for quarter in (0..4).rev() {
            *byte = s.or_i(s.shl::<2>(*byte), s.shr::<4>(codes[4 * quarter + i]));
        }
    }
    words[2] = word(s, bytes);
    words
}

/// The third bits of 256 codes as 32 bytes.
#[inline(always)]
fn third_bits<S: Lanes>(s: S, codes: &[S::I32; QK_K]) -> [S::I32; 8] {
    let mut words = [s.splat_i(0); 8];
    for (w, out) in words.iter_mut().enumerate() {
        let mut bytes = [s.splat_i(0); 4];
        for (i, byte) in bytes.iter_mut().enumerate() {
            for part in (0..8).rev() {
                let bit = s.and_i(s.shr::<2>(codes[part * 32 + 4 * w + i]), s.splat_i(1));
                *byte = s.or_i(s.shl::<1>(*byte), bit);
            }
        }
        *out = word(s, bytes);
    }
    words
}
