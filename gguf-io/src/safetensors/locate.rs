//! The folder of a checkpoint that a path stands for.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    folder::{self, INDEX, SINGLE},
    neighbours,
    shards::{Shard, few},
};
use crate::{
    Error, Result, SourceFile,
    error::{Quoted, Shown},
};

/// Finds the checkpoint that a path given by a person stands for: the folder itself; the snapshot
/// in a folder of the Hugging Face cache (`models--ORG--NAME`); the only checkpoint among the
/// folders in it; the folder of a file such as `config.json`. Where another path was given than is
/// read, a warning names both.
///
/// Any other file, and a path that leads nowhere, is returned as it is.
///
/// # Errors
/// [`Error::NotAModel`] for a folder that holds something else: says what that is, as far as it can
/// be recognised, and what to do. [`Error::Io`] if a folder cannot be read.
pub fn locate(path: &Path) -> Result<PathBuf> {
    match std::fs::metadata(path) {
        Ok(stat) if stat.is_dir() => {}
        Ok(stat) if stat.is_file() => return Ok(of_file(path)),
        _ => return elsewhere(path).map_or_else(|| Ok(path.into()), Err),
    }
    let names = folder::names(path)?;
    if folder::has_weights(&names) {
        return Ok(path.into());
    }
    if let Some(snapshot) = snapshot(path, &names)? {
        return Ok(snapshot);
    }
    // What is something itself is not a place where others are kept.
    let something = ["config.json", "model_index.json"].iter().any(|name| names.contains(*name))
        || names.iter().any(|name| neighbours::is_model_gguf(&name.to_lowercase()))
        || neighbours::is_adapter(&names);
    if something { Err(neighbours::folder(path, &names)) } else { within(path, &names) }
}

/// The error for what is no file but the address or the name of a model on a server.
fn elsewhere(path: &Path) -> Option<Error> {
    #[cfg(not(feature = "remote"))]
    const HELP: &str = "download it first, and give the folder or file: hf download ORG/NAME \
        --local-dir DIR";
    #[cfg(feature = "remote")]
    const HELP: &str = "give its address to a command that reads those (hf://ORG/NAME), or download it \
        first: hf download ORG/NAME --local-dir DIR";
    let text = path.to_str()?;
    let address = ["hf://", "https://", "http://"];
    // A name of the Hub: two words, of which there is no folder.
    let is_name = || {
        let (org, name) = text.split_once('/')?;
        let word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphanumeric())
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        (word(org) && word(name) && !name.ends_with(".gguf") && !Path::new(org).exists())
            .then_some("no folder here, but may be a model of the Hugging Face Hub")
    };
    let found = match address.iter().any(|start| text.starts_with(start)) {
        true => "an address, not a file",
        false => is_name()?,
    };
    Some(Error::NotAModel {
        path: path.into(),
        found: found.to_owned(),
        expected: "a file or folder of this machine",
        help: HELP,
    })
}

/// The folder of a file that is part of a checkpoint, else the file.
fn of_file(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return path.into(),
    };
    let part = ["config.json", SINGLE, INDEX].contains(&&*name) || Shard::parse(&name).is_some();
    if !part || !folder.join("config.json").is_file() {
        return path.into();
    }
    tracing::warn!(
        kind = "input",
        "{}: is one file of a checkpoint; the checkpoint {} is read as a whole",
        Shown(path),
        Shown(folder)
    );
    folder.into()
}

/// The snapshot in a folder of the Hugging Face cache: the one that `refs/main` names, else the
/// only one there is.
fn snapshot(dir: &Path, names: &BTreeSet<String>) -> Result<Option<PathBuf>> {
    /// Bytes of the name of a commit, and more.
    const LONGEST: u64 = 256;
    let root = match (dir.file_name(), dir.parent()) {
        (Some(name), Some(parent)) if name == "snapshots" && parent.join("refs").is_dir() => parent,
        _ if names.contains("snapshots") && (names.contains("refs") || names.contains("blobs")) => {
            dir
        }
        _ => return Ok(None),
    };
    let snapshots = root.join("snapshots");
    let there: Vec<String> =
        folder::names(&snapshots)?.into_iter().filter(|n| snapshots.join(n).is_dir()).collect();
    let main = root.join("refs").join("main");
    let main = match main.is_file() {
        true => SourceFile::open(&main)?.read_all(LONGEST)?,
        false => Vec::new(),
    };
    let main = String::from_utf8_lossy(main.trim_ascii()).into_owned();
    let shown: Vec<_> = there.iter().map(String::as_str).collect();
    let wrong = |found, help| {
        Err(Error::NotAModel { path: dir.into(), found, expected: "a folder with weights", help })
    };
    // Compared with what is there, a name with a separator leads nowhere else.
    let chosen = match (there.iter().find(|name| **name == main), there.as_slice()) {
        (Some(chosen), [_]) => chosen,
        (Some(chosen), _) => {
            tracing::warn!(
                kind = "input",
                "{}: is a folder of the Hugging Face cache with the snapshots {}; the one that \
                 refs/main names is read, snapshots/{}",
                Shown(dir),
                few(&shown),
                Shown(Path::new(chosen))
            );
            chosen
        }
        (None, [only]) => {
            if !main.is_empty() {
                tracing::warn!(
                    kind = "input",
                    "{}: is a folder of the Hugging Face cache whose refs/main names {}, which is \
                     not there; the only snapshot is read, snapshots/{}",
                    Shown(dir),
                    Quoted(&main),
                    Shown(Path::new(only))
                );
            }
            only
        }
        (None, []) => {
            return wrong(
                "a folder of the Hugging Face cache without a snapshot".to_owned(),
                "the download did not finish, download the model again",
            );
        }
        (None, _) => {
            return wrong(
                format!(
                    "a folder of the Hugging Face cache with the snapshots {}, none of which \
                     refs/main names",
                    few(&shown)
                ),
                "give the path of one of them: snapshots/COMMIT",
            );
        }
    };
    let folder = snapshots.join(chosen);
    let inside = folder::names(&folder)?;
    match folder::has_weights(&inside) {
        true => Ok(Some(folder)),
        false => Err(neighbours::folder(&folder, &inside)),
    }
}

/// The only checkpoint among the folders in a folder.
fn within(dir: &Path, names: &BTreeSet<String>) -> Result<PathBuf> {
    /// Folders that are looked into.
    const MOST: usize = 1024;
    let mut found = Vec::new();
    for name in names.iter().take(MOST) {
        let folder = dir.join(name);
        if !folder.is_dir() {
            continue;
        }
        // What cannot be read is none.
        let inside = folder::names(&folder).unwrap_or_default();
        let cached = name.starts_with("models--") && inside.contains("snapshots");
        if cached || (inside.contains("config.json") && folder::has_weights(&inside)) {
            found.push((name.as_str(), folder, inside));
        }
    }
    match found.as_slice() {
        [] => Err(neighbours::folder(dir, names)),
        [(name, folder, inside)] => {
            tracing::warn!(
                kind = "input",
                "{}: holds no weights itself; the checkpoint in its folder {} is read",
                Shown(dir),
                Shown(Path::new(name))
            );
            Ok(snapshot(folder, inside)?.unwrap_or_else(|| folder.clone()))
        }
        several => {
            let names: Vec<_> = several.iter().map(|(name, ..)| *name).collect();
            Err(Error::NotAModel {
                path: dir.into(),
                found: format!("a folder with several checkpoints: {}", few(&names)),
                expected: "one checkpoint",
                help: "give the path of one of them",
            })
        }
    }
}
