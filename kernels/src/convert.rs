//! F32, F16 and BF16 to single precision and back.

use quant_core::{GgmlType, lanes::Lanes};

/// Values converted at a time.
const STEP: usize = 16;

/// Converts stored floats; returns the largest magnitude as [`magnitude`] does. Types other than `F16`
/// and `BF16` are read as `F32`.
#[inline(always)]
pub(crate) fn widen<S: Lanes>(s: S, ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> f32 {
    let f32s = |bytes: &[u8], out: &mut [f32]| {
        for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = f32::from_le_bytes(*b);
        }
    };
    let bf16s = |bytes: &[u8], out: &mut [f32]| {
        for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
        }
    };
    let f16s = |bytes: &[u8], out: &mut [f32]| {
        for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = half::f16::from_le_bytes(*b).to_f32();
        }
    };
    let f16_pieces = |bytes: &[u8], out: &mut [f32]| s.widen_halves(bytes, out);
    match ty {
        GgmlType::F16 => widen_pieces(bytes.as_chunks::<{ 2 * STEP }>(), out, f16_pieces, f16s),
        GgmlType::BF16 => widen_pieces(bytes.as_chunks::<{ 2 * STEP }>(), out, bf16s, bf16s),
        _ => widen_pieces(bytes.as_chunks::<{ 4 * STEP }>(), out, f32s, f32s),
    }
}

/// Converts pieces of [`STEP`] values and what is left over, and looks at each for its magnitude
/// while it is in registers.
#[inline(always)]
fn widen_pieces<const BYTES: usize>(
    (pieces, rest): (&[[u8; BYTES]], &[u8]),
    out: &mut [f32],
    convert: impl Fn(&[u8], &mut [f32]),
    convert_rest: impl Fn(&[u8], &mut [f32]),
) -> f32 {
    let (out, out_rest) = out.as_chunks_mut::<STEP>();
    let mut largest = [0u32; STEP];
    for (bytes, out) in pieces.iter().zip(out) {
        convert(bytes, out);
        for (largest, v) in largest.iter_mut().zip(out) {
            *largest = (*largest).max(v.to_bits() & MAGNITUDE);
        }
    }
    convert_rest(rest, out_rest);
    let largest = largest.into_iter().fold(0, u32::max);
    f32::from_bits(largest.max(magnitude(out_rest).to_bits()))
}

/// All bits of a float but its sign.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// The largest magnitude. The bits of magnitudes order as the magnitudes do, infinity above all
/// numbers and NaNs above infinity, so that any value that is not finite shows.
#[inline(always)]
pub(crate) fn magnitude(values: &[f32]) -> f32 {
    let mut largest = 0u32;
    for v in values {
        largest = largest.max(v.to_bits() & MAGNITUDE);
    }
    f32::from_bits(largest)
}

/// Converts values to `F16`, `BF16` or, for any other type, `F32`.
#[inline(always)]
pub(crate) fn narrow<S: Lanes>(s: S, ty: GgmlType, values: &[f32], out: &mut [u8]) {
    match ty {
        GgmlType::F16 => {
            let (pieces, rest) = values.as_chunks::<STEP>();
            let (halves, halves_rest) = out.as_chunks_mut::<{ 2 * STEP }>();
            for (values, out) in pieces.iter().zip(halves) {
                s.narrow_halves(values, out);
            }
            for (v, out) in rest.iter().zip(halves_rest.as_chunks_mut().0) {
                *out = half::f16::from_f32(*v).to_le_bytes();
            }
        }
        GgmlType::BF16 => {
            for (v, out) in values.iter().zip(out.as_chunks_mut().0) {
                *out = quant_core::f32_to_bf16(*v).to_le_bytes();
            }
        }
        _ => {
            for (v, out) in values.iter().zip(out.as_chunks_mut().0) {
                *out = v.to_le_bytes();
            }
        }
    }
}
