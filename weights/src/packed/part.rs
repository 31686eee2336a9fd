//! A tensor of a packed layer.

use gguf_io::{Dtype, SourceFile};
use quant_core::{Error::TooLarge, GgmlType};

use crate::{Result, stored::floats};

/// Types of scales.
pub(crate) const FLOATS: &[Dtype] = &[Dtype::F16, Dtype::BF16, Dtype::F32];

/// A tensor of a packed layer whose type and dimensions are as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) file: usize,
    pub(crate) offset: u64,
    pub(crate) rows: u64,
    pub(crate) columns: u64,
    pub(crate) dtype: Dtype,
}

impl Part {
    fn element(&self) -> u64 {
        self.dtype.bits() / 8
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.rows.saturating_mul(self.columns).saturating_mul(self.element())
    }

    /// Some of its rows.
    pub(crate) fn narrow(&self, first: u64, rows: u64) -> Self {
        let skipped = first.saturating_mul(self.columns).saturating_mul(self.element());
        Self { offset: self.offset.saturating_add(skipped), rows, ..*self }
    }

    /// Reads `count` elements, from one of a row on; they may go on in the next rows.
    pub(crate) fn read(
        &self,
        files: &[SourceFile],
        (row, column): (u64, u64),
        count: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let len =
            (count as u64).checked_mul(self.element()).and_then(|len| usize::try_from(len).ok());
        bytes.resize(len.ok_or(TooLarge)?, 0);
        self.read_into(files, (row, column), bytes)
    }

    /// Fills `bytes` with elements, from one of a row on.
    pub(crate) fn read_into(
        &self,
        files: &[SourceFile],
        (row, column): (u64, u64),
        bytes: &mut [u8],
    ) -> Result<()> {
        let size = self.element();
        let first = row.checked_mul(self.columns).and_then(|n| n.checked_add(column));
        let at = first.and_then(|n| n.checked_mul(size)).and_then(|n| n.checked_add(self.offset));
        let file = files.get(self.file).ok_or(TooLarge)?;
        Ok(file.read_exact_at(bytes, at.ok_or(TooLarge)?)?)
    }

    /// Adds floats of its type to `out`.
    pub(crate) fn push_floats(&self, bytes: &[u8], out: &mut Vec<f32>) {
        let ty = match self.dtype {
            Dtype::F16 => GgmlType::F16,
            Dtype::BF16 => GgmlType::BF16,
            _ => GgmlType::F32,
        };
        floats(ty, bytes, out);
    }
}
