//! Which files of a folder are its weights.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    folder::{Folder, INDEX, SINGLE},
    index::Index,
    neighbours,
    shards::{self, INCOMPLETE, Shard, few},
};
use crate::{
    Budget, Error, Result, SourceFile,
    error::{Problems, Quoted, Shown},
};

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
