//! A quantized tensor: its type, its shape and its bytes.

use alloc::{borrow::Cow, vec, vec::Vec};

use crate::{Codec, Error, GgmlType, checked, formats::Rows, lanes::Scalar};

/// A tensor in the bytes of a ggml type, owned or borrowed from a file.
///
/// ```
/// use quant_core::{GgmlType, QTensor};
///
/// let weights: Vec<f32> = (0..512).map(|i| (i as f32).sin()).collect();
/// let tensor = QTensor::quantize(GgmlType::Q4_K, &[2, 256], &weights)?;
/// assert_eq!(tensor.bytes().len(), 2 * 144);
/// assert_eq!(tensor.dequantize()?.len(), 512);
/// # Ok::<(), quant_core::Error>(())
/// ```
///
/// The shape is row-major, outermost dimension first, as Hugging Face and most engines write it; GGUF
/// files write the reverse. The innermost dimension is a row, a whole number of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it holds what was made"]
pub struct QTensor<'a> {
    ty: GgmlType,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> QTensor<'a> {
    /// Makes a tensor from the bytes of its blocks.
    ///
    /// # Errors
    /// [`Error::RowLength`] if a row is not a whole number of blocks, [`Error::Length`] if there are not
    /// as many bytes as the shape needs, [`Error::TooLarge`] if it needs more than memory can address.
    pub fn new(
        ty: GgmlType,
        shape: &[usize],
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> Result<Self, Error> {
        let bytes = bytes.into();
        let expected = tensor_bytes(ty, shape)?;
        if bytes.len() != expected {
            return Err(Error::Length { what: "the byte buffer", found: bytes.len(), expected });
        }
        Ok(Self { ty, shape: shape.to_vec(), bytes })
    }

    /// The type.
    pub fn ty(&self) -> GgmlType {
        self.ty
    }

    /// Dimensions, outermost first; none for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes of its blocks, row by row.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        // As many as `new` has counted.
        self.bytes.len() / self.ty.block_bytes() * self.ty.block_len()
    }

    /// Elements in a row: the innermost dimension.
    pub fn row_len(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The rows, each as a tensor of one dimension that borrows from this one.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = QTensor<'_>> {
        let row_bytes = self.row_len() / self.ty.block_len() * self.ty.block_bytes();
        self.bytes.chunks_exact(row_bytes.max(1)).map(|bytes| QTensor {
            ty: self.ty,
            shape: vec![self.row_len()],
            bytes: Cow::Borrowed(bytes),
        })
    }

    /// The same tensor, with bytes of its own.
    pub fn into_owned(self) -> QTensor<'static> {
        QTensor { ty: self.ty, shape: self.shape, bytes: Cow::Owned(self.bytes.into_owned()) }
    }

    /// The bytes, without a copy if they are owned.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_owned()
    }

    /// Its values, row-major.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a type for which [`can_dequantize`](crate::can_dequantize) is false.
    pub fn dequantize(&self) -> Result<Vec<f32>, Error> {
        self.dequantize_by(&Scalar)
    }

    /// [`dequantize`](Self::dequantize) with a codec of the caller's.
    ///
    /// # Errors
    /// As [`dequantize`](Self::dequantize).
    pub fn dequantize_by(&self, codec: &impl Codec) -> Result<Vec<f32>, Error> {
        let mut out = vec![0.0; self.elements()];
        codec.dequantize_into(self.ty, &self.bytes, &mut out)?;
        Ok(out)
    }

    /// Writes its values, row-major, to a buffer of as many elements.
    ///
    /// # Errors
    /// As [`dequantize`](Self::dequantize), and [`Error::Length`] if the buffer has another length.
    pub fn dequantize_into(&self, out: &mut [f32]) -> Result<(), Error> {
        let (found, expected) = (out.len(), self.elements());
        if found != expected {
            return Err(Error::Length { what: "the output", found, expected });
        }
        Scalar.dequantize_into(self.ty, &self.bytes, out)
    }
}

