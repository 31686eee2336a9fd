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
///
/// What comes of it is rounded as the stored type rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ElementMap {
    /// Nothing.
    #[default]
    Same,
    /// This is added.
    Plus(f32),
    /// It is multiplied by the first, then by the second.
    Times(f32, f32),
    /// It becomes the negative of its exponential.
    NegativeExp,
}

impl ElementMap {
    /// The new value; `round` rounds to what the stored type can hold.
    pub(crate) fn apply(self, value: f32, round: impl Fn(f32) -> f32) -> f32 {
        match self {
            Self::Same => value,
            Self::Plus(more) => round(value + more),
            Self::Times(first, second) => round(round(value * first) * second),
            Self::NegativeExp => round(-exp(value)),
        }
    }
}

/// The exponential, rounded from double precision: the same on every machine, which the function of
/// a system's library need not be.
fn exp(value: f32) -> f32 {
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let value = f64::from(value);
    if !(-110.0..=89.0).contains(&value) {
        // Beyond what single precision holds, or not a number.
        return match value {
            _ if value.is_nan() => f32::NAN,
            _ if value > 0.0 => f32::INFINITY,
            _ => 0.0,
        };
    }
    let power = (value * std::f64::consts::LOG2_E).round();
    let rest = (value - power * LN_2_HIGH) - power * LN_2_LOW;
    // Taylor's series; the rest is at most ln 2 / 2, so that the last term is below 1e-17.
    let series = (1..=16).rev().fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    // The power is within -160 and 130, far inside the exponents of double precision.
    let scale = f64::from_bits(((power as i64 + 1023) as u64) << 52);
    (series * scale) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_rounded_from_double_precision() {
        let mut worst = 0;
        for i in -20_000..20_000i16 {
            let value = f32::from(i) / 256.0;
            let ours = exp(value);
            worst = worst.max(ours.to_bits().abs_diff((f64::from(value).exp() as f32).to_bits()));
        }
        assert_eq!(worst, 0);
        assert_eq!(
            [f32::NEG_INFINITY, -200.0, 0.0].map(exp).map(f32::to_bits)[1..],
            [0, 0x3f80_0000]
        );
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }
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
