//! Tensors by name, with the file that their bytes are in.

use std::{borrow::Cow, ops::Deref, path::Path};

use quant_core::{GgmlType, QTensor};

use crate::{AnyTensor, Error, Place, Result, SourceFile, TensorInfo};

/// A tensor of a model that is open: what is known of it, and the way to its bytes.
///
/// Nothing is read before it is asked for. Where the file is in memory, because the caller mapped it
/// ([`SourceFile::from_bytes`]), bytes are borrowed from there and not copied.
///
/// It dereferences to its [`TensorInfo`], [`AnyTensor`] or, of a checkpoint, `CheckpointTensor`.
#[derive(Clone, Copy, Debug)]
pub struct StoredTensor<'a, I = TensorInfo> {
    name: &'a str,
    info: &'a I,
    file: &'a SourceFile,
    offset: u64,
    bytes: u64,
}

impl<'a, I> StoredTensor<'a, I> {
    pub(crate) fn new(
        name: &'a str,
        info: &'a I,
        file: &'a SourceFile,
        offset: u64,
        bytes: u64,
    ) -> Self {
        Self { name, info, file, offset, bytes }
    }

    /// The name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// What is known of it.
    pub fn info(&self) -> &'a I {
        self.info
    }

    /// The file that holds it.
    pub fn file(&self) -> &'a SourceFile {
        self.file
    }

    /// Its bytes without a copy, if the file is in memory and has all of them.
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        self.file.slice(self.offset, self.bytes)
    }

    /// Its bytes: borrowed from a file that is in memory, else read.
    ///
    /// # Errors
    /// [`Error::Truncated`] if the file ends before they do; nothing is allocated then.
    /// [`Error::Read`] if reading fails, [`Error::Unsupported`] if they are more than this platform
    /// can address.
    pub fn read_bytes(&self) -> Result<Cow<'a, [u8]>> {
        if let Some(bytes) = self.as_slice() {
            return Ok(Cow::Borrowed(bytes));
        }
        let left = self.file.len().saturating_sub(self.offset);
        if self.bytes > left {
            return Err(Error::Truncated {
                path: self.file.path().into(),
                place: self.place(),
                needed: self.bytes,
                left,
            });
        }
        let mut bytes = vec![0; usize::try_from(self.bytes).map_err(|_| self.too_large())?];
        self.file.read_exact_at(&mut bytes, self.offset)?;
        Ok(Cow::Owned(bytes))
    }

    /// Reads its bytes into a buffer of exactly as many.
    ///
    /// # Errors
    /// [`Error::BufferLength`] if it has another length, [`Error::Read`] if reading fails.
    pub fn read_into(&self, buffer: &mut [u8]) -> Result<()> {
        if buffer.len() as u64 != self.bytes {
            return Err(Error::BufferLength {
                tensor: self.name.to_owned(),
                found: buffer.len() as u64,
                expected: self.bytes,
            });
        }
        self.file.read_exact_at(buffer, self.offset)
    }

    fn place(&self) -> Place {
        Place::Tensor(self.name.to_owned(), self.offset)
    }

    pub(crate) fn unsupported(&self, found: String, supported: &str, help: &'static str) -> Error {
        Error::Unsupported {
            path: self.file.path().into(),
            place: self.place(),
            found: found.into(),
            supported: supported.into(),
            help,
        }
    }

    fn too_large(&self) -> Error {
        let found = format!("a tensor of {} bytes", self.bytes);
        self.unsupported(found, "what this platform can address", "use a 64-bit platform")
    }

    /// The bytes as a tensor of a type that fits them.
    pub(crate) fn tensor(&self, ty: GgmlType, shape: &[usize]) -> Result<QTensor<'a>> {
        // The reader has checked that the bytes are those of the shape.
        QTensor::new(ty, shape, self.read_bytes()?).map_err(|_| self.too_large())
    }
}

impl<'a> StoredTensor<'a, TensorInfo> {
    /// The tensor with its type, shape and bytes; [`QTensor::dequantize`] gives its values.
    ///
    /// # Errors
    /// As [`read_bytes`](Self::read_bytes).
    pub fn read(&self) -> Result<QTensor<'a>> {
        self.tensor(self.info.ty, &self.info.dims())
    }
}

impl<I> Deref for StoredTensor<'_, I> {
    type Target = I;

    fn deref(&self) -> &I {
        self.info
    }
}

/// Dimensions for memory, from a list with the outermost first. One that memory cannot address is
/// that of a tensor that cannot be read either.
pub(crate) fn in_memory<'d>(dims: impl Iterator<Item = &'d u64>) -> Vec<usize> {
    dims.map(|dim| usize::try_from(*dim).unwrap_or(usize::MAX)).collect()
}

pub(crate) fn product(shape: &[u64]) -> u64 {
    // Readers have checked that it is less than 2^64.
    shape.iter().fold(1, |n, dim| n.saturating_mul(*dim))
}

/// What can be said of a shape; `rev` where it is stored innermost first.
macro_rules! shaped {
    ($($info:ident, $($order:ident)?;)*) => { $(
        impl $info {
            /// The number of elements.
            pub fn elements(&self) -> u64 {
                $crate::stored::product(&self.shape)
            }

            /// Dimensions as arrays in memory have them: row-major, outermost first.
            pub fn dims(&self) -> Vec<usize> {
                $crate::stored::in_memory(self.shape.iter()$(.$order())?)
            }
        }
    )* };
}
shaped! {
    TensorInfo, rev;
    AnyTensor, rev;
}
pub(crate) use shaped;

/// The error for a name that a model does not have, with the one most like it.
pub(crate) fn no_tensor<'n>(
    path: &Path,
    name: &str,
    names: impl Iterator<Item = &'n str>,
) -> Error {
    // Names are forgotten from the end: `blk.0.attn_q` for `blk.0.attn_q.weight`.
    const ALIKE: usize = 4;
    let common = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let nearest = names
        .map(|other| (common(other), other))
        .filter(|(common, _)| *common >= ALIKE)
        .max_by_key(|(common, other)| (*common, std::cmp::Reverse(other.len())));
    Error::NoTensor {
        path: path.into(),
        name: name.to_owned(),
        nearest: nearest.map(|(_, other)| other.to_owned()),
    }
}