impl QTensor<'static> {
    /// Quantizes values, row-major.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not as many values as the shape has, and as
    /// [`quantize`](crate::quantize).
    pub fn quantize(ty: GgmlType, shape: &[usize], values: &[f32]) -> Result<Self, Error> {
        Self::quantize_by(&Scalar, ty, shape, values, None)
    }

    /// Quantizes values with an importance weight for each column: how much an error there matters.
    ///
    /// # Errors
    /// As [`quantize`](Self::quantize), and [`Error::Length`] if there is not one weight per column.
    pub fn quantize_weighted(
        ty: GgmlType,
        shape: &[usize],
        values: &[f32],
        importance: &[f32],
    ) -> Result<Self, Error> {
        Self::quantize_by(&Scalar, ty, shape, values, Some(importance))
    }

    /// [`quantize`](Self::quantize) or [`quantize_weighted`](Self::quantize_weighted) with a codec of the
    /// caller's.
    ///
    /// # Errors
    /// As [`quantize_weighted`](Self::quantize_weighted).
    pub fn quantize_by(
        codec: &impl Codec,
        ty: GgmlType,
        shape: &[usize],
        values: &[f32],
        importance: Option<&[f32]>,
    ) -> Result<Self, Error> {
        let row_len = check_values(ty, shape, values)?;
        let bytes = match values {
            [] => Vec::new(),
            _ => checked::quantize_by(codec, ty, Rows { values, row_len, importance })?,
        };
        Self::new(ty, shape, bytes)
    }
}

/// Whether there are as many values as the shape has; returns the length of a row.
fn check_values(ty: GgmlType, shape: &[usize], values: &[f32]) -> Result<usize, Error> {
    tensor_bytes(ty, shape)?;
    let expected = shape.iter().product();
    if values.len() != expected {
        return Err(Error::Length { what: "the tensor", found: values.len(), expected });
    }
    Ok(shape.last().copied().unwrap_or(1))
}

/// Bytes of a tensor of this shape, outermost dimension first.
fn tensor_bytes(ty: GgmlType, shape: &[usize]) -> Result<usize, Error> {
    let reversed: Vec<u64> = shape.iter().rev().map(|&d| d as u64).collect();
    // A dimension of zero must not hide that the others are too large to be multiplied.
    shape
        .iter()
        .filter(|d| **d != 0)
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .ok_or(Error::TooLarge)?;
    usize::try_from(ty.tensor_bytes(&reversed)?).map_err(|_| Error::TooLarge)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot make its tensors has failed")]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_tensor() {
        let values: Vec<f32> = (0..6 * 64).map(|i| (i as f32 * 0.1).sin()).collect();
        let tensor = QTensor::quantize(GgmlType::Q8_0, &[2, 3, 64], &values).unwrap();
        assert_eq!((tensor.elements(), tensor.row_len(), tensor.rows().len()), (384, 64, 6));
        let all = tensor.dequantize().unwrap();
        for (row, expected) in tensor.rows().zip(all.chunks(64)) {
            assert_eq!(row.shape(), [64]);
            assert_eq!(row.dequantize().unwrap(), expected);
        }
        assert_eq!(QTensor::new(GgmlType::Q8_0, &[6, 64], tensor.bytes()).unwrap().rows().len(), 6);
        assert_eq!(tensor.clone().into_owned().into_bytes(), tensor.bytes());
    }

    #[test]
    fn shapes_and_lengths_have_to_fit() {
        let bytes = [0u8; 68];
        assert!(QTensor::new(GgmlType::Q8_0, &[2, 32], &bytes[..]).is_ok());
        for shape in [&[2, 33][..], &[3, 32], &[32], &[usize::MAX, 32], &[0, usize::MAX, 64]] {
            assert!(QTensor::new(GgmlType::Q8_0, shape, &bytes[..]).is_err(), "{shape:?}");
        }
        let none = QTensor::quantize(GgmlType::Q4_K, &[0, 256], &[]).unwrap();
        assert_eq!((none.elements(), none.rows().len()), (0, 0));
        assert!(none.dequantize().unwrap().is_empty());
        let scalar = QTensor::quantize(GgmlType::F32, &[], &[1.5]).unwrap();
        assert_eq!((scalar.elements(), scalar.dequantize().unwrap()), (1, vec![1.5]));
        let values = [0.5; 64];
        assert!(matches!(
            QTensor::quantize(GgmlType::Q4_0, &[3, 32], &values),
            Err(Error::Length { found: 64, expected: 96, .. })
        ));
        let weighted = |w: &[f32]| QTensor::quantize_weighted(GgmlType::Q4_0, &[2, 32], &values, w);
        assert!(weighted(&[1.0; 32]).is_ok());
        assert!(matches!(weighted(&[1.0; 31]), Err(Error::Length { found: 31, .. })));
        assert!(matches!(weighted(&[-1.0; 32]), Err(Error::Negative { index: 0, .. })));
        let mut out = [0.0; 63];
        let tensor = weighted(&[1.0; 32]).unwrap();
        assert!(matches!(tensor.dequantize_into(&mut out), Err(Error::Length { found: 63, .. })));
    }
}
