//! What a conversion reads, whatever it came from: metadata and a list of tensors, none of whose
//! data has been loaded yet.

use std::collections::HashMap;

use gguf_io::{SourceFile, metadata::Metadata};
use quant_core::GgmlType;

pub use crate::{
    encoding::{Code, Encoding, Scales},
    view::View,
};

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
    /// What packed layers are stored as, such as `GPTQ_INT4`, by the file and offset at which their
    /// restored values are read.
    pub packed_types: HashMap<(usize, u64), String>,
}

/// What a model was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A Hugging Face checkpoint: tensors that no recipe applies to become F32.
    Checkpoint,
    /// A GGUF file: tensors that no recipe applies to keep their type.
    Gguf,
}

impl Model {
    /// What a tensor's values are stored as, for people: the name of ggml's type, or of another
    /// that they are restored from.
    pub fn stored_type(&self, tensor: &Tensor) -> &str {
        let TensorData::Stored { pieces, .. } = &tensor.data else { return GgmlType::F32.name() };
        let Some(piece) = pieces.first() else { return GgmlType::F32.name() };
        match self.packed_types.get(&(piece.file, piece.offset)) {
            Some(name) => name,
            None => piece.encoding.name(),
        }
    }
}

impl Origin {
    /// Whether the model was read from a Hugging Face checkpoint.
    pub fn is_checkpoint(self) -> bool {
        self == Self::Checkpoint
    }
}

/// One tensor of the output.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// GGUF name, e.g. `blk.0.attn_q.weight`.
    pub name: String,
    /// Dimensions in GGUF order, innermost first.
    pub shape: Vec<u64>,
    /// Where its values come from.
    pub data: TensorData,
}

/// Where a tensor's values come from.
#[derive(Clone, Debug)]
pub enum TensorData {
    /// Read from files: the pieces, one after the other, are the tensor.
    Stored {
        /// Outermost first, all handed on in the same type.
        pieces: Vec<Piece>,
        /// What is done to each value.
        map: ElementMap,
    },
    /// Computed from the configuration, row-major.
    Computed(Vec<f32>),
}

/// What is done to each value on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ElementMap {
    /// Nothing.
    #[default]
    Same,
    /// One is added, rounded as the stored type rounds.
    PlusOne,
}

/// Stored values and the order in which they are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Index into [`Model::files`].
    pub file: usize,
    /// Absolute byte offset of the first stored value.
    pub offset: u64,
    /// How the values are stored.
    pub encoding: Encoding,
    /// Which of them are taken, counted in values, or in blocks of them where the encoding has
    /// blocks.
    pub view: View,
}

impl Piece {
    /// Bytes in the source.
    pub fn bytes(&self) -> u64 {
        self.view.count().saturating_mul(self.encoding.stored_bytes())
    }
}

impl Tensor {
    /// The number of values.
    ///
    /// Shapes are checked when a model is opened, so the product is known not to wrap.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Values in a row: the innermost dimension.
    pub fn row_len(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The type the values come in from the source.
    pub fn source_type(&self) -> GgmlType {
        match &self.data {
            TensorData::Stored { pieces, .. } => {
                pieces.first().map_or(GgmlType::F32, |piece| piece.encoding.ty())
            }
            TensorData::Computed(_) => GgmlType::F32,
        }
    }

    /// Bytes it takes at its source.
    pub fn source_bytes(&self) -> u64 {
        match &self.data {
            TensorData::Stored { pieces, .. } => pieces.iter().map(Piece::bytes).sum(),
            TensorData::Computed(values) => 4 * values.len() as u64,
        }
    }

    /// The file in which it begins, by its index, and the offset there; `None` if it is computed.
    pub fn place(&self) -> Option<(usize, u64)> {
        match &self.data {
            TensorData::Stored { pieces, .. } => pieces.first().map(|p| (p.file, p.offset)),
            TensorData::Computed(_) => None,
        }
    }

    /// The shape without outer dimensions of 1, which ggml counts and writes no tensor with.
    pub fn written_shape(&self) -> &[u64] {
        let last = self.shape.iter().rposition(|n| *n != 1).unwrap_or(0);
        self.shape.get(..=last).unwrap_or(&self.shape)
    }

    /// Whether the values are taken in another order than they are stored in.
    pub fn is_reordered(&self) -> bool {
        match &self.data {
            TensorData::Stored { pieces, .. } => {
                pieces.iter().any(|piece| !piece.view.is_contiguous())
            }
            TensorData::Computed(_) => false,
        }
    }
}
