//! What a conversion reads, whatever it came from: metadata and a list of tensors, none of whose
//! data has been loaded yet.

use gguf_io::{SourceFile, metadata::Metadata};
use quant_weights::Source;

pub use quant_weights::{Code, ElementMap, Encoding, Piece, Scales, Tensor, TensorData, View};

use crate::Error;

/// The version of GGUF's block formats.
pub(crate) const QUANTIZATION_VERSION: u32 = 2;

/// A model as the output file will describe it, and where its weights are.
#[derive(Debug)]
pub struct Model {
    /// Key-value pairs in the order they are written.
    pub metadata: Metadata,
    /// Tensors under their GGUF names, in the order the reference converter writes them.
    pub tensors: Vec<Tensor>,
    /// The files that hold the weights.
    pub files: Vec<SourceFile>,
    /// What the model was read from.
    pub origin: Origin,
    /// Names of the checkpoint's tensors that have no place in the output.
    pub left_out: Vec<String>,
}

/// What a model was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A Hugging Face checkpoint: tensors that no recipe applies to become F32.
    Checkpoint,
    /// A GGUF file: tensors that no recipe applies to keep their type.
    Gguf,
}

/// The checkpoint as the GGUF file that it would become if no recipe applied to it.
impl Source for Model {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    fn files(&self) -> &[SourceFile] {
        &self.files
    }
}

impl Origin {
    /// Whether the model was read from a Hugging Face checkpoint.
    pub fn is_checkpoint(self) -> bool {
        self == Self::Checkpoint
    }
}

impl From<quant_weights::Error> for Error {
    fn from(error: quant_weights::Error) -> Self {
        use quant_weights::Error as E;
        match error {
            E::Files(error) => Self::Files(error),
            E::Core(error) => Self::Core(error),
            E::NonFinite { tensor, index, value, count } => {
                Self::NonFinite { tensor, index, value, count }
            }
            other => Self::Read(other),
        }
    }
}
