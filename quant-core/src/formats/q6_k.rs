//! Q6_K: 256 values in sixteen sub-blocks, each with a signed 8-bit scale; signed 6-bit codes.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    batch::{scatter, scatter_f16, word},
    k_signed::{SUB, SUBS, load, recode},
};
use crate::{
    GgmlType,
    lanes::{Lanes, nearest_int},
    search::{GROUP_MAX_EPS, fit_scale, signed_extreme},
};

/// A super-block of Q6_K: value `i` of sub-block `j` is `d · scales[j] · (code − 32)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ6K {
    /// Low four bits: of each 128 values, byte `i` of 64 holds values `i` and `i + 64`.
    pub ql: [u8; QK_K / 2],
    /// Upper two bits: of each 128 values, byte `i` of 32 holds values `i`, `i + 32`, `i + 64`,
    /// `i + 96`.
    pub qh: [u8; QK_K / 4],
    /// Scales, two's complement.
    pub scales: [u8; SUBS],
    /// Scale of the scales, half-precision bits.
    pub d: F16Le,
}

const _: () = assert!(size_of::<BlockQ6K>() == GgmlType::Q6_K.block_bytes());

/// The format of [`GgmlType::Q6_K`].
#[derive(Debug)]
pub struct Q6K;

impl BlockFormat for Q6K {
    type Block = BlockQ6K;
    const TYPE: GgmlType = GgmlType::Q6_K;

    #[inline(always)]
    fn dequantize(block: &BlockQ6K, out: &mut [f32]) {
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

impl Quantizer for Q6K {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ6K]) {
        let count = blocks.len();
        let zero = s.splat(0.0);
        let mut x = [[zero; SUB]; SUBS];
        let mut codes = [s.splat_i(0); QK_K];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, QK_K);
            load(s, &rows, &batch, &mut x);

            let mut scales = [zero; SUBS];
            for j in 0..SUBS {
                let x = &x[j];
                let mut weights = [zero; SUB];
                if let Some(importance) = rows.importance {
                    let columns = batch.columns.map(|column| column + j * SUB);
                    s.load_columns(importance, &columns, &mut weights);
                } else {
                    for i in 0..SUB {
                        weights[i] = s.mul(x[i], x[i]);
                    }
                }
                let fit = fit_scale::<_, SUB, true>(s, x, &weights, 32);
                scales[j] = fit.scale;
                for i in 0..SUB {
                    codes[j * SUB + i] = fit.code(s, x[i], 32);
                }
            }

            let (extreme, magnitude) = signed_extreme(s, &scales);
            let empty = s.lt(magnitude, s.splat(GROUP_MAX_EPS));
            let inverse = s.div(s.splat(-128.0), extreme);
            let d_bits = s.to_f16_bits(s.div(s.splat(1.0), inverse));
            let d_bits = s.select_i(empty, s.splat_i(0), d_bits);
            let d = s.f16_bits_to_f32(d_bits);
            let mut scale_codes = [s.splat_i(0); SUBS];
            for j in 0..SUBS {
                let code = s.min_i(s.splat_i(127), nearest_int(s, s.mul(inverse, scales[j])));
                scale_codes[j] = s.select_i(empty, s.splat_i(0), code);
                let scale = s.mul(d, s.to_f32(scale_codes[j]));
                recode(s, &x[j], scale, 32, &mut codes[j * SUB..][..SUB]);
            }
            // An empty super-block is all zero bytes, whatever the search left.
            for code in &mut codes {
                *code = s.select_i(empty, s.splat_i(0), *code);
            }

            let blocks = &mut blocks[first..first + batch.live];
            scatter_f16(s, d_bits, blocks, |b| &mut b.d);
            let byte = s.splat_i(0xff);
            let mut words = [s.splat_i(0); SUBS / 4];
            for (w, out) in words.iter_mut().enumerate() {
                let mut bytes = [s.splat_i(0); 4];
                for (i, out) in bytes.iter_mut().enumerate() {
                    *out = s.and_i(scale_codes[4 * w + i], byte);
                }
                *out = word(s, bytes);
            }
            scatter(s, &words, blocks, |b| &mut b.scales);
            scatter(s, &low_words(s, &codes), blocks, |b| &mut b.ql);
            scatter(s, &high_words(s, &codes), blocks, |b| &mut b.qh);
        }
    }
}

/// Restores 32 of the 128 values of a half. The quarter is a constant so that its shifts are.
#[inline(always)]
fn restore_quarter<const QUARTER: usize>(block: &BlockQ6K, half: usize, out: &mut [f32]) {
    let d = block.d.to_f32();
    let ql = &block.ql[half * 64 + QUARTER % 2 * 32..][..32];
    let qh = &block.qh[half * 32..][..32];
    let scales = &block.scales[half * 8 + QUARTER * 2..][..2];
    let parts = out.chunks_exact_mut(SUB).zip(ql.chunks_exact(SUB)).zip(qh.chunks_exact(SUB));
    for (((out, ql), qh), scale) in parts.zip(scales) {
        let scale = d * f32::from(*scale as i8);
        for ((out, low), high) in out.iter_mut().zip(ql).zip(qh) {
            let code = low >> (QUARTER / 2 * 4) & 15 | (high >> (2 * QUARTER) & 3) << 4;
            *out = scale * f32::from(code as i8 - 32);
        }
    }
}

/// The low nibbles of 256 codes as 128 bytes.
#[inline(always)]
fn low_words<S: Lanes>(s: S, codes: &[S::I32; QK_K]) -> [S::I32; 32] {
    let low = s.splat_i(15);
    let mut words = [s.splat_i(0); 32];
    for (w, out) in words.iter_mut().enumerate() {
        let at = w / 16 * 128 + w % 16 * 4;
        let mut bytes = [s.splat_i(0); 4];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let (a, b) = (codes[at + i], codes[at + 64 + i]);
            *byte = s.or_i(s.and_i(a, low), s.shl::<4>(s.and_i(b, low)));
        }
        *out = word(s, bytes);
    }
    words
}

/// The upper two bits of 256 codes as 64 bytes.
#[inline(always)]
fn high_words<S: Lanes>(s: S, codes: &[S::I32; QK_K]) -> [S::I32; 16] {
    let mut words = [s.splat_i(0); 16];
    for (w, out) in words.iter_mut().enumerate() {
        let at = w / 8 * 128 + w % 8 * 4;
        let mut bytes = [s.splat_i(0); 4];
        for (i, byte) in bytes.iter_mut().enumerate() {
            for quarter in (0..4).rev() {
                let bits = s.shr::<4>(codes[at + i + 32 * quarter]);
                *byte = s.or_i(s.shl::<2>(*byte), bits);
            }
        }
        *out = word(s, bytes);
    }
    words
}
