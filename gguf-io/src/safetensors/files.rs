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
    neighbours,
    shards::{self, Shard, few},
};
use crate::{
    Budget, Error, Place, Result, SourceFile,
    error::{Problems, Quoted, Shown},
    json,
    sniff::{self, Kind},
};

pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const SINGLE: &str = "model.safetensors";
pub(super) const INCOMPLETE: &str = "download the checkpoint again, all of its files";
const LEFT_OVER: &str = "remove the shards that are left over from another model, or download the \
    checkpoint again, all of its files";
const STALE: &str = "the index is of other files than those in the folder: remove what is out of \
    date, or download the checkpoint again";

/// Which weights count in a folder that holds `model.safetensors` and an index of other files: a
/// model was saved into the folder of another, and one of the two is out of date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// `model.safetensors`, as transformers has it.
    #[default]
    SingleFile,
    /// The files of the index, as llama.cpp's converter has it.
    Index,
}

/// Files of weights, and the index that is to be compared with them.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) files: Vec<SourceFile>,
    pub(super) index: Option<Index>,
    /// Whether the files are refused where the index does not fit them.
    pub(super) strict: bool,
}

/// A folder of this machine, some of whose files may be elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folder<'a> {
    pub(super) path: &'a Path,
    /// Known by their names; they come before those in the folder.
    pub(super) elsewhere: &'a [SourceFile],
}

impl Folder<'_> {
    fn elsewhere(self, name: &str) -> Option<SourceFile> {
        self.elsewhere.iter().find(|file| file.path().file_name() == Some(name.as_ref())).cloned()
    }

    /// The names of the files and folders in it.
    fn names(self) -> Result<BTreeSet<String>> {
        let mut names = names(self.path)?;
        let elsewhere = self.elsewhere.iter().filter_map(|file| file.path().file_name()?.to_str());
        names.extend(elsewhere.map(str::to_owned));
        Ok(names)
    }

    fn open(self, name: &str) -> Result<SourceFile> {
        match self.elsewhere(name) {
            Some(file) => Ok(file),
            None => SourceFile::open(&self.path.join(name)),
        }
    }
}

/// The files that an index names, in its order. Nothing is known of them.
#[cfg(feature = "remote")]
pub(crate) fn named_by_index(index: SourceFile, budget: &mut Budget) -> Result<Vec<String>> {
    Ok(Index::read(index, budget)?.shards.into_iter().collect())
}

