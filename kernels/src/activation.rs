//! Activations as ggml's x86 kernels quantize them: Q8_0, Q8_1 and Q8_K.
//!
//! A lane is a block. Two things differ from the quantizer of weights: Q8_0 and Q8_1 multiply by
//! `127 / max` and round halves to even, and Q8_K makes the value of largest magnitude −127.

use quant_core::{
    Error, GgmlType,
    formats::QK_K,
    lanes::{Lanes, MAX_LANES, PerLane},
};

/// How activations are quantized to meet a type of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scaling {
    /// A scale per 32 values, from the largest magnitude: Q8_0 and Q8_1.
    Per32,
    /// As 32, for groups of 64.
    Per64,
    /// As 32, for groups of 128.
    Per128,
    /// A scale per 256 values, from the signed extreme: Q8_K.
    Per256,
}

impl Scaling {
    /// Values that share a scale.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Per32 => 32,
            Self::Per64 => 64,
            Self::Per128 => 128,
            Self::Per256 => QK_K,
        }
    }
}

/// Quantizes rows of any whole number of blocks: `values` to the blocks of `ty` in `out`.
///
/// The lengths have been checked: see [`crate::Kernels::quantize_activations`].
#[inline(always)]
pub(crate) fn quantize<S: Lanes>(s: S, ty: GgmlType, values: &[f32], out: &mut [u8]) -> bool {
    match ty {
        GgmlType::Q8_0 => quantize_32::<S, 34>(s, values, out.as_chunks_mut().0),
        GgmlType::Q8_1 => quantize_32::<S, 36>(s, values, out.as_chunks_mut().0),
        GgmlType::Q8_K => quantize_256(s, values, out.as_chunks_mut().0),
        _ => return false,
    }
    true
}

