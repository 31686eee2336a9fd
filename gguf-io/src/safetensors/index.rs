//! The index of a checkpoint in several files.

use std::{collections::BTreeSet, fmt, path::Path};

use indexmap::IndexSet;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::{
    Checkpoint,
    folder::{Folder, INDEX, SINGLE},
    json::{Charge, Skip},
    shards::{INCOMPLETE, Shard, few},
};
use crate::{
    Budget, Error, Place, Result, SourceFile,
    error::{Problems, Quoted, Shown},
    json,
    sniff::{self, Kind},
};

const LEFT_OVER: &str = "remove the shards that are left over from another model, or download the \
    checkpoint again, all of its files";
const STALE: &str = "the index is of other files than those in the folder: remove what is out of \
    date, or download the checkpoint again";

/// `model.safetensors.index.json`: which shard has which tensor.
#[derive(Debug)]
pub(super) struct Index {
    file: SourceFile,
    /// File names as written, not yet to be trusted.
    pub(super) shards: IndexSet<String>,
    /// Tensors with the number of their shard, sorted by name.
    tensors: Vec<(String, usize)>,
}

impl Index {
    pub(super) fn read(file: SourceFile, budget: &mut Budget) -> Result<Self> {
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
        let bytes = file.read_vec(0, len, budget)?;
        // Python writes sizes that are no number, editors on Windows a mark.
        let quoted = json::quote_constants(json::without_mark(&bytes));
        let json = quoted.as_deref().unwrap_or(json::without_mark(&bytes));
        let mut shards = IndexSet::new();
        let mut tensors = Vec::new();
        let mut charge = Charge::new(&file, budget, Place::Field("index", 0));
        let mut parser = serde_json::Deserializer::from_slice(json);
        let result =
            Top(WeightMap { charge: &mut charge, shards: &mut shards, tensors: &mut tensors })
                .deserialize(&mut parser)
                .and_then(|()| parser.end());
        charge.finish(result, "a JSON map with a weight_map of tensors to shards")?;
        drop((quoted, bytes));
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

    /// Whether it names `model.safetensors` and nothing else.
    pub(super) fn is_of_single(&self) -> bool {
        self.shards.len() == 1 && self.shards.contains(SINGLE)
    }

    /// The index and what it names, for a message.
    pub(super) fn shown(&self) -> String {
        let mut names: Vec<_> = self.shards.iter().map(String::as_str).collect();
        names.sort_unstable();
        format!("{INDEX}, which names {}", few(&names))
    }

    /// The names of the shards, sorted, if the index names files in the folder that are all there, and
    /// leaves out none of `present`.
    pub(super) fn shard_names(
        &self,
        folder: Folder<'_>,
        present: &[Shard<'_>],
    ) -> Result<Vec<String>> {
        let named: BTreeSet<&str> =
            self.shards.iter().filter_map(|name| Some(Shard::parse(name)?.prefix)).collect();
        let mut problems = Problems::default();
        let mut names = BTreeSet::new();
        for name in &self.shards {
            let path = folder.path.join(name);
            if name.is_empty()
                || name == "."
                || name == ".."
                || name.contains(['/', '\\', '\0', ':'])
            {
                problems.add(|| format!("shard {} is not a plain file name", Quoted(name)));
            } else if !name.ends_with(".safetensors") {
                problems.add(|| format!("shard {} is not a safetensors file", Quoted(name)));
            } else if folder.elsewhere(name).is_some() {
                names.insert(name.clone());
            } else if std::fs::symlink_metadata(&path).is_err() {
                problems.add(|| format!("shard {} is missing", Quoted(name)));
            } else if std::fs::metadata(&path).is_err() {
                problems.add(|| format!("shard {} is a link that leads nowhere", Quoted(name)));
            } else {
                names.insert(name.clone());
            }
        }
        let missing = problems.count() > 0;
        let mut left = false;
        for Shard { name, prefix, .. } in present {
            // A file of another name, such as the layers of a drafter, is no part of the set.
            if !self.shards.contains(*name) && (*prefix == "model" || named.contains(prefix)) {
                left = true;
                problems.add(|| format!("shard {} is not in the index", Quoted(name)));
            }
        }
        if self.shards.is_empty() {
            problems.add(|| "the weight_map is empty".to_owned());
        }
        let help = match (missing, left) {
            (true, true) => STALE,
            (false, true) if !self.shards.is_empty() => LEFT_OVER,
            _ => INCOMPLETE,
        };
        problems.into_result(self.file.path(), help)?;
        Ok(names.into_iter().collect())
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

/// The files that an index names, in its order. Nothing is known of them.
#[cfg(feature = "remote")]
pub(crate) fn named_by_index(index: SourceFile, budget: &mut Budget) -> Result<Vec<String>> {
    Ok(Index::read(index, budget)?.shards.into_iter().collect())
}
