//! F32, F16 and BF16 to single precision and back.

use quant_core::{GgmlType, lanes::Lanes};

/// Values converted at a time.
const STEP: usize = 16;

/// How floats are stored.
///
/// A trait, where closures would do as well: those do not take on the instruction set of the function they are
/// written in, so their vector code is called instead of inlined.
trait Stored {
    /// Bytes of [`STEP`] values.
    type Piece: AsRef<[u8]>;

    /// All pieces of some bytes, and what is left over.
    fn pieces(bytes: &[u8]) -> (&[Self::Piece], &[u8]);

    /// Converts any number of values.
    fn widen(bytes: &[u8], out: &mut [f32]);

    /// Converts a piece.
    #[inline(always)]
    fn widen_piece<S: Lanes>(_: S, bytes: &[u8], out: &mut [f32]) {
        Self::widen(bytes, out);
    }
}

/// `F32`, little-endian.
struct Single;

impl Stored for Single {
    type Piece = [u8; 4 * STEP];

    #[inline(always)]
    fn pieces(bytes: &[u8]) -> (&[Self::Piece], &[u8]) {
        bytes.as_chunks()
    }

    #[inline(always)]
    fn widen(bytes: &[u8], out: &mut [f32]) {
        for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = f32::from_le_bytes(*b);
        }
    }
}

/// `F16`, little-endian.
struct Half;

impl Stored for Half {
    type Piece = [u8; 2 * STEP];

    #[inline(always)]
    fn pieces(bytes: &[u8]) -> (&[Self::Piece], &[u8]) {
        bytes.as_chunks()
    }

    #[inline(always)]
    fn widen(bytes: &[u8], out: &mut [f32]) {
        for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = half::f16::from_le_bytes(*b).to_f32();
        }
    }

    #[inline(always)]
    fn widen_piece<S: Lanes>(s: S, bytes: &[u8], out: &mut [f32]) {
        s.widen_halves(bytes, out);
    }
}

/// `BF16`, little-endian.
struct Brain;

impl Stored for Brain {
    type Piece = [u8; 2 * STEP];

    #[inline(always)]
    fn pieces(bytes: &[u8]) -> (&[Self::Piece], &[u8]) {
        bytes.as_chunks()
    }

    #[inline(always)]
    fn widen(bytes: &[u8], out: &mut [f32]) {
        for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
        }
    }
}

/// Converts stored floats; returns the largest magnitude as [`magnitude`] does. Types other than `F16`
/// and `BF16` are read as `F32`.
#[inline(always)]
pub(crate) fn widen<S: Lanes>(s: S, ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> f32 {
    match ty {
        GgmlType::F16 => widen_all::<S, Half>(s, bytes, out),
        GgmlType::BF16 => widen_all::<S, Brain>(s, bytes, out),
        _ => widen_all::<S, Single>(s, bytes, out),
    }
}

/// Converts pieces of [`STEP`] values and what is left over, and looks at each for its magnitude
/// while it is in registers.
#[inline(always)]
fn widen_all<S: Lanes, F: Stored>(s: S, bytes: &[u8], out: &mut [f32]) -> f32 {
    let (pieces, rest) = F::pieces(bytes);
    let (out, out_rest) = out.as_chunks_mut::<STEP>();
    let mut largest = [0u32; STEP];
    for (bytes, out) in pieces.iter().zip(out) {
        F::widen_piece(s, bytes.as_ref(), out);
        for (largest, v) in largest.iter_mut().zip(out) {
            *largest = (*largest).max(v.to_bits() & MAGNITUDE);
        }
    }
    F::widen(rest, out_rest);
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
