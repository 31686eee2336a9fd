//! Reading ranges of a tensor's elements from the pieces it is stored in.

use crate::{
    Result,
    model::{Model, Piece, RowOrder, Tensor, TensorData},
};

/// Reads from one tensor.
pub(crate) struct RowReader<'a> {
    model: &'a Model,
    pieces: &'a [Piece],
    rows: RowOrder,
    row_len: u64,
}

impl<'a> RowReader<'a> {
    pub(crate) fn new(model: &'a Model, tensor: &'a Tensor) -> Self {
        let (pieces, rows) = match &tensor.data {
            TensorData::Stored { pieces, rows } => (&pieces[..], *rows),
            TensorData::Computed(_) => (&[][..], RowOrder::Stored),
        };
        // A vector that is reordered, such as a bias, has a row for each element.
        let row_len = if tensor.shape.len() == 1 { 1 } else { tensor.row_len() };
        Self { model, pieces, rows, row_len }
    }

    /// Reads `len` elements from `start` on, as stored, in the tensor's row order. In any order
    /// but the stored one the range is whole rows.
    pub(crate) fn read(&self, start: u64, len: u64, out: &mut Vec<u8>) -> Result<()> {
        let Some(ty) = self.pieces.first().map(|piece| piece.ty) else { return Ok(()) };
        let bytes = ty.row_bytes(len)?;
        out.resize(usize::try_from(bytes).map_err(|_| quant_core::Error::TooLarge)?, 0);
        match self.rows {
            RowOrder::Stored => self.read_stored(ty.row_bytes(start)?, out),
            RowOrder::Rotary { head_rows } => {
                let row_bytes = ty.row_bytes(self.row_len)?;
                let first = start / self.row_len.max(1);
                let row_size = usize::try_from(row_bytes).unwrap_or(usize::MAX).max(1);
                for (row, out) in (first..).zip(out.chunks_mut(row_size)) {
                    self.read_stored(rotary_source(row, head_rows) * row_bytes, out)?;
                }
                Ok(())
            }
        }
    }

    /// Reads bytes of the pieces taken as one sequence.
    fn read_stored(&self, mut offset: u64, mut out: &mut [u8]) -> Result<()> {
        for piece in self.pieces {
            if out.is_empty() {
                break;
            }
            if offset >= piece.bytes {
                offset -= piece.bytes;
                continue;
            }
            let here = usize::try_from(piece.bytes - offset).unwrap_or(usize::MAX).min(out.len());
            let (now, rest) = out.split_at_mut(here);
            self.model.files[piece.file].read_exact_at(now, piece.offset + offset)?;
            (out, offset) = (rest, 0);
        }
        Ok(())
    }
}

/// The stored row that becomes row `row`: of each pair of rows, one comes from each half of the
/// head.
fn rotary_source(row: u64, head_rows: u64) -> u64 {
    let head_rows = head_rows.max(1);
    let (head, within) = (row / head_rows, row % head_rows);
    head * head_rows + within % 2 * (head_rows / 2) + within / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_come_from_the_two_halves() {
        let sources: Vec<_> = (0..8).map(|row| rotary_source(row, 8)).collect();
        assert_eq!(sources, [0, 4, 1, 5, 2, 6, 3, 7]);
        assert_eq!(rotary_source(9, 8), 12);
    }
}
