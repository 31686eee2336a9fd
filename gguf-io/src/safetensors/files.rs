//! Which files of a folder are its weights.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use indexmap::IndexSet;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::{
    Checkpoint,
    json::{Charge, Skip},
};
use crate::{
    Budget, Error, Place, Result, SourceFile,
    error::{Problems, Quoted, Shown},
    sniff::{self, Kind, PICKLE_HELP},
};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
const INCOMPLETE: &str = "download the checkpoint again, all of its files";

/// Finds the weights of a folder and opens them, in the order of their names.
pub(super) fn find(dir: &Path, budget: &mut Budget) -> Result<(Vec<SourceFile>, Option<Index>)> {
    let io = |error| Error::Io { path: dir.into(), action: "cannot open", error };
    if !std::fs::metadata(dir).map_err(io)?.is_dir() {
        return Err(Error::WrongKind {
            path: dir.into(),
            found: "a file",
            expected: "a checkpoint folder",
        });
    }
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        // Weights have ASCII names, others need not be looked at.
        if let Ok(name) = entry.map_err(io)?.file_name().into_string() {
            names.insert(name);
        }
    }
    let shards: BTreeSet<&str> =
        names.iter().map(String::as_str).filter(|name| shard_numbers(name).is_some()).collect();

    let (chosen, index): (Vec<PathBuf>, _) = if names.contains(INDEX) {
        let index = Index::read(SourceFile::open(&dir.join(INDEX))?, budget)?;
        let paths = index.shard_paths(dir, &shards)?;
        (paths, Some(index))
    } else if names.contains(SINGLE) {
        (vec![dir.join(SINGLE)], None)
    } else if !shards.is_empty() {
        complete(dir, &shards)?;
        (shards.iter().map(|name| dir.join(name)).collect(), None)
    } else {
        return Err(no_weights(dir, &names));
    };
    let open = |(i, path): (usize, &PathBuf)| {
        SourceFile::open(path).map_err(|e| e.with_more_files(chosen.len() - i - 1))
    };
    let files = chosen.iter().enumerate().map(open).collect::<Result<_>>()?;
    Ok((files, index))
}

