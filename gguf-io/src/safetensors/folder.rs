//! What is in a folder of weights.

use std::{collections::BTreeSet, path::Path};

use super::shards::Shard;
use crate::{Error, Result, SourceFile};

pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const SINGLE: &str = "model.safetensors";

/// A folder of this machine, some of whose files may be elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folder<'a> {
    pub(super) path: &'a Path,
    /// Known by their names; they come before those in the folder.
    pub(super) elsewhere: &'a [SourceFile],
}

impl Folder<'_> {
    pub(super) fn elsewhere(self, name: &str) -> Option<SourceFile> {
        self.elsewhere.iter().find(|file| file.path().file_name() == Some(name.as_ref())).cloned()
    }

    /// The names of the files and folders in it.
    pub(super) fn names(self) -> Result<BTreeSet<String>> {
        let mut names = names(self.path)?;
        let elsewhere = self.elsewhere.iter().filter_map(|file| file.path().file_name()?.to_str());
        names.extend(elsewhere.map(str::to_owned));
        Ok(names)
    }

    pub(super) fn open(self, name: &str) -> Result<SourceFile> {
        match self.elsewhere(name) {
            Some(file) => Ok(file),
            None => SourceFile::open(&self.path.join(name)),
        }
    }
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
