//! A packed layer of any layout, and how its rows are restored.

use std::ops::Range;

use gguf_io::SourceFile;

use super::{
    bitsandbytes::Blockwise,
    by_rows::ByRows,
    mlx::Affine,
    part::Part,
    parts::Found,
    row::{Buffers, EachRow, Groups, Row, Rule},
    transposed::Transposed,
};
use crate::{
    Result,
    code_block::{BLOCK, CodeBlock, Offset},
    gather::size,
};

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
    Transposed(Transposed),
    ByRows(ByRows),
    Affine(Affine),
    Blockwise(Blockwise),
}

impl Packed {
    /// A layer in its layout.
    pub(crate) fn new<L>(found: Found<L>, layout: fn(L) -> Layout) -> Self {
        let Found { name, shape: [rows, columns], parts, layout: own } = found;
        let bytes = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.bytes()));
        let extent =
            |part: &Part| (part.file, part.offset..part.offset.saturating_add(part.bytes()));
        let extents = parts.iter().map(extent).collect();
        Self { name, rows, columns, bytes, extents, layout: layout(own) }
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
            Layout::Blockwise(layout) => layout.codes,
        };
        (codes.file, codes.offset)
    }

    /// Rows are restored from a multiple of this on.
    pub(super) fn step(&self) -> u64 {
        match &self.layout {
            Layout::Transposed(layout) => layout.step(),
            Layout::ByRows(_) | Layout::Affine(_) | Layout::Blockwise(_) => 1,
        }
    }

    /// Bits of a code.
    pub(crate) fn bits(&self) -> u32 {
        match &self.layout {
            Layout::Transposed(layout) => layout.bits,
            Layout::ByRows(layout) => layout.bits,
            Layout::Affine(layout) => layout.bits,
            Layout::Blockwise(_) => 4,
        }
    }

    /// Whether every block of codes along a row has one scale: groups are one after the other, and
    /// whole blocks.
    pub(crate) fn has_code_blocks(&self) -> bool {
        let even = |len: u64| len.is_multiple_of(BLOCK) || len == self.columns;
        self.columns.is_multiple_of(BLOCK)
            && matches!(self.groups(), Some(Groups::Even(len)) if even(*len))
    }

    /// `None` where codes are no numbers on a line.
    fn groups(&self) -> Option<&Groups> {
        match &self.layout {
            Layout::Transposed(layout) => Some(&layout.groups),
            Layout::ByRows(layout) => Some(&layout.groups),
            Layout::Affine(layout) => Some(&layout.groups),
            Layout::Blockwise(_) => None,
        }
    }

    fn rule(&self) -> Rule {
        match &self.layout {
            Layout::Affine(_) => Rule::Bias,
            _ => Rule::ZeroPoint,
        }
    }

    /// Goes through some whole rows, from `first` on, a multiple of [`step`](Self::step).
    fn each_row(
        &self,
        files: &[SourceFile],
        first: u64,
        rows: usize,
        buffers: &mut Buffers,
        each: &mut EachRow<'_>,
    ) -> Result<()> {
        match &self.layout {
            Layout::Transposed(layout) => layout.each_row(files, first, rows, buffers, each),
            Layout::ByRows(layout) => layout.each_row(files, first, rows, buffers, each),
            Layout::Affine(layout) => layout.each_row(files, first, rows, buffers, each),
            Layout::Blockwise(_) => Ok(()),
        }
    }

    /// Restores whole rows, from `first` on, a multiple of [`step`](Self::step).
    pub(super) fn restore(
        &self,
        files: &[SourceFile],
        first: u64,
        out: &mut [f32],
        buffers: &mut Buffers,
    ) -> Result<()> {
        let columns = size(self.columns)?.max(1);
        let groups = match (&self.layout, self.groups()) {
            (Layout::Blockwise(layout), _) => return layout.restore(files, first, out, buffers),
            (_, Some(groups)) => groups,
            (_, None) => return Ok(()),
        };
        let rule = self.rule();
        let rows = out.len() / columns;
        let mut lines = out.chunks_exact_mut(columns);
        self.each_row(files, first, rows, buffers, &mut |row| {
            if let Some(out) = lines.next() {
                groups.restore(rule, row, out);
            }
        })
    }

    /// Reads the codes of whole rows, from `first` on, a multiple of [`step`](Self::step). The layer
    /// [has blocks](Self::has_code_blocks) of them.
    pub(super) fn code_blocks(
        &self,
        files: &[SourceFile],
        first: u64,
        out: &mut [CodeBlock],
        buffers: &mut Buffers,
    ) -> Result<()> {
        let Some(Groups::Even(group)) = self.groups() else {
            return Err(quant_core::Error::TooLarge.into());
        };
        let per_group = size(group / BLOCK)?.max(1);
        let per_row = size(self.columns / BLOCK)?.max(1);
        let rows = out.len() / per_row;
        let rule = self.rule();
        let mut lines = out.chunks_exact_mut(per_row);
        self.each_row(files, first, rows, buffers, &mut |Row { codes, scales, zeros }| {
            let Some(line) = lines.next() else { return };
            let groups = line.chunks_mut(per_group).zip(scales.iter().zip(zeros));
            let (mut codes, _) = codes.as_chunks();
            for (blocks, (scale, zero)) in groups {
                let (here, later) = codes.split_at(blocks.len().min(codes.len()));
                codes = later;
                let offset = match rule {
                    Rule::ZeroPoint => Offset::Zero(*zero),
                    Rule::Bias => Offset::Bias(*zero),
                };
                for (i, (block, codes)) in blocks.iter_mut().zip(here).enumerate() {
                    *block = CodeBlock { codes: *codes, scale: *scale, offset, is_first: i == 0 };
                }
            }
        })
    }
}