/// The numbers of `model-00002-of-00003.safetensors`.
fn shard_numbers(name: &str) -> Option<(u32, u32)> {
    let number = |text: &str| {
        (text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
    };
    let (n, of) = name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
    Some((number(n)?, number(of)?))
}

/// Checks that shards found without an index are all there are.
fn complete(dir: &Path, shards: &BTreeSet<&str>) -> Result<()> {
    let numbers: Vec<_> = shards.iter().filter_map(|name| shard_numbers(name)).collect();
    let counts: BTreeSet<u32> = numbers.iter().map(|(_, of)| *of).collect();
    let mut problems = Problems::default();
    if counts.len() > 1 {
        problems.add(|| format!("shards of different sets: of {counts:?}"));
    }
    for &of in &counts {
        for n in 1..=of {
            if !numbers.contains(&(n, of)) {
                problems.add(|| format!("model-{n:05}-of-{of:05}.safetensors is missing"));
            }
        }
        for (n, _) in numbers.iter().filter(|&&(n, o)| o == of && !(1..=of).contains(&n)) {
            problems.add(|| format!("model-{n:05}-of-{of:05}.safetensors is too many"));
        }
    }
    problems.into_result(dir, INCOMPLETE)
}

fn no_weights(dir: &Path, names: &BTreeSet<String>) -> Error {
    let pickle = names.iter().find(|name| {
        (name.starts_with("pytorch_model") && name.ends_with(".bin"))
            || name.ends_with(".pt")
            || name.ends_with(".pth")
    });
    match pickle {
        Some(name) => Error::NotAModel {
            path: dir.into(),
            found: format!("a folder with weights only as PyTorch pickles ({})", Quoted(name)),
            expected: "safetensors weights",
            help: PICKLE_HELP,
        },
        None => Error::NotAModel {
            path: dir.into(),
            found: "a folder without weights".into(),
            expected: "model.safetensors, or model.safetensors.index.json and its shards",
            help: "give the folder that holds them, or a GGUF file",
        },
    }
}

/// `model.safetensors.index.json`: which shard has which tensor.
#[derive(Debug)]
pub(super) struct Index {
    file: SourceFile,
    /// File names as written, not yet to be trusted.
    shards: IndexSet<String>,
    /// Tensors with the number of their shard, sorted by name.
    tensors: Vec<(String, usize)>,
}

impl Index {
    fn read(file: SourceFile, budget: &mut Budget) -> Result<Self> {
        budget.admit(file.len());
        match Kind::of(&sniff::head(&file)?) {
            Kind::Json | Kind::Other => {}
            other => return Err(other.error(&file, "a JSON index of shards")),
        }
        let longest = budget.limits().json;
        let len = usize::try_from(file.len()).ok().filter(|_| file.len() <= longest).ok_or_else(
            || Error::Malformed {
                path: file.path().into(),
                place: Place::Field("index", 0),
                found: format!("an index of {} bytes", file.len()).into(),
                expected: format!("at most {longest}").into(),
                help: INCOMPLETE,
            },
        )?;
        let json = file.read_vec(0, len, budget)?;
        let mut shards = IndexSet::new();
        let mut tensors = Vec::new();
        let mut charge = Charge::new(&file, budget, Place::Field("index", 0));
        let mut parser = serde_json::Deserializer::from_slice(&json);
        let result =
            Top(WeightMap { charge: &mut charge, shards: &mut shards, tensors: &mut tensors })
                .deserialize(&mut parser)
                .and_then(|()| parser.end());
        charge.finish(result, "a JSON map with a weight_map of tensors to shards")?;
        drop(json);
        budget.credit(len as u64);

        tensors.sort_unstable();
        let shard = |n: usize| Quoted(shards.get_index(n).map_or("", String::as_str)).to_string();
        for pair in tensors.windows(2) {
            if let [(a, first), (b, second)] = pair
                && a == b
            {
                return Err(Error::Duplicate {
                    path: file.path().into(),
                    what: "tensor",
                    name: a.clone(),
                    first: format!("in {}", shard(*first)),
                    second: format!("in {}", shard(*second)),
                });
            }
        }
        Ok(Self { file, shards, tensors })
    }

    /// The paths of the shards, sorted, if the index names files in `dir` that are all there, and
    /// leaves out none of `present`.
    fn shard_paths(&self, dir: &Path, present: &BTreeSet<&str>) -> Result<Vec<PathBuf>> {
        let mut problems = Problems::default();
        let mut paths = BTreeSet::new();
        for name in &self.shards {
            let path = dir.join(name);
            if name.is_empty()
                || name == "."
                || name == ".."
                || name.contains(['/', '\\', '\0', ':'])
            {
                problems.add(|| format!("shard {} is not a plain file name", Quoted(name)));
            } else if !name.ends_with(".safetensors") {
                problems.add(|| format!("shard {} is not a safetensors file", Quoted(name)));
            } else if std::fs::symlink_metadata(&path).is_err() {
                problems.add(|| format!("shard {} is missing", Quoted(name)));
            } else if std::fs::metadata(&path).is_err() {
                problems.add(|| format!("shard {} is a link that leads nowhere", Quoted(name)));
            } else {
                paths.insert(path);
            }
        }
        for name in present {
            if !self.shards.contains(*name) {
                problems.add(|| format!("shard {} is not in the index", Quoted(name)));
            }
        }
        if self.shards.is_empty() {
            problems.add(|| "the weight_map is empty".to_owned());
        }
        problems.into_result(self.file.path(), INCOMPLETE)?;
        Ok(paths.into_iter().collect())
    }

    /// Checks that every tensor is in the shard the index says, and the index has every tensor.
    pub(super) fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        let shown = |n: usize| match checkpoint.files.get(n).and_then(|f| f.path().file_name()) {
            Some(name) => Shown(Path::new(name)).to_string(),
            None => "no file".to_owned(),
        };
        let mut problems = Problems::default();
        for (name, shard) in &self.tensors {
            let shard = self.shards.get_index(*shard).map_or("", String::as_str);
            match checkpoint.tensors.get(name) {
                None => problems.add(|| {
                    format!(
                        "tensor {} is not in {}, where the index has it",
                        Quoted(name),
                        Shown(Path::new(shard))
                    )
                }),
                Some(found) if shown(found.file) != Shown(Path::new(shard)).to_string() => {
                    problems.add(|| {
                        format!(
                            "tensor {} is in {}, the index has it in {}",
                            Quoted(name),
                            shown(found.file),
                            Shown(Path::new(shard))
                        )
                    });
                }
                Some(_) => {}
            }
        }
        for (name, tensor) in &checkpoint.tensors {
            if self.tensors.binary_search_by(|(n, _)| n.cmp(name)).is_err() {
                problems.add(|| {
                    format!(
                        "tensor {} is in {} but not in the index",
                        Quoted(name),
                        shown(tensor.file)
                    )
                });
            }
        }
        problems.into_result(self.file.path(), INCOMPLETE)
    }
}

/// The index's outer map.
struct Top<'s, 'a>(WeightMap<'s, 'a>);

impl<'de> DeserializeSeed<'de> for Top<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with a weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut weight_map = Some(self.0);
        while let Some(key) = map.next_key::<String>()? {
            if key == "weight_map" {
                let seed =
                    weight_map.take().ok_or_else(|| de::Error::custom("`weight_map` twice"))?;
                map.next_value_seed(seed)?;
            } else {
                map.next_value::<Skip>()?;
            }
        }
        match weight_map {
            None => Ok(()),
            Some(_) => Err(de::Error::custom("no `weight_map`")),
        }
    }
}

struct WeightMap<'s, 'a> {
    charge: &'s mut Charge<'a>,
    shards: &'s mut IndexSet<String>,
    tensors: &'s mut Vec<(String, usize)>,
}

impl<'de> DeserializeSeed<'de> for WeightMap<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensor names to file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // An entry of a set: text, hash, and its part of the index table; doubled for growth.
        const SHARD: usize = 2 * (size_of::<String>() + 8 + 20);
        while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
            self.charge.array(tensor.len(), 1)?;
            let number = match self.shards.get_index_of(&shard) {
                Some(number) => number,
                None => {
                    self.charge.array(1, SHARD.saturating_add(shard.len()))?;
                    self.shards.insert_full(shard).0
                }
            };
            self.charge.push(self.tensors, (tensor, number))?;
        }
        Ok(())
    }
}