/// The names of the files and folders in a folder.
pub(super) fn names(dir: &Path) -> Result<BTreeSet<String>> {
    let io = |error| Error::Io { path: dir.into(), action: "cannot open", error };
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        // Weights have ASCII names, others need not be looked at.
        if let Ok(name) = entry.map_err(io)?.file_name().into_string() {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Whether a folder with these files has weights, complete or not.
pub(super) fn has_weights(names: &BTreeSet<String>) -> bool {
    names.contains(SINGLE)
        || names.contains(INDEX)
        || names.iter().any(|name| Shard::parse(name).is_some())
}

/// Finds the weights of a folder and opens them, in the order of their names.
pub(super) fn find(
    folder: Folder<'_>,
    preference: Preference,
    budget: &mut Budget,
) -> Result<Found> {
    let dir = folder.path;
    let io = |error| Error::Io { path: dir.into(), action: "cannot open", error };
    if !std::fs::metadata(dir).map_err(io)?.is_dir() {
        return Err(Error::WrongKind {
            path: dir.into(),
            found: "a file",
            expected: "a checkpoint folder",
        });
    }
    let names = folder.names()?;
    let shards: Vec<Shard<'_>> = names.iter().filter_map(|name| Shard::parse(name)).collect();
    let index = names
        .contains(INDEX)
        .then(|| folder.open(INDEX).and_then(|file| Index::read(file, budget)));
    let mut strict = true;
    let (chosen, index) = match (index, names.contains(SINGLE)) {
        (index, true) => {
            let single = vec![SINGLE.to_owned()];
            match beside(folder, preference, index, &shards)? {
                Some((names, index)) => {
                    strict = names != single;
                    (names, Some(index))
                }
                None => (single, None),
            }
        }
        (Some(index), false) => {
            let index = index?;
            (index.shard_names(folder, &shards)?, Some(index))
        }
        (None, false) if !shards.is_empty() => {
            shards::complete(dir, &shards)?;
            (shards.iter().map(|shard| shard.name.to_owned()).collect(), None)
        }
        (None, false) => return Err(neighbours::folder(dir, &names)),
    };
    refuse_dangling(dir, &chosen)?;
    warn_of_others(dir, &names);
    let open = |(i, name): (usize, &String)| {
        folder.open(name).map_err(|error| error.with_more_files(chosen.len() - i - 1))
    };
    let files = chosen.iter().enumerate().map(open).collect::<Result<_>>()?;
    Ok(Found { files, index, strict })
}

/// Says what else is beside the weights and is not read: weights in Mistral's own format, as in its
/// repositories, and an adapter, which transformers would apply.
fn warn_of_others(dir: &Path, names: &BTreeSet<String>) {
    let of_mistral =
        |name: &&String| name.starts_with("consolidated") && name.ends_with(".safetensors");
    let there: Vec<_> = names.iter().filter(of_mistral).map(String::as_str).collect();
    if !there.is_empty() {
        tracing::warn!(
            kind = "two-sets-of-weights",
            "{}: {}: weights in Mistral's own format, left out; those in model*.safetensors are \
             read",
            Shown(dir),
            few(&there)
        );
    }
    if names.contains(neighbours::ADAPTER) {
        tracing::warn!(
            kind = "adapter",
            "{}: {} stands beside the weights, which are converted without the adapter; merge it \
             into its base model first if it belongs to them",
            Shown(dir),
            neighbours::ADAPTER
        );
    }
}

/// Refuses links to nothing, as the Hugging Face cache has them where a download did not finish.
fn refuse_dangling(dir: &Path, chosen: &[String]) -> Result<()> {
    let mut problems = Problems::default();
    let dangles = |path: PathBuf| path.is_symlink() && !path.exists();
    for name in chosen.iter().filter(|name| dangles(dir.join(name))) {
        problems.add(|| format!("{} is a link that leads nowhere", Quoted(name)));
    }
    problems.into_result(dir, INCOMPLETE)
}

/// Decides between `model.safetensors` and what stands beside it. Returns the files of the index
/// if those count, and nothing for the single file.
fn beside(
    folder: Folder<'_>,
    preference: Preference,
    index: Option<Result<Index>>,
    shards: &[Shard<'_>],
) -> Result<Option<(Vec<String>, Index)>> {
    let dir = folder.path;
    let warn = |other: &str, read: &str| {
        tracing::warn!(
            kind = "two-sets-of-weights",
            "{}: {SINGLE} stands beside {other}; {read}; remove what is out of date",
            Shown(dir)
        );
    };
    let of_single = matches!(&index, Some(Ok(index)) if index.is_of_single());
    if (index.is_none() || of_single) && !shards.is_empty() {
        let names: Vec<_> = shards.iter().map(|shard| shard.name).collect();
        let other = format!("the shards {}", few(&names));
        warn(&other, &format!("{SINGLE} is read, the shards are not"));
    }
    let Some(index) = index else { return Ok(None) };
    if preference == Preference::Index {
        let index = index?;
        // What else is there is no part of the set, as there.
        let names = index.shard_names(folder, &[])?;
        if !index.is_of_single() {
            let read = format!("the files of the index are read, {SINGLE} is not");
            warn(&index.shown(), &read);
        }
        return Ok(Some((names, index)));
    }
    match index {
        Ok(index) if of_single => Ok(Some((vec![SINGLE.to_owned()], index))),
        Ok(index) if index.shards.contains(SINGLE) && index.shard_names(folder, shards).is_ok() => {
            warn(&index.shown(), "it is one of the files that the index names, and all are read");
            index.shard_names(folder, shards).map(|names| Some((names, index)))
        }
        index => {
            let other = match &index {
                Ok(index) => index.shown(),
                Err(_) => format!("{INDEX}, which cannot be read"),
            };
            let read = format!(
                "{SINGLE} is read, as transformers does, what the index names is not (it is with \
                 `Preference::Index`)"
            );
            warn(&other, &read);
            Ok(None)
        }
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
    fn is_of_single(&self) -> bool {
        self.shards.len() == 1 && self.shards.contains(SINGLE)
    }

    /// The index and what it names, for a message.
    fn shown(&self) -> String {
        let mut names: Vec<_> = self.shards.iter().map(String::as_str).collect();
        names.sort_unstable();
        format!("{INDEX}, which names {}", few(&names))
    }

    /// The names of the shards, sorted, if the index names files in the folder that are all there, and
    /// leaves out none of `present`.
    fn shard_names(&self, folder: Folder<'_>, present: &[Shard<'_>]) -> Result<Vec<String>> {
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
