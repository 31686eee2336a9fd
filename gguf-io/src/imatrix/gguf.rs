//! Importance matrices in GGUF files: for each weight a tensor `NAME.in_sum2` with the sums of the
//! squared activations of each column, and `NAME.counts` with how often each matrix was used.

use std::collections::BTreeMap;

use quant_core::GgmlType;

use super::{BrokenEntry, Entry, Imatrix, ImatrixEntry, check_values};
use crate::{
    Array, Budget, Error, Place, Result, SourceFile, TensorInfo, Value,
    error::{DAMAGED, Quoted},
    gguf::{
        check,
        read::{self, Header},
    },
};

pub(super) const DATASETS: &str = "imatrix.datasets";
pub(super) const CHUNK_COUNT: &str = "imatrix.chunk_count";
pub(super) const CHUNK_SIZE: &str = "imatrix.chunk_size";
pub(super) const NOT_ONE: &str = "the file is no importance matrix, or one of a model's own files";

pub(super) fn read(file: &SourceFile, budget: &mut Budget) -> Result<Imatrix> {
    let Header::<TensorInfo> { metadata, tensors, data, .. } = read::header(file, 0, budget)?;
    if let Some(architecture) = metadata.get_str("general.architecture")
        && metadata.get(DATASETS).is_none()
    {
        return Err(Error::NotAModel {
            path: file.path().into(),
            found: format!("a GGUF model of architecture {}", Quoted(architecture)),
            expected: "an importance matrix",
            help: "give the file that llama-imatrix wrote for the model",
        });
    }
    check::file(file, &data, tensors.iter())?;
    let malformed = |place, found: String, expected: &str, help| Error::Malformed {
        path: file.path().into(),
        place,
        found: found.into(),
        expected: expected.into(),
        help,
    };
    let key = |key: &str| {
        metadata.get(key).ok_or_else(|| {
            malformed(
                Place::Key(key.to_owned(), 0),
                "nothing".to_owned(),
                "the key in an importance matrix",
                NOT_ONE,
            )
        })
    };
    let wrong_type = |key: &str, value: &Value, expected: &str| {
        malformed(
            Place::Key(key.to_owned(), 0),
            format!("a value of type {}", value.value_type().name()),
            expected,
            DAMAGED,
        )
    };
    let datasets = match key(DATASETS)? {
        Value::Array(Array::String(texts)) => {
            let place = Place::Key(DATASETS.to_owned(), 0);
            // Bytes that are not UTF-8 become three bytes each.
            for text in texts {
                let len = (text.as_bytes().len() as u64).saturating_mul(3);
                budget.debit_array(len.saturating_add(24), 1, file.path(), &place)?;
            }
            texts.iter().map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned()).collect()
        }
        other => return Err(wrong_type(DATASETS, other, "an array of STRING")),
    };
    let chunk_count = match key(CHUNK_COUNT)? {
        // llama-quantize keeps it in an int and writes it only if positive.
        Value::Uint32(n) => i32::try_from(*n).ok().filter(|n| *n > 0).map(i32::cast_unsigned),
        other => return Err(wrong_type(CHUNK_COUNT, other, "a UINT32")),
    };
    match key(CHUNK_SIZE)? {
        Value::Uint32(_) => {}
        other => return Err(wrong_type(CHUNK_SIZE, other, "a UINT32")),
    }

    budget.debit_array(
        tensors.len() as u64,
        size_of::<(&str, Pair<'_>)>(),
        file.path(),
        &Place::Field("entries", 0),
    )?;
    let mut pairs: BTreeMap<&str, Pair<'_>> = BTreeMap::new();
    for tensor in &tensors {
        if let Some(name) = tensor.name.strip_suffix(".in_sum2") {
            pairs.entry(name).or_default().sums = Some(tensor);
        } else if let Some(name) = tensor.name.strip_suffix(".counts") {
            pairs.entry(name).or_default().counts = Some(tensor);
        }
    }
    if pairs.is_empty() {
        return Err(malformed(
            Place::Field("tensors", 0),
            "no entries".to_owned(),
            "tensors named NAME.in_sum2 and NAME.counts",
            NOT_ONE,
        ));
    }
    budget.debit_array(
        pairs.len() as u64,
        super::ENTRY_BYTES,
        file.path(),
        &Place::Field("entries", 0),
    )?;
    let mut imatrix = Imatrix::new(datasets, chunk_count);
    for (name, pair) in pairs {
        let missing = |there: &TensorInfo, what| {
            let place = Place::Tensor(there.name.clone(), there.offset);
            let found = format!("no tensor \"{}.{what}\"", name.escape_debug());
            Err(BrokenEntry::new(file, &place, found, "in_sum2 and counts of each entry"))
        };
        let entry = match (pair.sums, pair.counts) {
            (Some(sums), Some(counts)) => {
                let place = Place::Tensor(name.to_owned(), sums.offset);
                entry(file, &place, sums, counts, budget)?
            }
            (Some(sums), None) => missing(sums, "counts"),
            (None, Some(counts)) => missing(counts, "in_sum2"),
            (None, None) => continue,
        };
        let place = Place::Field("entries", 0);
        budget.debit_array(name.len() as u64, 1, file.path(), &place)?;
        imatrix.insert(name.to_owned(), entry, budget)?;
    }
    Ok(imatrix)
}

