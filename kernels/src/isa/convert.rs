//! F32, F16 and BF16 to single precision and back: the loops that instruction sets compile.

use quant_core::GgmlType;

/// Floats as a tensor stores them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'a> {
    F32(&'a [u8]),
    F16(&'a [u8]),
    Bf16(&'a [u8]),
}

/// Values converted at a time: the size of the pieces that ISA code converts.
const STEP: usize = 16;

/// The loop of [`IsaKernels::widen`](super::IsaKernels::widen); `f16` converts [`STEP`] halves, or fewer for the last piece
/// of the scalar instance.
#[inline(always)]
pub(super) fn widen(stored: Stored<'_>, out: &mut [f32], f16: impl Fn(&[u8], &mut [f32])) -> f32 {
    match stored {
        Stored::F32(bytes) => {
            for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*b);
            }
        }
        Stored::Bf16(bytes) => {
            for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }
        }
        Stored::F16(bytes) => {
            let (pieces, rest) = out.as_chunks_mut::<STEP>();
            let (halves, halves_rest) = bytes.as_chunks::<{ 2 * STEP }>();
            for (out, halves) in pieces.iter_mut().zip(halves) {
                f16(halves, out);
            }
            for (out, b) in rest.iter_mut().zip(halves_rest.as_chunks().0) {
                *out = half::f16::from_le_bytes(*b).to_f32();
            }
        }
    }
    magnitude(out)
}

/// The largest magnitude. The bits of magnitudes order as the magnitudes do, infinity above all
/// numbers and NaNs above infinity, so that any value that is not finite shows.
#[inline(always)]
pub(super) fn magnitude(values: &[f32]) -> f32 {
    let mut largest = 0u32;
    for v in values {
        largest = largest.max(v.to_bits() & 0x7fff_ffff);
    }
    f32::from_bits(largest)
}

/// The loop of [`IsaKernels::narrow`](super::IsaKernels::narrow); `f16` converts [`STEP`] values.
#[inline(always)]
pub(super) fn narrow(
    ty: GgmlType,
    values: &[f32],
    out: &mut [u8],
    f16: impl Fn(&[f32], &mut [u8]),
) {
    match ty {
        GgmlType::F16 => {
            let (pieces, rest) = values.as_chunks::<STEP>();
            let (halves, halves_rest) = out.as_chunks_mut::<{ 2 * STEP }>();
            for (values, out) in pieces.iter().zip(halves) {
                f16(values, out);
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
