//! Codes of few bits as they are stored, for whoever writes them on without a detour through floats.

use std::ops::Range;

use gguf_io::SourceFile;

use crate::{
    Code, ElementMap, Encoding, Piece, Result, Tensor, TensorData, TensorReader, View,
    encoding::Scratch,
    gather::gather,
    packed::Window,
    reader::{checked_len, parts},
};

/// Values in a block of codes, as many as in the blocks of ggml's simple types.
pub(crate) const BLOCK: u64 = 32;

/// Codes of neighbours in a row, which share a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeBlock {
    /// From 0 on.
    pub codes: [u8; BLOCK as usize],
    /// What codes are multiplied with.
    pub scale: f32,
    /// What is added.
    pub offset: Offset,
    /// Whether the block is the first of those that share this scale.
    pub is_first: bool,
}

/// How a code becomes a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Offset {
    /// `(code − zero) · scale`, of a whole number.
    Zero(f32),
    /// `code · scale + bias`.
    Bias(f32),
}

impl Default for CodeBlock {
    fn default() -> Self {
        Self { codes: [0; 32], scale: 0.0, offset: Offset::Zero(0.0), is_first: false }
    }
}

/// What the codes of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Codes {
    /// Bits of the widest.
    pub bits: u32,
    /// Whether [`TensorReader::code_blocks`] reads them: its values are those stored, in whole blocks
    /// that share a scale. Columns in another order (act-order) do not.
    pub has_blocks: bool,
}

impl Encoding {
    /// Bits of its codes, if they are whole numbers with scales.
    fn code_bits(&self) -> Option<u32> {
        match self {
            Self::Packed(packed) => Some(packed.bits()),
            Self::Coded { code: Code::Int8, scales: Some(_), .. } => Some(8),
            _ => None,
        }
    }

    /// Whether every block of codes in a row has one scale.
    fn has_code_blocks(&self) -> bool {
        match self {
            Self::Packed(packed) => packed.has_code_blocks(),
            Self::Coded { code: Code::Int8, columns, scales: Some(scales) } => {
                let whole = scales.columns.is_multiple_of(BLOCK) || scales.columns >= *columns;
                columns.is_multiple_of(BLOCK) && whole && scales.factor == 1.0
            }
            _ => false,
        }
    }
}

impl Piece {
    /// What the view takes, in blocks of codes.
    fn in_blocks(&self) -> Option<View> {
        self.encoding.has_code_blocks().then(|| self.view.in_units(BLOCK)).flatten()
    }
}

impl Tensor {
    /// What its codes are, if all of it is stored in whole numbers with scales.
    pub fn codes(&self) -> Option<Codes> {
        let TensorData::Stored { pieces, map } = &self.data else { return None };
        let mut bits = pieces.iter().map(|piece| piece.encoding.code_bits());
        let bits = bits.try_fold(0, |most, bits| Some(bits?.max(most))).filter(|bits| *bits > 0)?;
        let has_blocks = *map == ElementMap::Same
            && self.row_len().is_multiple_of(BLOCK)
            && pieces.iter().all(|piece| piece.in_blocks().is_some());
        Some(Codes { bits, has_blocks })
    }
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    window: Window<CodeBlock>,
    spread: Vec<CodeBlock>,
    scratch: Scratch,
}

impl TensorReader<'_> {
    /// Reads the codes of a range of values, both ends of which are multiples of 32.
    ///
    /// # Errors
    /// As [`load`](Self::load); [`Error::Core`](crate::Error::Core) for a tensor whose
    /// [codes](Tensor::codes) have no blocks.
    pub fn code_blocks(
        &mut self,
        tensor: &Tensor,
        range: Range<u64>,
        out: &mut Vec<CodeBlock>,
    ) -> Result<()> {
        let unsupported = || {
            let (ty, operation) = (tensor.source_type(), "read as codes");
            quant_core::Error::Unsupported { ty, operation }
        };
        let TensorData::Stored { pieces, map: ElementMap::Same } = &tensor.data else {
            return Err(unsupported().into());
        };
        let len = checked_len(tensor, &range, BLOCK)?;
        out.clear();
        out.resize(len / BLOCK as usize, CodeBlock::default());
        let (files, buffers) = self.code_buffers();
        let mut rest = &mut out[..];
        for (piece, part) in parts(pieces, range) {
            let view = piece.in_blocks().ok_or_else(unsupported)?;
            let units = part.start / BLOCK..part.end / BLOCK;
            let count = usize::try_from(units.end - units.start).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(count.min(rest.len()));
            piece.read_codes(files, &view, units, now, buffers)?;
            rest = later;
        }
        Ok(())
    }
}

impl Piece {
    fn read_codes(
        &self,
        files: &[SourceFile],
        view: &View,
        units: Range<u64>,
        out: &mut [CodeBlock],
        buffers: &mut Buffers,
    ) -> Result<()> {
        let Buffers { window, spread, scratch } = buffers;
        match &self.encoding {
            Encoding::Packed(packed) => window.read(packed, files, view, units, out),
            Encoding::Coded { columns, scales: Some(stored), .. } => {
                let place = (self.file, self.offset);
                gather(view, units, 1, out, spread, &mut |first, out| {
                    let at = (place, first.saturating_mul(BLOCK), *columns);
                    stored.code_blocks(files, at, out, scratch)
                })
            }
            other => {
                let (ty, operation) = (other.ty(), "read as codes");
                Err(quant_core::Error::Unsupported { ty, operation }.into())
            }
        }
    }
}
