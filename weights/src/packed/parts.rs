//! The tensors of one packed layer.

use gguf_io::{Checkpoint, Dtype};
use quant_core::Error::TooLarge;

use super::{part::Part, row::Groups};
use crate::{Error, Result};

/// What the name of a module holds in which MLX has all experts of a layer.
pub(crate) const STACK: &str = ".switch_mlp.";

/// Experts beyond any model: each gets a tensor with a name.
pub(crate) const MOST_EXPERTS: u64 = 4096;

/// The tensors of one packed layer, by what their names end in.
pub(crate) struct Parts<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) module: &'a str,
    /// The quantization's name, in capitals.
    pub(crate) method: &'a str,
}

impl Parts<'_> {
    /// The number of experts that are stacked in one weight, as in MLX.
    pub(crate) fn stack(&self) -> Option<u64> {
        let weight = self.checkpoint.tensors.get(&format!("{}.weight", self.module))?;
        match weight.shape[..] {
            [experts @ 1..=MOST_EXPERTS, _, _] if self.module.contains(STACK) => Some(experts),
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

/// A layer that was found in a checkpoint.
pub(crate) struct Found<L> {
    /// What it is stored as, for people, such as `GPTQ_INT4`.
    pub(super) name: String,
    /// Rows and columns of the weight.
    pub(super) shape: [u64; 2],
    /// What it is restored from.
    pub(super) parts: Vec<Part>,
    /// How.
    pub(super) layout: L,
}
