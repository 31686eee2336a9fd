//! A tensor: its name and shape, and where its values come from.

use std::ops::Range;

use gguf_io::SourceFile;
use quant_core::GgmlType;

use crate::{ElementMap, Encoding, View};

/// A tensor of a model, none of whose data has been loaded.
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
        /// Outermost first.
        pieces: Vec<Piece>,
        /// What is done to each value.
        map: ElementMap,
    },
    /// Computed from the configuration, row-major.
    Computed(Vec<f32>),
}

/// Stored values and the order in which they are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Index into the files of the [source](crate::Source).
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
        self.encoding.stored_bytes(self.view.count())
    }

    /// The number of values.
    pub(crate) fn values(&self) -> u64 {
        self.view.count().saturating_mul(self.encoding.unit_len())
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

    /// The type the values come in from the source: what blocks are read in. F32 for values that
    /// are computed or restored, and where pieces come in several types.
    pub fn source_type(&self) -> GgmlType {
        let TensorData::Stored { pieces, .. } = &self.data else { return GgmlType::F32 };
        let mut types = pieces.iter().map(|piece| piece.encoding.ty());
        let first = types.next().unwrap_or(GgmlType::F32);
        if types.all(|ty| ty == first) { first } else { GgmlType::F32 }
    }

    /// What the values are stored as, for people: the name of ggml's type, or of another that they
    /// are restored from. Of several pieces, that of the first.
    pub fn stored_type(&self) -> &str {
        match &self.data {
            TensorData::Stored { pieces, .. } => {
                pieces.first().map_or(GgmlType::F32.name(), |piece| piece.encoding.name())
            }
            TensorData::Computed(_) => GgmlType::F32.name(),
        }
    }

    /// Bytes at the source; those in memory where values are computed.
    pub fn source_bytes(&self) -> u64 {
        match &self.data {
            TensorData::Stored { pieces, .. } => {
                pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.bytes()))
            }
            TensorData::Computed(values) => 4 * values.len() as u64,
        }
    }

    /// Says to the files that the tensor will be read, after what was said before: see
    /// [`SourceFile::will_read`].
    pub fn will_be_read(&self, files: &[SourceFile]) {
        let TensorData::Stored { pieces, .. } = &self.data else { return };
        for piece in pieces {
            let place = (piece.file, piece.offset);
            for (file, range) in piece.encoding.extents(place, &piece.view.span()) {
                if let Some(file) = files.get(file) {
                    file.will_read(range);
                }
            }
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

    /// Whether any of the values are in a packed layer.
    pub(crate) fn is_packed(&self) -> bool {
        let is_packed = |piece: &Piece| matches!(piece.encoding, Encoding::Packed(_));
        let stored = match &self.data {
            TensorData::Stored { pieces, .. } => &pieces[..],
            TensorData::Computed(_) => &[],
        };
        stored.iter().any(is_packed)
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

/// The pieces that a range is in, with the values of each that it takes.
pub(crate) fn parts(
    pieces: &[Piece],
    range: Range<u64>,
) -> impl Iterator<Item = (&Piece, Range<u64>)> {
    let mut before = 0u64;
    pieces.iter().filter_map(move |piece| {
        let first = before;
        before = before.saturating_add(piece.values());
        let (start, end) = (range.start.max(first), range.end.min(before));
        (start < end).then(|| (piece, start - first..end - first))
    })
}
