//! Quantizing with all checks, whoever makes the blocks.

use alloc::{vec, vec::Vec};

use crate::{
    Error, GgmlType, can_dequantize, dequantize,
    formats::{Importance, Rows},
    importance_use,
    lanes::Scalar,
    quantize_unchecked,
};

/// Who makes blocks and restores their values: the scalar code of this crate, or faster code that
/// gives the same bytes, as `quant-kernels` has it.
pub trait Codec {
    /// As [`quantize_unchecked`].
    ///
    /// # Errors
    /// As [`quantize_unchecked`].
    fn quantize_unchecked(&self, ty: GgmlType, rows: Rows<'_>, out: &mut [u8])
    -> Result<(), Error>;

    /// As [`dequantize`].
    ///
    /// # Errors
    /// As [`dequantize`].
    fn dequantize_into(&self, ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<(), Error>;
}

impl Codec for Scalar {
    fn quantize_unchecked(
        &self,
        ty: GgmlType,
        rows: Rows<'_>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        quantize_unchecked(Scalar, ty, rows, out)
    }

    fn dequantize_into(&self, ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
        dequantize(ty, bytes, out)
    }
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
/// importance so large that what is restored would not be finite, [`Error::Unsupported`] for a type
/// [`can_quantize`](crate::can_quantize) does not have, [`Error::ImportanceNeeded`] for one that is useless without
/// importance.
pub fn quantize(
    ty: GgmlType,
    values: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, Error> {
    quantize_by(&Scalar, ty, Rows { values, row_len, importance })
}

/// [`quantize`] with a codec of the caller's.
///
/// # Errors
/// As [`quantize`].
pub(crate) fn quantize_by(
    codec: &impl Codec,
    ty: GgmlType,
    rows: Rows<'_>,
) -> Result<Vec<u8>, Error> {
    let Rows { values, importance, .. } = rows;
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
    codec.quantize_unchecked(ty, rows, &mut out)?;
    restorable(codec, ty, rows, &out)?;
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
fn restorable(
    codec: &impl Codec,
    ty: GgmlType,
    rows: Rows<'_>,
    blocks: &[u8],
) -> Result<(), Error> {
    if ty == GgmlType::F32 || !can_dequantize(ty) {
        return Ok(());
    }
    let row_bytes = blocks.len() / (rows.values.len() / rows.row_len).max(1);
    let mut restored = vec![0.0; rows.row_len];
    let stored = blocks.chunks_exact(row_bytes.max(1));
    for (row, (values, stored)) in rows.values.chunks_exact(rows.row_len).zip(stored).enumerate() {
        codec.dequantize_into(ty, stored, &mut restored)?;
        let largest = largest(values);
        if holds(&restored, values, largest, rows.importance) {
            continue;
        }
        // The values are to blame, unless they fit without importance. A row as a whole: some
        // formats weigh the blocks of a row by its mean.
        let mut alone = vec![0; row_bytes];
        codec.quantize_unchecked(ty, Rows { values, importance: None, ..rows }, &mut alone)?;
        codec.dequantize_into(ty, &alone, &mut restored)?;
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
