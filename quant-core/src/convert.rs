//! Whole slices of any type: the entry points over the formats.

use bytemuck::cast_slice_mut;

use crate::{
    Error, GgmlType,
    formats::{BlockFormat, Importance, Quantizer, Rows},
    lanes::Lanes,
    with_format, with_quantizer,
};

/// Whether [`quantize`](crate::quantize) supports this type.
pub fn can_quantize(ty: GgmlType) -> bool {
    importance_use(ty).is_some()
}

/// How [`quantize`](crate::quantize) uses importance weights; `None` for a type that it does not support.
pub fn importance_use(ty: GgmlType) -> Option<Importance> {
    match ty {
        GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => Some(Importance::Ignored),
        _ => with_quantizer!(ty, F => Some(F::IMPORTANCE), None),
    }
}

/// Whether [`dequantize`] supports this type.
pub fn can_dequantize(ty: GgmlType) -> bool {
    matches!(ty, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16)
        || with_format!(ty, F => F::TYPE == ty, false)
}

/// Quantizes rows with the lanes of the caller's choice, into a buffer of exactly the bytes of their
/// blocks, without a look at the values: those that are not finite give unspecified codes, too large
/// ones infinite scales. [`quantize`](crate::quantize) looks.
///
/// # Errors
/// [`Error::RowLength`] if a row is not a whole number of blocks, [`Error::Length`] if the values are
/// not whole rows, the importance not one row or `out` of another length, [`Error::Unsupported`] for a
/// type [`can_quantize`] does not have.
#[inline(always)]
pub fn quantize_unchecked<S: Lanes>(
    s: S,
    ty: GgmlType,
    rows: Rows<'_>,
    out: &mut [u8],
) -> Result<(), Error> {
    let values = rows.values;
    rows.check(ty)?;
    ty.check_bytes(values.len(), out.len())?;
    match ty {
        GgmlType::F32 => {
            for (out, v) in out.chunks_exact_mut(4).zip(values) {
                out.copy_from_slice(&v.to_le_bytes());
            }
        }
        GgmlType::F16 => {
            for (out, &v) in out.chunks_exact_mut(2).zip(values) {
                out.copy_from_slice(&f32_to_f16(v).to_le_bytes());
            }
        }
        GgmlType::BF16 => {
            for (out, &v) in out.chunks_exact_mut(2).zip(values) {
                out.copy_from_slice(&f32_to_bf16(v).to_le_bytes());
            }
        }
        _ => with_quantizer!(
            ty,
            F => F::quantize(s, rows, cast_slice_mut::<u8, <F as BlockFormat>::Block>(out)),
            return Err(Error::Unsupported { ty, operation: "quantized" })
        ),
    }
    Ok(())
}

/// Restores the values of whole blocks: `out` has as many elements as `bytes` holds.
///
/// # Errors
/// [`Error::Length`] if `bytes` is not the size of `out.len()` elements, [`Error::RowLength`] if
/// that is not a whole number of blocks, [`Error::Unsupported`] for a type that
/// [`can_dequantize`] refuses.
pub fn dequantize(ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    ty.check_bytes(out.len(), bytes.len())?;
    match ty {
        GgmlType::F32 => {
            for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*b);
            }
        }
        GgmlType::F16 => {
            for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = half::f16::from_le_bytes(*b).to_f32();
            }
        }
        GgmlType::BF16 => {
            for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = half::bf16::from_le_bytes(*b).to_f32();
            }
        }
        _ => with_format!(ty, F => dequantize_blocks::<F>(bytes, out), {
            return Err(Error::Unsupported { ty, operation: "dequantized" });
        }),
    }
    Ok(())
}

#[inline(always)]
fn dequantize_blocks<F: BlockFormat>(bytes: &[u8], out: &mut [f32]) {
    let blocks: &[F::Block] = bytemuck::cast_slice(bytes);
    for (block, out) in blocks.iter().zip(out.chunks_exact_mut(F::TYPE.block_len())) {
        F::dequantize(block, out);
    }
}

/// The nearest half-precision bits, ties to even; too large becomes infinity.
#[inline(always)]
pub fn f32_to_f16(v: f32) -> u16 {
    half::f16::from_f32(v).to_bits()
}

/// The nearest bfloat16 bits, ties to even; a NaN stays one.
#[inline(always)]
pub fn f32_to_bf16(v: f32) -> u16 {
    half::bf16::from_f32(v).to_bits()
}
