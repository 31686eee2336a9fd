//! What a conversion reads, whatever it came from: metadata and a list of tensors, none of whose
//! data has been loaded yet.

use gguf_io::{SourceFile, metadata::Metadata};
use quant_core::GgmlType;

/// A model as its output file will describe it, with the way to its weights.
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
}

/// What a model was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A Hugging Face checkpoint: tensors that no recipe applies to become F32.
    Checkpoint,
    /// A GGUF file: tensors that no recipe applies to keep their type.
    Gguf,
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
    /// Read from files: the pieces, one after the other, are the tensor's rows.
    Stored {
        /// Byte ranges, outermost first; each holds a whole number of rows.
        pieces: Vec<Piece>,
        /// The order in which rows are taken.
        rows: RowOrder,
    },
    /// Computed from the configuration, row-major.
    Computed(Vec<f32>),
}

/// A byte range of a file that holds values of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Index into [`Model::files`].
    pub file: usize,
    /// Absolute byte offset of the first value.
    pub offset: u64,
    /// Bytes of the range.
    pub bytes: u64,
    /// How the values are stored.
    pub ty: GgmlType,
}

/// The order in which a tensor's rows are taken from its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// As stored.
    Stored,
    /// Hugging Face keeps the two halves of a rotary pair half a head apart, GGUF side by side: in
    /// each head of `head_rows` rows, row `2 * i + j` is taken from stored row
    /// `j * head_rows / 2 + i`.
    Rotary {
        /// Rows in a head; even.
        head_rows: u64,
    },
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

    /// The type the values are stored in at the source.
    pub fn source_type(&self) -> GgmlType {
        match &self.data {
            TensorData::Stored { pieces, .. } => pieces.first().map_or(GgmlType::F32, |p| p.ty),
            TensorData::Computed(_) => GgmlType::F32,
        }
    }
}