/// Q8_0 (34 bytes: scale, codes) or Q8_1 (36 bytes: scale, scale × sum of codes, codes).
#[inline(always)]
fn quantize_32<S: Lanes, const BYTES: usize>(s: S, values: &[f32], out: &mut [[u8; BYTES]]) {
    let mut codes = [s.splat_i(0); 32];
    let (mut bits, mut word) = ([0; MAX_LANES], [0; MAX_LANES]);
    for (batch, out) in out.chunks_mut(S::N).enumerate() {
        let starts = starts::<S>(batch * S::N, out.len(), 32);
        let (d, lost) = codes_by_magnitude(s, values, &starts, &mut codes);
        s.store_i(s.to_f16_bits(d), &mut bits);
        for (out, d) in out.iter_mut().zip(bits) {
            out[..2].copy_from_slice(&(d as u16).to_le_bytes());
        }
        if BYTES == 36 {
            let sum = s.to_f32(total(s, &codes));
            s.store_i(s.to_f16_bits(s.mul(d, sum)), &mut bits);
            for (out, sum) in out.iter_mut().zip(bits) {
                out[2..4].copy_from_slice(&(sum as u16).to_le_bytes());
            }
        }
        if s.any(lost) {
            // What the conversion of infinity gives in ggml; the scale is zero.
            for code in &mut codes {
                *code = s.select_i(lost, s.splat_i(-128), *code);
            }
        }
        for (w, four) in codes.as_chunks().0.iter().enumerate() {
            s.store_i(join(s, four), &mut word);
            for (out, word) in out.iter_mut().zip(word) {
                out[BYTES - 32 + 4 * w..][..4].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

/// Q8_K: single-precision scale, 256 codes, sixteen sums of sixteen codes.
#[inline(always)]
fn quantize_256<S: Lanes>(s: S, values: &[f32], out: &mut [[u8; 292]]) {
    let mut codes = [s.splat_i(0); QK_K];
    let (mut scale, mut word) = ([0.0; MAX_LANES], [0; MAX_LANES]);
    for (batch, out) in out.chunks_mut(S::N).enumerate() {
        let starts = starts::<S>(batch * S::N, out.len(), QK_K);
        let d = codes_256(s, values, &starts, &mut codes);
        s.store(d, &mut scale);
        for (out, d) in out.iter_mut().zip(scale) {
            out[..4].copy_from_slice(&d.to_le_bytes());
        }
        for (w, four) in codes.as_chunks().0.iter().enumerate() {
            s.store_i(join(s, four), &mut word);
            for (out, word) in out.iter_mut().zip(word) {
                out[4 + 4 * w..][..4].copy_from_slice(&word.to_le_bytes());
            }
        }
        for (j, sixteen) in codes.as_chunks::<16>().0.iter().enumerate() {
            s.store_i(total(s, sixteen), &mut word);
            for (out, sum) in out.iter_mut().zip(word) {
                out[260 + 2 * j..][..2].copy_from_slice(&(sum as i16).to_le_bytes());
            }
        }
    }
}

/// Where the blocks of a batch start: lanes without a block repeat the last.
#[inline(always)]
pub(crate) fn starts<S: Lanes>(first: usize, live: usize, len: usize) -> PerLane<usize> {
    let mut starts = [0; MAX_LANES];
    for (lane, start) in starts.iter_mut().enumerate().take(S::N) {
        *start = (first + lane.min(live - 1)) * len;
    }
    starts
}

/// The codes −127..=127 of one block per lane, by the largest magnitude; returns the scales, and
/// which blocks are so small that their inverse scale overflows: their codes are zero.
#[inline(always)]
pub(crate) fn codes_by_magnitude<S: Lanes, const LEN: usize>(
    s: S,
    values: &[f32],
    starts: &PerLane<usize>,
    codes: &mut [S::I32; LEN],
) -> (S::F32, S::Mask) {
    let zero = s.splat(0.0);
    let mut x = [zero; LEN];
    s.load_columns(values, starts, &mut x);
    let mut largest = zero;
    for &v in &x {
        largest = s.max(s.abs(v), largest);
    }
    let inverse = s.div(s.splat(127.0), largest);
    let overflows = s.not(s.lt(inverse, s.splat(f32::INFINITY)));
    let inverse = s.select(overflows, zero, inverse);
    for (code, v) in codes.iter_mut().zip(x) {
        *code = nearest(s, s.mul(v, inverse));
    }
    (s.div(largest, s.splat(127.0)), s.and(overflows, s.lt(zero, largest)))
}

/// The codes −127..=127 of one block of 256 per lane, by the signed extreme; returns the scales,
/// which may be negative. Codes of blocks whose inverse scale overflows are zero.
#[inline(always)]
pub(crate) fn codes_256<S: Lanes>(
    s: S,
    values: &[f32],
    starts: &PerLane<usize>,
    codes: &mut [S::I32; QK_K],
) -> S::F32 {
    let zero = s.splat(0.0);
    let mut x = [zero; QK_K];
    s.load_columns(values, starts, &mut x);
    let (mut largest, mut extreme) = (zero, zero);
    for &v in &x {
        // The first of equal magnitudes decides the sign.
        let magnitude = s.abs(v);
        let larger = s.lt(largest, magnitude);
        largest = s.select(larger, magnitude, largest);
        extreme = s.select(larger, v, extreme);
    }
    let inverse = s.div(s.splat(-127.0), extreme);
    let usable = s.lt(s.abs(inverse), s.splat(f32::INFINITY));
    let factor = s.select(usable, inverse, zero);
    for (code, v) in codes.iter_mut().zip(x) {
        *code = s.min_i(s.splat_i(127), nearest(s, s.mul(factor, v)));
    }
    s.select(s.eq(largest, zero), zero, s.div(s.splat(1.0), inverse))
}

/// Nearest integer, ties to even, of a magnitude far below 2²².
#[inline(always)]
fn nearest<S: Lanes>(s: S, v: S::F32) -> S::I32 {
    const MAGIC: f32 = 12_582_912.0;
    let shifted = s.bits(s.add(v, s.splat(MAGIC)));
    s.sub_i(s.and_i(shifted, s.splat_i(0x007f_ffff)), s.splat_i(0x0040_0000))
}

/// The sum of the codes of each lane.
#[inline(always)]
pub(crate) fn total<S: Lanes>(s: S, codes: &[S::I32]) -> S::I32 {
    let mut sum = s.splat_i(0);
    for &code in codes {
        sum = s.add_i(sum, code);
    }
    sum
}

/// Four codes as the bytes of a little-endian word.
#[inline(always)]
pub(crate) fn join<S: Lanes>(s: S, codes: &[S::I32; 4]) -> S::I32 {
    let byte = s.splat_i(0xff);
    let [a, b, c, d] = *codes;
    let (a, b, c) = (s.and_i(a, byte), s.and_i(b, byte), s.and_i(c, byte));
    s.or_i(s.or_i(a, s.shl::<8>(b)), s.or_i(s.shl::<16>(c), s.shl::<24>(d)))
}

/// The first value that is not finite, as an error; the values start at an index of their buffer.
pub(crate) fn check_finite(what: &'static str, start: usize, values: &[f32]) -> Result<(), Error> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { what, index: start + index, value: values[index] }),
    }
}
