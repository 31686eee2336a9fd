//! Whole slices of any type: the entry points over the formats.

use bytemuck::cast_slice_mut;

use crate::{
    Error, GgmlType,
    formats::{BlockFormat, Importance, Quantizer, Rows},
    lanes::{Lanes, Scalar},
    with_format, with_quantizer,
};

/// Whether [`quantize`] supports this type.
pub fn can_quantize(ty: GgmlType) -> bool {
    importance_use(ty).is_some()
}

/// How [`quantize`] uses importance weights; `None` for a type that it does not support.
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

/// Quantizes rows of `row_len` finite values, row-major, to the bytes of a tensor.
///
/// `importance` holds one weight per column, finite and not negative, the same for every row: how
/// much an error in that column matters. Types without a search ignore it.
///
/// # Errors
/// [`Error::RowLength`] if a row is not a whole number of blocks, [`Error::Length`] if the values
/// are not whole rows or the importance is not one row, [`Error::NonFinite`] for a NaN or an
/// infinity, [`Error::Negative`] for an importance below zero, [`Error::Overflow`] for a value or an
/// importance so large that restored values would not be finite, [`Error::Unsupported`] for a type
/// that [`can_quantize`] refuses, [`Error::ImportanceNeeded`] for one that is useless without
/// importance.
pub fn quantize(
    ty: GgmlType,
    values: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, Error> {
    let rows = Rows { values, row_len, importance };
    rows.check(ty)?;
    if importance.is_none() && importance_use(ty) == Some(Importance::Needed) {
        return Err(Error::ImportanceNeeded { ty });
    }
    finite(ROW_DATA, values)?;
    if let Some(importance) = importance {
        finite(IMPORTANCE, importance)?;
        if let Some(index) = importance.iter().position(|weight| *weight < 0.0) {
            return Err(Error::Negative { what: IMPORTANCE, index, value: importance[index] });
        }
    }
    let bytes = ty.row_bytes(values.len() as u64)?;
    let mut out = vec![0; usize::try_from(bytes).map_err(|_| Error::TooLarge)?];
    quantize_with(Scalar, ty, rows, &mut out)?;
    restorable(ty, rows, &out)?;
    Ok(out)
}

/// What [`Error`] calls the buffers.
const ROW_DATA: &str = "the row data";
const IMPORTANCE: &str = "the importance";

fn finite(what: &'static str, values: &[f32]) -> Result<(), Error> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { what, index, value: values[index] }),
    }
}

/// The largest magnitude that rounds to a finite half-precision value.
const F16_MAX: f32 = 65504.0;

/// Refuses blocks that do not hold what they were made from, though that is finite: half-precision
/// scales overflow long before single precision does, and so do sums weighted by a huge importance.
fn restorable(ty: GgmlType, rows: Rows<'_>, blocks: &[u8]) -> Result<(), Error> {
    if ty == GgmlType::F32 || !can_dequantize(ty) {
        return Ok(());
    }
    let row_bytes = blocks.len() / (rows.values.len() / rows.row_len).max(1);
    let mut restored = vec![0.0; rows.row_len];
    let stored = blocks.chunks_exact(row_bytes.max(1));
    for (row, (values, stored)) in rows.values.chunks_exact(rows.row_len).zip(stored).enumerate() {
        dequantize(ty, stored, &mut restored)?;
        let largest = largest(values);
        if holds(&restored, values, largest, rows.importance) {
            continue;
        }
        // The values are to blame, unless they fit without importance. A row as a whole: some
        // formats weigh the blocks of a row by its mean.
        let mut alone = vec![0; row_bytes];
        quantize_with(Scalar, ty, Rows { values, importance: None, ..rows }, &mut alone)?;
        dequantize(ty, &alone, &mut restored)?;
        let (what, index, value) = match rows.importance {
            Some(importance) if holds(&restored, values, largest, None) => {
                let index = self::largest(importance);
                (IMPORTANCE, index, importance[index])
            }
            _ => (ROW_DATA, row * rows.row_len + largest, values[largest]),
        };
        return Err(Error::Overflow { what, ty, index, value });
    }
    Ok(())
}

/// Whether a row is restored finite, and its largest value as more than a trace of itself: the
/// searches of some formats give a block up whose scale overflows, and store zeros.
fn holds(restored: &[f32], values: &[f32], largest: usize, importance: Option<&[f32]>) -> bool {
    const TRACE: f32 = 16.0;
    let value = values[largest];
    let wanted = importance.is_none_or(|importance| importance[largest] > 0.0);
    let lost = value.abs() > F16_MAX && wanted && restored[largest].abs() < value.abs() / TRACE;
    !lost && restored.iter().all(|v| v.is_finite())
}

/// The index of the largest magnitude.
fn largest(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i].abs() > values[best].abs() { i } else { best })
}

/// [`quantize`] with the lanes of the caller's choice, into a buffer, without looking for values
/// that are not finite: those give unspecified codes.
///
/// `out` has exactly the bytes of the blocks of `rows`.
///
/// # Errors
/// As [`quantize`], and [`Error::Length`] if `out` has another length.
#[inline(always)]
pub fn quantize_with<S: Lanes>(
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
