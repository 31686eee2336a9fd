//! Importance matrices: how much each column of a weight matters, as llama-imatrix measures it.

mod gguf;
mod legacy;

use std::path::Path;

use indexmap::IndexMap;

use crate::{
    Budget, Error, GgufString, Limits, Place, Result, SourceFile, Value,
    error::DAMAGED,
    sniff::{self, Kind},
};

/// An importance matrix, normalized bit for bit as llama-quantize does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Imatrix {
    /// Entries under the names of the tensors they are for, sorted by name.
    pub entries: IndexMap<String, ImatrixEntry>,
    /// The texts it was computed from.
    pub datasets: Vec<String>,
    /// How many chunks of text it was computed from; `None` if the file does not say, or says
    /// zero or a number that llama-quantize takes for negative.
    pub chunk_count: Option<u32>,
}

/// The importance of a tensor's columns.
#[derive(Clone, Debug, PartialEq)]
pub struct ImatrixEntry {
    /// One value for each column of each matrix, matrix after matrix; finite and not negative.
    pub values: Vec<f32>,
    /// Matrices (experts) the values are for. Legacy files do not say: they have 1 here, though
    /// the values may be those of several.
    pub matrices: usize,
}

/// What an entry costs in memory besides its name and values.
const ENTRY_BYTES: usize = size_of::<(String, ImatrixEntry)>() + 8 + 20;

impl Imatrix {
    /// Opens an importance matrix, GGUF or legacy `.dat`.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`SourceFile::open`].
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        Self::read(SourceFile::open(path)?, limits)
    }

    /// Reads an importance matrix, GGUF or legacy `.dat`.
    ///
    /// # Errors
    /// [`Error::NotAModel`] if the file is something else; [`Error::Malformed`] for values that are
    /// negative or not finite, for sums and counts that do not fit together, and for missing
    /// metadata; otherwise as [`crate::GgufFile::read`] and [`crate::GgufFile::check_data`].
    pub fn read(file: SourceFile, limits: &Limits) -> Result<Self> {
        Self::read_with(file, &mut Budget::new(limits))
    }

    /// As [`read`](Self::read), charging what it allocates to a budget, which is granted what the
    /// file may cost.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_with(file: SourceFile, budget: &mut Budget) -> Result<Self> {
        budget.admit(file.len());
        match Kind::of(&sniff::head(&file)?) {
            Kind::Gguf | Kind::BigEndianGguf => gguf::read(&file, budget),
            Kind::Other => legacy::read(&file, budget),
            other => Err(other.error(&file, "an importance matrix, GGUF or .dat")),
        }
    }

    /// The `quantize.imatrix.*` pairs that llama-quantize adds to what it writes, in its order;
    /// none if there are no entries. `file` is the path as it was given on the command line.
    ///
    /// They count the entries at the time of the call: remove those that are not to be used before.
    pub fn quantize_keys(&self, file: &str) -> Vec<(&'static str, Value)> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let mut keys = vec![("quantize.imatrix.file", cut(file))];
        if let Some(dataset) = self.datasets.first() {
            keys.push(("quantize.imatrix.dataset", cut(dataset)));
        }
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        keys.push(("quantize.imatrix.entries_count", count.into()));
        if let Some(chunks) = self.chunk_count {
            keys.push(("quantize.imatrix.chunks_count", chunks.into()));
        }
        keys
    }
}

/// llama-quantize passes texts through a C string in 128 bytes, even if that cuts a character.
fn cut(text: &str) -> Value {
    let bytes = text.as_bytes();
    let end = bytes.iter().take(127).take_while(|b| **b != 0).count();
    Value::String(GgufString::from(bytes.get(..end).unwrap_or_default().to_vec()))
}

/// Refuses sums and counts that cannot have been measured.
fn check_values(file: &SourceFile, place: &Place, values: &[f32]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite() || *v < 0.0) {
        None => Ok(()),
        Some(i) => Err(Error::Malformed {
            path: file.path().into(),
            place: place.clone(),
            found: format!("{} as value {i}", values.get(i).copied().unwrap_or_default()).into(),
            expected: "finite values that are not negative".into(),
            help: DAMAGED,
        }),
    }
}
