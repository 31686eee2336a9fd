//! Layers whose codes are packed in words: GPTQ, AWQ, AutoRound, compressed-tensors, MLX.
//!
//! A packed layer is some tensors of a checkpoint that stand for the weight of a module. Its rows are
//! restored from where they are stored, as many at a time as are asked for. Values are exact:
//! `(code − zero point) · scale`, in MLX `code · scale + bias`.
//!
//! | format | layout | file |
//! |---|---|---|
//! | GPTQ v1 and v2, 2, 3, 4, 8 bits, act-order; AutoRound | codes along the columns | `transposed.rs` |
//! | AWQ GEMM, 4 bits; AutoRound | codes along the rows of the transpose, interleaved | `transposed.rs` |
//! | compressed-tensors pack-quantized, 2 to 8 bits | codes along the rows | `by_rows.rs` |
//! | MLX affine, 2, 3, 4, 5, 6, 8 bits | codes along the rows, without gaps | `mlx.rs` |

pub(crate) mod by_rows;
pub(crate) mod mlx;
mod parts;
mod restore;
pub(crate) mod transposed;

use std::ops::Range;

use gguf_io::SourceFile;

use crate::Result;

pub(crate) use parts::{Groups, Part, Parts};
pub(crate) use restore::{Buffers, Window};

/// A weight whose codes are packed in words, and what belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// What it is stored as, for people, such as `GPTQ_INT4`.
    name: String,
    rows: u64,
    columns: u64,
    /// Bytes of all of its parts.
    bytes: u64,
    /// Files and ranges of its parts.
    extents: Vec<(usize, Range<u64>)>,
    layout: Layout,
}

/// Where the parts are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Layout {
    Transposed(transposed::Transposed),
    ByRows(by_rows::ByRows),
    Affine(mlx::Affine),
}

impl Packed {
    pub(crate) fn new(
        name: String,
        [rows, columns]: [u64; 2],
        parts: &[&Part],
        layout: Layout,
    ) -> Self {
        let bytes = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.bytes()));
        let extent =
            |part: &&Part| (part.file, part.offset..part.offset.saturating_add(part.bytes()));
        let extents = parts.iter().map(extent).collect();
        Self { name, rows, columns, bytes, extents, layout }
    }

    /// Rows and columns of the weight.
    pub fn shape(&self) -> [u64; 2] {
        [self.rows, self.columns]
    }

    /// What it is stored as, for people, such as `GPTQ_INT4`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of its codes and all that belongs to them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Files and ranges of all that it is restored from.
    pub(crate) fn extents(&self) -> &[(usize, Range<u64>)] {
        &self.extents
    }

    /// Where the codes begin: the number of the file, and the offset in it.
    pub(crate) fn place(&self) -> (usize, u64) {
        let codes = match &self.layout {
            Layout::Transposed(layout) => layout.codes,
            Layout::ByRows(layout) => layout.codes,
            Layout::Affine(layout) => layout.codes,
        };
        (codes.file, codes.offset)
    }

    /// Rows are restored from a multiple of this on.
    fn step(&self) -> u64 {
        match &self.layout {
            Layout::Transposed(layout) => layout.step(),
            Layout::ByRows(_) | Layout::Affine(_) => 1,
        }
    }

    /// Restores whole rows, from `first` on, a multiple of [`step`](Self::step).
    fn restore(
        &self,
        files: &[SourceFile],
        first: u64,
        out: &mut [f32],
        buffers: &mut Buffers,
    ) -> Result<()> {
        match &self.layout {
            Layout::Transposed(layout) => layout.restore(files, first, out, buffers),
            Layout::ByRows(layout) => layout.restore(files, first, out, buffers),
            Layout::Affine(layout) => layout.restore(files, first, out, buffers),
        }
    }
}
