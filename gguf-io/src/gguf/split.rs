//! Models split over several GGUF files, as llama-gguf-split makes them.

use std::path::{Path, PathBuf};

use super::{GgufFile, read, read::Tensor};
use crate::{
    Budget, Error, Metadata, Result, SourceFile, Value,
    error::{Problems, Quoted, Shown},
};

pub(super) const COUNT: &str = "split.count";
pub(super) const NUMBER: &str = "split.no";
pub(super) const TENSORS: &str = "split.tensors.count";

/// The numbers in a shard's file name: `PREFIX-00002-of-00003.gguf` is shard 2 of 3.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShardName {
    prefix: String,
    /// Counted from 1.
    number: u64,
    count: u64,
}

impl ShardName {
    /// The name without the numbers.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Its number, from 1.
    #[cfg(feature = "remote")]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// How many shards there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn parse(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        Some(Self { prefix: prefix.to_owned(), number: digits(number)?, count: digits(count)? })
    }

    /// The path of a shard of the same model, in the same folder.
    pub(crate) fn sibling(&self, path: &Path, number: u64) -> PathBuf {
        let Self { prefix, count, .. } = self;
        path.with_file_name(format!("{prefix}-{number:05}-of-{count:05}.gguf"))
    }
}

fn digits(text: &str) -> Option<u64> {
    (text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

const HELP: &str = "give the first shard and keep all of them, with their names, in one folder";

/// Opens the other shards of a model whose first file has been read. Those of `elsewhere` are known by
/// their names; others are beside the first.
pub(super) fn open_rest<T: Tensor>(
    mut model: GgufFile<T>,
    path: &Path,
    count: u64,
    elsewhere: &[SourceFile],
    budget: &mut Budget,
) -> Result<GgufFile<T>> {
    let opened = |path: &Path| {
        let same = |file: &&SourceFile| file.path().file_name() == path.file_name();
        elsewhere.iter().find(same).map_or_else(|| SourceFile::open(path), |file| Ok(file.clone()))
    };
    let mut problems = Problems::default();
    match first_shard(&model.metadata, path, count) {
        Err(problem) => problems.add(|| problem),
        Ok(name) => {
            for number in 2..=count {
                let path = name.sibling(path, number);
                let added = match opened(&path) {
                    // The same for each of the others.
                    Err(error @ Error::OpenFiles { .. }) => {
                        let more = usize::try_from(count.saturating_sub(number));
                        return Err(error.with_more_files(more.unwrap_or(usize::MAX)));
                    }
                    Err(_) if !path.exists() => {
                        Err(format!("shard {number} is missing: {}", Shown(&path)))
                    }
                    Err(error) => Err(error.to_string()),
                    Ok(file) => add(&mut model, file, &path, number, count, budget),
                };
                if let Err(problem) = added {
                    problems.add(|| problem);
                }
            }
            if problems.count() == 0 {
                across(&model, &mut problems);
            }
        }
    }
    problems.into_result(path, HELP).map(|()| model)
}

/// The name of a file, if it and the metadata agree that it is the first of `count` shards.
fn first_shard(metadata: &Metadata, path: &Path, count: u64) -> Result<ShardName, String> {
    let Some(name) = ShardName::parse(path) else {
        return Err(format!(
            "key {COUNT} says {count} shards, but the file is not named like one \
             (NAME-00001-of-{count:05}.gguf)"
        ));
    };
    if name.count != count {
        return Err(format!("key {COUNT} says {count} shards, the file name {}", name.count));
    }
    let number = metadata.get_u64(NUMBER);
    if number == Some(0) && name.number == 1 {
        return Ok(name);
    }
    let first = name.sibling(path, 1);
    Err(match number {
        Some(n) if n.checked_add(1) == Some(name.number) => format!(
            "is shard {} of {count}, not the first, which is {}",
            name.number,
            Shown(&first)
        ),
        _ => format!(
            "is shard {} of {count} by its name but key {NUMBER} says {}, counted from 0; \
             the first shard is {}",
            name.number,
            shown_number(metadata, NUMBER),
            Shown(&first)
        ),
    })
}

fn shown_number(metadata: &Metadata, key: &str) -> String {
    match (metadata.get_u64(key), metadata.get(key)) {
        (Some(n), _) => n.to_string(),
        (None, Some(value)) => format!("a {}", value.value_type().name()),
        (None, None) => "nothing".to_owned(),
    }
}

/// Reads one more shard, or says what is wrong with it.
fn add<T: Tensor>(
    model: &mut GgufFile<T>,
    file: SourceFile,
    path: &Path,
    number: u64,
    count: u64,
    budget: &mut Budget,
) -> Result<(), String> {
    budget.admit(file.len());
    let header = read::header(&file, model.files.len(), budget).map_err(|e| e.to_string())?;
    let expected = number.checked_sub(1);
    for (key, expected) in [(NUMBER, expected), (COUNT, Some(count))] {
        let found = header.metadata.get_u64(key);
        if found != expected {
            return Err(format!(
                "{}: key {key} is {}, expected {}",
                Shown(path),
                shown_number(&header.metadata, key),
                expected.unwrap_or_default(),
            ));
        }
    }
    // Loaders take the first shard's word for all: where another contradicts it, one is of another model.
    for (key, value) in header.metadata.iter().filter(|(key, _)| !OF_EACH.contains(key)) {
        if let Some(first) = model.metadata.get(key)
            && !same(first, value)
        {
            let (found, expected) = (shown(value), shown(first));
            let key = Quoted(key);
            return Err(format!(
                "{}: key {key} is {found}, in the first shard {expected}: they are of different models",
                Shown(path),
            ));
        }
    }
    model.files.push(file);
    model.tensors.extend(header.tensors);
    model.data.push(header.data);
    Ok(())
}

/// Keys that each shard has for itself.
const OF_EACH: [&str; 4] = [COUNT, NUMBER, TENSORS, "general.alignment"];

/// Whether two values are the same: integers of any width, and NaN too.
fn same(a: &Value, b: &Value) -> bool {
    let is_nan = |value: &Value| value.as_f64().is_some_and(f64::is_nan);
    let is_same_integer = || a.as_i64().is_some_and(|a| b.as_i64() == Some(a));
    a == b || is_same_integer() || is_nan(a) && is_nan(b)
}

/// A value, in few words.
fn shown(value: &Value) -> String {
    match (value, value.as_i64(), value.as_f64()) {
        (Value::String(text), ..) => Quoted(&text.to_string()).to_string(),
        (Value::Bool(is_true), ..) => is_true.to_string(),
        (Value::Array(array), ..) => format!("another list of {}", array.len()),
        (Value::Uint64(number), ..) => number.to_string(),
        (_, Some(number), _) => number.to_string(),
        (_, _, Some(number)) => number.to_string(),
        _ => value.value_type().name().to_owned(),
    }
}

/// What only shows with all shards at hand.
fn across<T: Tensor>(model: &GgufFile<T>, problems: &mut Problems) {
    let mut sorted: Vec<&T> = model.tensors.iter().collect();
    sorted.sort_by(|a, b| a.name().cmp(b.name()).then(a.file().cmp(&b.file())));
    for pair in sorted.windows(2) {
        if let [a, b] = pair
            && a.name() == b.name()
        {
            problems.add(|| {
                format!(
                    "tensor {} is in shard {} and in shard {}",
                    Quoted(a.name()),
                    a.file().saturating_add(1),
                    b.file().saturating_add(1)
                )
            });
        }
    }
    let found = model.tensors.len() as u64;
    if model.metadata.get_u64(TENSORS) != Some(found) {
        problems.add(|| {
            format!(
                "key {TENSORS} says {}, the shards hold {found} tensors",
                shown_number(&model.metadata, TENSORS)
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_names() {
        let name = |text: &str| ShardName::parse(Path::new(text));
        let shard = name("dir/a-of-b-00002-of-00003.gguf").unwrap();
        assert_eq!((shard.number, shard.count), (2, 3));
        assert_eq!(
            shard.sibling(Path::new("dir/x"), 1),
            Path::new("dir/a-of-b-00001-of-00003.gguf")
        );
        for bad in [
            "model.gguf",
            "m-1-of-3.gguf",
            "m-00001-of-0000x.gguf",
            "m-00001-of-00003.bin",
            "00001-of-00003.gguf",
            "m-+0001-of-00003.gguf",
        ] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }
}
