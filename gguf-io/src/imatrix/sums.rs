//! The sums and counts of an importance matrix in a GGUF file, as they are stored: what can be added
//! to those of another run.

use std::{collections::BTreeMap, path::Path};

use quant_core::GgmlType;

use super::gguf::{CHUNK_COUNT, CHUNK_SIZE, DATASETS, NOT_ONE, floats};
use crate::{
    Array, Budget, Error, GgufFile, Limits, Place, Result, SourceFile, Value, error::Quoted,
};

/// An importance matrix before anything is divided.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ImatrixSums {
    /// Sums under the names of the tensors they are for.
    pub entries: BTreeMap<String, TensorSums>,
    /// The texts it was computed from.
    pub datasets: Vec<String>,
    /// How many chunks of text it was computed from, if the file says.
    pub chunk_count: Option<u32>,
    /// Tokens of a chunk.
    pub chunk_size: u32,
}

/// The sums of a tensor's columns, and how many rows of activations they were made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorSums {
    /// Sums of squares, one matrix after the other: as many for each count.
    pub sums: Vec<f32>,
    /// Rows that met each matrix; one, or one for each expert.
    pub counts: Vec<f32>,
}

impl ImatrixSums {
    /// Opens an importance matrix in a GGUF file. The older `.dat` files hold means and cannot be added
    /// up.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`SourceFile::open`].
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        Self::read(SourceFile::open(path)?, limits)
    }

    /// Reads an importance matrix in a GGUF file.
    ///
    /// # Errors
    /// [`Error::NotAModel`] if the file is something else; [`Error::Malformed`] for values that are
    /// negative or not finite, for sums and counts that do not fit together, and for missing metadata;
    /// otherwise as [`GgufFile::read`] and [`GgufFile::check_data`].
    pub fn read(file: SourceFile, limits: &Limits) -> Result<Self> {
        let mut budget = Budget::new(limits);
        let path = file.path().to_path_buf();
        let model = GgufFile::read_with(file, &mut budget)?;
        model.check_data()?;
        let file = model.files.first();
        let Some(Value::Array(Array::String(datasets))) = model.metadata.get(DATASETS) else {
            return Err(Error::NotAModel {
                path: path.into(),
                found: "a GGUF file without imatrix.datasets".into(),
                expected: "an importance matrix",
                help: NOT_ONE,
            });
        };
        let number = |key: &str| match model.metadata.get(key) {
            Some(Value::Uint32(number)) => Ok(*number),
            other => Err(Error::Malformed {
                path: path.as_path().into(),
                place: Place::Key(key.to_owned(), 0),
                found: match other {
                    Some(value) => format!("a value of type {}", value.value_type().name()).into(),
                    None => "nothing".into(),
                },
                expected: "a UINT32".into(),
                help: NOT_ONE,
            }),
        };
        let mut sums = Self {
            datasets: datasets
                .iter()
                .map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned())
                .collect(),
            chunk_count: Some(number(CHUNK_COUNT)?).filter(|count| *count > 0),
            chunk_size: number(CHUNK_SIZE)?,
            ..Self::default()
        };
        let by_name: BTreeMap<&str, _> =
            model.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        for (tensor_name, sum) in &by_name {
            let malformed = |found: String, expected: &str| Error::Malformed {
                path: path.as_path().into(),
                place: Place::Tensor(sum.name.clone(), sum.offset),
                found: found.into(),
                expected: expected.to_owned().into(),
                help: NOT_ONE,
            };
            let (name, other) = if let Some(name) = tensor_name.strip_suffix(".in_sum2") {
                (name, format!("{name}.counts"))
            } else if let Some(name) = tensor_name.strip_suffix(".counts") {
                (name, format!("{name}.in_sum2"))
            } else {
                continue;
            };
            let Some(count) = by_name.get(other.as_str()) else {
                let found = format!("no tensor {}", Quoted(&other));
                return Err(malformed(found, "in_sum2 and counts of each entry"));
            };
            if tensor_name.ends_with(".counts") {
                continue;
            }
            let (Some(file), (GgmlType::F32, GgmlType::F32)) = (file, (sum.ty, count.ty)) else {
                return Err(malformed(format!("types {} and {}", sum.ty, count.ty), "F32"));
            };
            let entry = TensorSums {
                sums: floats(file, sum, &mut budget)?,
                counts: floats(file, count, &mut budget)?,
            };
            let (sums_len, counts_len) = (entry.sums.len(), entry.counts.len());
            if sums_len == 0 || sums_len.checked_rem(counts_len) != Some(0) {
                let found = format!("{sums_len} sums for {counts_len} counts");
                return Err(malformed(found, "the same number of sums for each count"));
            }
            let mut values = entry.sums.iter().chain(&entry.counts);
            if let Some(value) = values.find(|value| !value.is_finite() || **value < 0.0) {
                let expected = "finite values that are not negative";
                return Err(malformed(value.to_string(), expected));
            }
            sums.entries.insert(name.to_owned(), entry);
        }
        if sums.entries.is_empty() {
            return Err(Error::Malformed {
                path: path.into(),
                place: Place::Field("tensors", 0),
                found: "no entries".into(),
                expected: "tensors named NAME.in_sum2 and NAME.counts".into(),
                help: NOT_ONE,
            });
        }
        Ok(sums)
    }
}
