use std::path::{Path, PathBuf};

use gguf_io::message::{Quoted, Shown};
use quant_kernels::MatrixError;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model cannot be opened, or a text not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read, or is no GGUF file.
    #[error(transparent)]
    File(#[from] gguf_io::Error),
    /// Weights cannot be read.
    #[error(transparent)]
    Weights(#[from] quant_weights::Error),
    /// Its keys and tensors do not make a model.
    #[error("{}: {message}", Shown(.file))]
    Model {
        /// The file.
        file: PathBuf,
        /// What is wrong, and how much more.
        message: String,
    },
    /// It is not written down how such models are run.
    #[error(
        "{}: models of the architecture {} cannot be run here; those of {known} can",
        Shown(.file),
        Quoted(.architecture)
    )]
    NoGraph {
        /// The file.
        file: PathBuf,
        /// `general.architecture`.
        architecture: String,
        /// The architectures that can be run.
        known: String,
    },
    /// A tensor that the graph does not use, or whose type cannot be used.
    #[error("{}: tensor {} {message}", Shown(.file), Quoted(.tensor))]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        message: String,
    },
    /// A product failed: activations are not finite, or the caller's threads did not run all of it.
    #[error("the product with tensor {}: {source}", Quoted(.tensor))]
    Product {
        /// The weights.
        tensor: String,
        /// Why.
        source: MatrixError,
    },
    /// A token that the vocabulary does not have.
    #[error("token {index} of the text is {id}, the model's vocabulary has {vocabulary} tokens")]
    Token {
        /// Its place among the tokens passed.
        index: usize,
        /// The id.
        id: u32,
        /// The number of tokens in the vocabulary.
        vocabulary: usize,
    },
    /// The layers of the model are not in memory.
    #[error("the layers of the model are read one at a time: run it over the windows of a text")]
    LayerByLayer,
    /// Someone asked to stop.
    #[error("interrupted")]
    Stopped,
    /// There are no tokens.
    #[error("the text is empty: there is no token to run")]
    Empty,
    /// More tokens than the session has room for, or than the model has positions for.
    #[error("{needed} tokens do not fit the {what} of {context}")]
    Context {
        /// Tokens, those before included.
        needed: usize,
        /// Which limit it is.
        what: &'static str,
        /// The limit.
        context: usize,
    },
    /// It takes more memory than there is or is allowed.
    #[error(
        "{what} takes {} MiB, {} MiB are left; {hint}",
        .needed.div_ceil(1 << 20),
        .available >> 20
    )]
    Memory {
        /// What the memory is for.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes that are left of the limit, or 0 if the system refused.
        available: u64,
        /// What to do.
        hint: &'static str,
    },
}

impl Error {
    /// The file that it is about, if there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(error) => error.file(),
            Self::Weights(error) => error.file(),
            Self::Model { file, .. } | Self::NoGraph { file, .. } | Self::Tensor { file, .. } => {
                Some(file)
            }
            _ => None,
        }
    }

    /// The tensor that it is about, if there is one.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::File(error) => error.tensor(),
            Self::Weights(error) => error.tensor(),
            Self::Tensor { tensor, .. } | Self::Product { tensor, .. } => Some(tensor),
            _ => None,
        }
    }

    /// The key of the metadata that it is about, if there is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::File(error) => error.key(),
            Self::Weights(error) => error.key(),
            Self::NoGraph { .. } => Some("general.architecture"),
            _ => None,
        }
    }

    /// The offset in the file, in bytes, if it is known.
    pub fn byte(&self) -> Option<u64> {
        match self {
            Self::File(error) => error.byte(),
            Self::Weights(error) => error.byte(),
            _ => None,
        }
    }

    /// What to do about it: the last part of the message.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::File(error) => error.hint(),
            Self::Weights(error) => error.hint(),
            Self::Memory { hint, .. } => Some(hint),
            _ => None,
        }
    }
}