#[derive(Default)]
struct Pair<'a> {
    sums: Option<&'a TensorInfo>,
    counts: Option<&'a TensorInfo>,
}

pub(super) fn floats(
    file: &SourceFile,
    tensor: &TensorInfo,
    budget: &mut Budget,
) -> Result<Vec<f32>> {
    let place = Place::Tensor(tensor.name.clone(), tensor.offset);
    let len = usize::try_from(tensor.bytes).map_err(|_| Error::LimitsExceeded {
        path: file.path().into(),
        place: place.clone(),
        needed: tensor.bytes,
        left: usize::MAX as u64,
        limit: usize::MAX as u64,
    })?;
    let bytes = file.read_vec(tensor.offset, len, budget)?;
    budget.debit(len as u64, file.path(), &place)?;
    let values = bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    drop(bytes);
    budget.credit(len as u64);
    Ok(values)
}

/// Means from sums and counts, in the arithmetic of llama-quantize: the count is rounded to a whole
/// number, the division is in single precision, and a matrix that was never used has ones.
fn entry(
    file: &SourceFile,
    place: &Place,
    sums: &TensorInfo,
    counts: &TensorInfo,
    budget: &mut Budget,
) -> Entry {
    if let Some(other) = [sums, counts].into_iter().find(|t| t.ty != GgmlType::F32) {
        let place = Place::Tensor(other.name.clone(), other.offset);
        return Ok(Err(BrokenEntry::new(file, &place, format!("type {}", other.ty), "F32")));
    }
    let mut values = floats(file, sums, budget)?;
    let counts = floats(file, counts, budget)?;
    let columns = values.len().checked_div(counts.len()).unwrap_or_default();
    if columns == 0 || columns.checked_mul(counts.len()) != Some(values.len()) {
        let found = format!("{} sums for {} counts", values.len(), counts.len());
        let expected = "the same number of sums for each count";
        return Ok(Err(BrokenEntry::new(file, place, found, expected)));
    }
    if let Err(broken) = check_values(file, place, &counts) {
        return Ok(Err(broken));
    }
    // Through an integer, as there; `round` ties away from zero like `lround`.
    let counts: Vec<f32> = counts.into_iter().map(|count| count.round() as i64 as f32).collect();
    for (matrix, count) in values.chunks_exact_mut(columns).zip(&counts) {
        if *count <= 0.0 {
            matrix.fill(1.0);
        }
    }
    // Before they are divided, so that the message has what the file holds.
    let checked = check_values(file, place, &values);
    for (matrix, count) in values.chunks_exact_mut(columns).zip(&counts) {
        if *count > 0.0 {
            matrix.iter_mut().for_each(|value| *value /= count);
        }
    }
    let matrices = counts.len();
    budget.credit((matrices as u64).saturating_mul(4));
    Ok(checked.map(|()| ImatrixEntry { values, matrices }))
}
