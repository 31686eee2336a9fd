//! Importance matrices: how much each column of a weight matters, as llama-imatrix measures it.

mod gguf;
mod legacy;
mod sums;

use std::path::Path;

use indexmap::IndexMap;

use crate::{
    Budget, Error, GgufString, Limits, Place, Result, SourceFile, Value,
    error::DAMAGED,
    sniff::{self, Kind},
};

pub use sums::{ImatrixSums, TensorSums};

/// An importance matrix, normalized bit for bit as llama-quantize does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Imatrix {
    /// Entries under the names of the tensors they are for, sorted by name.
    pub entries: IndexMap<String, ImatrixEntry>,
    /// Entries that cannot be used, sorted by name; none unless the file was opened with
    /// [`open_lenient`](Self::open_lenient).
    pub broken: IndexMap<String, BrokenEntry>,
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

/// An entry whose values cannot have been measured: one is not finite or negative, or sums and
/// counts do not fit together.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokenEntry {
    path: Box<Path>,
    place: Place,
    found: Box<str>,
    expected: &'static str,
}

impl BrokenEntry {
    fn new(file: &SourceFile, place: &Place, found: String, expected: &'static str) -> Self {
        Self { path: file.path().into(), place: place.clone(), found: found.into(), expected }
    }

    /// The error that refuses the entry: [`Error::Malformed`] with the file and the entry's name.
    pub fn error(&self) -> Error {
        Error::Malformed {
            path: self.path.clone(),
            place: self.place.clone(),
            found: self.found.clone(),
            expected: self.expected.into(),
            help: DAMAGED,
        }
    }
}

/// An entry as it was read. The outer error is the file's, the inner one that of the entry alone.
type Entry = Result<Result<ImatrixEntry, BrokenEntry>>;

/// What an entry costs in memory besides its name and values.
const ENTRY_BYTES: usize = size_of::<(String, ImatrixEntry)>() + 8 + 20;

impl Imatrix {
    /// Opens an importance matrix, GGUF or legacy `.dat`.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`SourceFile::open`].
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        Self::read(SourceFile::open(path)?, limits)
    }

    /// Opens an importance matrix that may have broken entries. They are kept in
    /// [`broken`](Self::broken), so that a caller can refuse those that it uses.
    ///
    /// A matrix may have taken days to make and hold one NaN in a tensor that nobody asks for.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for values that are negative or not finite and for sums and
    /// counts that do not fit together.
    pub fn open_lenient(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        Self::read_lenient(SourceFile::open(path)?, limits)
    }

    /// [`open_lenient`](Self::open_lenient) of a file that is open.
    ///
    /// # Errors
    /// As [`open_lenient`](Self::open_lenient).
    pub fn read_lenient(file: SourceFile, limits: &Limits) -> Result<Self> {
        Self::read_entries(&file, &mut Budget::new(limits))
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
        let imatrix = Self::read_entries(&file, budget)?;
        match imatrix.broken.values().next() {
            Some(broken) => Err(broken.error()),
            None => Ok(imatrix),
        }
    }

    fn read_entries(file: &SourceFile, budget: &mut Budget) -> Result<Self> {
        budget.admit(file.len());
        match Kind::of(&sniff::head(file)?) {
            Kind::Gguf | Kind::BigEndianGguf => gguf::read(file, budget),
            Kind::Other => legacy::read(file, budget),
            other => Err(other.error(file, "an importance matrix, GGUF or .dat")),
        }
    }

    fn new(datasets: Vec<String>, chunk_count: Option<u32>) -> Self {
        let (entries, broken) = (IndexMap::new(), IndexMap::new());
        Self { entries, broken, datasets, chunk_count }
    }

    fn insert(
        &mut self,
        name: String,
        entry: Result<ImatrixEntry, BrokenEntry>,
        budget: &mut Budget,
    ) -> Result<()> {
        match entry {
            Ok(entry) => drop(self.entries.insert(name, entry)),
            Err(broken) => {
                let path = broken.path.as_os_str().len();
                let texts = path + broken.found.len() + name.len();
                let bytes = size_of::<BrokenEntry>().saturating_add(texts) as u64;
                budget.debit(bytes, &broken.path, &broken.place)?;
                self.broken.insert(name, broken);
            }
        }
        Ok(())
    }

    /// The `quantize.imatrix.*` pairs that llama-quantize adds to what it writes, in its order;
    /// none if there are no entries. `file` is the path as it was given on the command line.
    ///
    /// They count the entries at the time of the call: remove those that are not to be used before.
    pub fn quantize_keys(&self, file: &str) -> Vec<(&'static str, Value)> {
        let count = self.entries.len().saturating_add(self.broken.len());
        if count == 0 {
            return Vec::new();
        }
        let mut keys = vec![("quantize.imatrix.file", cut(file))];
        if let Some(dataset) = self.datasets.first() {
            keys.push(("quantize.imatrix.dataset", cut(dataset)));
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
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

/// Whether values can have been measured.
fn check_values(file: &SourceFile, place: &Place, values: &[f32]) -> Result<(), BrokenEntry> {
    match values.iter().enumerate().find(|(_, v)| !v.is_finite() || **v < 0.0) {
        None => Ok(()),
        Some((i, v)) => {
            let found = format!("{v} as value {i}");
            Err(BrokenEntry::new(file, place, found, "finite values that are not negative"))
        }
    }
}
