//! The tensors of one packed layer.

use gguf_io::{Checkpoint, Dtype, SourceFile};
use quant_core::{Error::TooLarge, GgmlType};

use crate::{Error, Result, encoding::floats};

use super::mlx;

/// Types of scales.
pub(crate) const FLOATS: &[Dtype] = &[Dtype::F16, Dtype::BF16, Dtype::F32];

/// The tensors of one packed layer, by what their names end in.
pub(crate) struct Parts<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) module: &'a str,
    /// The quantization's name, in capitals.
    pub(crate) method: &'a str,
}

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

impl Parts<'_> {
    /// The number of experts that are stacked in one weight, as in MLX.
    pub(crate) fn stack(&self) -> Option<u64> {
        let weight = self.checkpoint.tensors.get(&format!("{}.weight", self.module))?;
        match weight.shape[..] {
            [experts @ 1..=mlx::MOST_EXPERTS, _, _] if self.module.contains(mlx::STACK) => {
                Some(experts)
            }
            _ => None,
        }
    }

    /// A part, if it is there; a vector counts as a single row.
    pub(crate) fn find(&self, part: &str, dtypes: &[Dtype]) -> Result<Option<Part>> {
        let Some(tensor) = self.checkpoint.tensors.get(&format!("{}.{part}", self.module)) else {
            return Ok(None);
        };
        let names: Vec<_> = dtypes.iter().map(|dtype| dtype.name()).collect();
        let (rows, columns) = match tensor.shape[..] {
            [] => (1, 1),
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            // The experts of a layer, one below the other.
            [experts, rows, columns] if self.stack().is_some() => {
                (experts.checked_mul(rows).ok_or(TooLarge)?, columns)
            }
            _ => return Err(self.wrong(part, &format!("{} dimensions", tensor.shape.len()), "2")),
        };
        if !dtypes.contains(&tensor.dtype) {
            let found = format!("type {}", tensor.dtype);
            return Err(self.wrong(part, &found, &names.join(" or ")));
        }
        if rows == 0 || columns == 0 {
            return Err(self.wrong(part, "no elements", "some"));
        }
        let (file, offset, dtype) = (tensor.file, tensor.offset, tensor.dtype);
        Ok(Some(Part { file, offset, rows, columns, dtype }))
    }

    pub(crate) fn need(&self, part: &str, dtypes: &[Dtype]) -> Result<Part> {
        self.find(part, dtypes)?.ok_or_else(|| self.wrong(part, "no such tensor", "one"))
    }

    /// Checks the shape of a part.
    pub(crate) fn expect(&self, name: &str, part: &Part, rows: u64, columns: u64) -> Result<()> {
        if (part.rows, part.columns) == (rows, columns) {
            return Ok(());
        }
        let found = format!("shape [{}, {}]", part.rows, part.columns);
        let expected = format!("[{rows}, {columns}] by the other tensors of the layer");
        Err(self.wrong(name, &found, &expected))
    }

    /// Reads the groups of the columns.
    pub(crate) fn groups(&self, name: &str, part: &Part, limit: u64) -> Result<Groups> {
        let count = usize::try_from(part.columns).map_err(|_| TooLarge)?;
        let mut bytes = Vec::new();
        part.read(&self.checkpoint.files, (0, 0), count, &mut bytes)?;
        let values: Vec<u32> = bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        match values.iter().find(|value| u64::from(**value) >= limit) {
            Some(value) => {
                let expected = format!("groups 0 to {}", limit.saturating_sub(1));
                Err(self.wrong(name, &format!("group {}", *value as i32), &expected))
            }
            None => Ok(Groups::in_order(&values, limit).unwrap_or(Groups::Given(values))),
        }
    }

    /// Groups one after the other, if they divide the columns. Nothing is kept for each column: a
    /// small file may announce many.
    pub(crate) fn even_groups(&self, name: &str, columns: u64, groups: u64) -> Result<Groups> {
        if groups == 0 || !columns.is_multiple_of(groups) {
            let found = format!("{groups} groups");
            return Err(self.wrong(name, &found, &format!("a divisor of {columns} columns")));
        }
        Ok(Groups::Even(columns / groups))
    }

    pub(crate) fn wrong(&self, part: &str, found: &str, expected: &str) -> Error {
        let tensors = &self.checkpoint.tensors;
        let tensor = format!("{}.{part}", self.module);
        // Any part will do to name the file.
        let prefix = format!("{}.", self.module);
        let any = || tensors.iter().find(|(name, _)| name.starts_with(&prefix)).map(|(_, t)| t);
        let file = tensors.get(&tensor).or_else(any).map(|tensor| tensor.file);
        let file = file.and_then(|file| self.checkpoint.files.get(file));
        Error::Packed {
            path: file.map(|file| file.path().to_path_buf()).unwrap_or_default(),
            tensor,
            found: found.to_owned(),
            expected: expected.to_owned(),
            help: "the checkpoint is damaged or of a variant that is not read; take the original one",
        }
    }
}

impl Groups {
    /// Groups one after the other, which programs write down too.
    fn in_order(groups: &[u32], count: u64) -> Option<Self> {
        let columns = groups.len() as u64;
        let len =
            columns.checked_div(count).filter(|len| len.checked_mul(count) == Some(columns))?;
        let in_order = (0..columns).zip(groups).all(|(i, group)| i / len == u64::from(*group));
        in_order.then_some(Self::Even(len))
    }
}

/// The group of each column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Groups of this many, one after the other.
    Even(u64),
    /// As the file says.
    Given(Vec<u32>),
}
