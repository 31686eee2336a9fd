//! Importance weights for the tensors of a plan.

use gguf_io::{Imatrix, Metadata};

use crate::{Error, Options, Result};

/// The entries of an importance matrix that a conversion uses.
#[derive(Debug)]
pub(crate) struct Importance {
    imatrix: Imatrix,
    path: String,
    /// Parts of names that it is used for; empty for all.
    included: Vec<String>,
    /// Parts of names that it is not used for.
    excluded: Vec<String>,
}

impl Importance {
    /// Opens the matrix that the options name, reduced to the entries they ask for.
    pub(crate) fn open(options: &Options) -> Result<Option<Self>> {
        let Some(path) = &options.imatrix else { return Ok(None) };
        let mut importance = Self {
            imatrix: Imatrix::open(path, &options.limits)?,
            path: path.to_string_lossy().into_owned(),
            included: options.include_weights.clone(),
            excluded: options.exclude_weights.clone(),
        };
        let mut entries = std::mem::take(&mut importance.imatrix.entries);
        entries.retain(|name, _| importance.is_wanted(name));
        importance.imatrix.entries = entries;
        Ok(Some(importance))
    }

    /// Whether the options ask to use it for a tensor.
    pub(crate) fn is_wanted(&self, name: &str) -> bool {
        let contains = |parts: &[String]| parts.iter().any(|part| name.contains(part));
        (self.included.is_empty() || contains(&self.included)) && !contains(&self.excluded)
    }

    /// Whether no entry is left; the reference then converts as without a matrix.
    pub(crate) fn is_empty(&self) -> bool {
        self.imatrix.entries.is_empty()
    }

    /// Writes down where the weights come from, as the reference does.
    pub(crate) fn describe(&self, metadata: &mut Metadata) {
        for (key, value) in self.imatrix.quantize_keys(&self.path) {
            metadata.replace_at_end(key, value);
        }
    }

    /// The weights of a tensor, a row for each of its matrices, under its name in the source.
    ///
    /// # Errors
    /// If there are weights but not as many as the tensor has columns. The token embedding is
    /// exempt, as in the reference: its entry, if any, is never of its shape.
    pub(crate) fn of(&self, name: &str, shape: &[u64]) -> Result<Option<&[f32]>> {
        let Some(entry) = self.imatrix.entries.get(name) else { return Ok(None) };
        let columns = shape.first().copied().unwrap_or(1);
        let matrices = shape.get(2).copied().unwrap_or(1);
        let expected = columns.checked_mul(matrices);
        if expected == Some(entry.values.len() as u64) {
            return Ok(Some(&entry.values));
        }
        if matches!(name, "token_embd.weight" | "per_layer_token_embd.weight") {
            return Ok(None);
        }
        Err(Error::ImportanceLength {
            path: self.path.clone().into(),
            tensor: name.into(),
            found: entry.values.len(),
            columns,
            matrices,
        })
    }
}
