//! A quantized tensor: its type, its shape and its bytes.

use std::borrow::Cow;

use crate::{Error, GgmlType, convert, dequantize};

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
        let mut out = vec![0.0; self.elements()];
        self.dequantize_into(&mut out)?;
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
        dequantize(self.ty, &self.bytes, out)
    }
}

impl QTensor<'static> {
    /// Quantizes values, row-major.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not as many values as the shape has, and as
    /// [`quantize`](crate::quantize).
    pub fn quantize(ty: GgmlType, shape: &[usize], values: &[f32]) -> Result<Self, Error> {
        Self::quantize_rows(ty, shape, values, None)
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
        Self::quantize_rows(ty, shape, values, Some(importance))
    }

    fn quantize_rows(
        ty: GgmlType,
        shape: &[usize],
        values: &[f32],
        importance: Option<&[f32]>,
    ) -> Result<Self, Error> {
        let row_len = check_values(ty, shape, values)?;
        let bytes = match values {
            [] => Vec::new(),
            _ => convert::quantize(ty, values, row_len, importance)?,
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
