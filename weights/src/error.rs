//! What can go wrong, in one line each.

use std::path::{Path, PathBuf};

use gguf_io::message::{Quoted, Shown};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model file could not be read.
    #[error(transparent)]
    Files(#[from] gguf_io::Error),
    /// Values could not be restored from their blocks, or are more than the address space holds.
    #[error(transparent)]
    Core(#[from] quant_core::Error),
    /// A tensor holds values that are not finite.
    #[error(
        "tensor {} holds {count} values that are not finite, the first ({value}) at index {index}",
        Quoted(tensor)
    )]
    NonFinite {
        /// The tensor.
        tensor: String,
        /// Index of the first, in the tensor's order.
        index: u64,
        /// The first.
        value: f32,
        /// How many there are.
        count: u64,
    },
    /// Weights are stored in a way that is not read.
    #[error("{}: key {}: found {found}, expected {expected}; {help}", Shown(path), Quoted(key))]
    Quantization {
        /// The file that says so.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is there.
        found: String,
        /// What is read.
        expected: String,
        /// What to do.
        help: &'static str,
    },
    /// The tensors of a packed layer do not fit each other.
    #[error(
        "{}: tensor {}: found {found}, expected {expected}; {help}",
        Shown(path),
        Quoted(tensor)
    )]
    Packed {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
        /// What to do.
        help: &'static str,
    },
    /// Values were asked for that a tensor does not have, or that are not whole blocks of its type.
    #[error(
        "tensor {} has {elements} values of type {ty}, but values {start} to {end} are asked for",
        Quoted(tensor)
    )]
    Range {
        /// The tensor.
        tensor: String,
        /// Values it has.
        elements: u64,
        /// The type they come in.
        ty: quant_core::GgmlType,
        /// The first that is asked for.
        start: u64,
        /// One past the last.
        end: u64,
    },
}

impl Error {
    /// The file that it is about, if there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Files(error) => error.file(),
            Self::Quantization { path, .. } | Self::Packed { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The tensor that it is about, if there is one.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::Files(error) => error.tensor(),
            Self::NonFinite { tensor, .. }
            | Self::Packed { tensor, .. }
            | Self::Range { tensor, .. } => Some(tensor),
            _ => None,
        }
    }

    /// The key of a JSON file that it is about, if there is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Files(error) => error.key(),
            Self::Quantization { key, .. } => Some(key),
            _ => None,
        }
    }

    /// The offset in the file, in bytes, if it is known.
    pub fn byte(&self) -> Option<u64> {
        match self {
            Self::Files(error) => error.byte(),
            _ => None,
        }
    }

    /// What to do about it: the last part of the message.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Files(error) => error.hint(),
            Self::Core(error) => error.hint(),
            Self::Quantization { help, .. } | Self::Packed { help, .. } => Some(help),
            _ => None,
        }
    }
}
