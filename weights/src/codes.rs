//! Codes of few bits as they are stored, for whoever writes them on without a detour through floats.

use std::ops::Range;

use gguf_io::SourceFile;

use crate::{
    Code, ElementMap, Encoding, Piece, Result, Tensor, TensorData, View,
    code_block::{BLOCK, CodeBlock},
    gather::gather,
    packed::Window,
    stored::Scratch,
};

/// What the codes of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Codes {
    /// Bits of the widest.
    pub bits: u32,
    /// Whether [`TensorReader::code_blocks`](crate::TensorReader::code_blocks) reads them: its values are
    /// those stored, in whole blocks that share a scale. Columns in another order (act-order) do not.
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
    pub(crate) fn in_blocks(&self) -> Option<View> {
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

impl Piece {
    /// Reads some blocks of codes of those that `view` takes.
    pub(crate) fn read_codes(
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
