//! Single rows of a packed matrix as values: what a table of embeddings is read by.

use super::{MatrixError, PackedMatrix, format::Format, int4::Int4Layout};
use crate::Kernels;

impl PackedMatrix {
    /// The values of some rows: `out[i · cols..][..cols]` becomes row `ids[i]`. The rows of several experts
    /// follow each other: row `r` of expert `e` is `e · rows + r`.
    ///
    /// # Errors
    /// [`MatrixError::Row`] for a row that the matrix does not have, [`MatrixError::Short`] if `out` does
    /// not have the length of the rows; `out` is unchanged then.
    pub fn dequantize_rows(
        &self,
        kernels: Kernels,
        ids: &[u32],
        out: &mut [f32],
    ) -> Result<(), MatrixError> {
        let rows = self.experts * self.rows;
        let known = |id: u32| usize::try_from(id).is_ok_and(|id| id < rows);
        if let Some(index) = ids.iter().position(|id| !known(*id)) {
            return Err(MatrixError::Row { index, row: ids[index], rows });
        }
        let expected = ids.len().checked_mul(self.cols).ok_or(MatrixError::TooLarge)?;
        if out.len() != expected {
            return Err(MatrixError::Short { what: "out", found: out.len(), expected });
        }
        if expected == 0 {
            return Ok(());
        }
        let mut bytes = vec![0; self.row_bytes()];
        for (id, out) in ids.iter().zip(out.chunks_exact_mut(self.cols)) {
            let (expert, row) = (*id as usize / self.rows, *id as usize % self.rows);
            bytes.fill(0);
            self.unpack_rows(expert, row, &mut bytes);
            match self.format {
                Format::Ggml(ty) => kernels.dequantize_into(ty, &bytes, out)?,
                Format::Int4(layout) => int4(layout, &bytes, out),
            }
        }
        Ok(())
    }
}

/// The values of a row of grouped integers.
fn int4(layout: Int4Layout, bytes: &[u8], out: &mut [f32]) {
    let (len, size) = layout.block();
    for (block, out) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(len)) {
        let bits = u16::from_le_bytes([block[0], block[1]]);
        let scale = if layout.bfloat16 {
            f32::from_bits(u32::from(bits) << 16)
        } else {
            half::f16::from_bits(bits).to_f32()
        };
        let zero_point = if layout.zero_points { i32::from(block[2]) } else { 8 };
        let codes = block[layout.head()..].iter().flat_map(|byte| [byte & 15, byte >> 4]);
        for (out, code) in out.iter_mut().zip(codes) {
            *out = (i32::from(code) - zero_point) as f32 * scale;
        }
    }
}
