//! What is known of a tensor in a GGUF file.

use quant_core::GgmlType;

/// A tensor of a GGUF file.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TensorInfo {
    /// Name, e.g. `blk.0.attn_q.weight`.
    pub name: String,
    /// How the values are stored.
    pub ty: GgmlType,
    /// Dimensions in GGUF order, innermost first. Never empty: a scalar has `[1]`.
    pub shape: Vec<u64>,
    /// Index into [`GgufFile::files`](super::GgufFile::files).
    pub file: usize,
    /// Absolute offset of the data in its file. The file may be shorter: see
    /// [`GgufFile::check_data`](super::GgufFile::check_data).
    pub offset: u64,
    /// Bytes of the data.
    pub bytes: u64,
}

/// A tensor of any type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AnyTensor {
    /// Name, e.g. `blk.0.attn_q.weight`.
    pub name: String,
    /// The number of its type in the file.
    pub type_id: u32,
    /// Dimensions in GGUF order, innermost first. Never empty: a scalar has `[1]`.
    pub shape: Vec<u64>,
    /// Index into [`GgufFile::files`](super::GgufFile::files).
    pub file: usize,
    /// Absolute offset of the data in its file.
    pub offset: u64,
    /// Bytes of the data. Where the type is unknown, all up to the next tensor or the end of the
    /// file, padding included.
    pub bytes: u64,
}

impl AnyTensor {
    /// The type, if it is known.
    pub fn ty(&self) -> Option<GgmlType> {
        GgmlType::from_id(self.type_id)
    }

    /// The name of the type, or its number.
    pub fn type_name(&self) -> String {
        self.ty().map_or_else(|| format!("type {}", self.type_id), |ty| ty.to_string())
    }
}
