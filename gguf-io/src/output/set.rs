//! Several files that are complete or absent together: the shards of a split model.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    AtomicFile, MARK, OutputOptions, RANDOM, SUFFIX, WriteAt, check_space, check_target,
    flush_folder, folder, io_error, prefix, remove_stale,
};
use crate::{Result, gguf::ShardName};

/// Files that get their names when all of them are complete.
///
/// [`commit`](Self::commit) flushes every one before the first appears. The first of the list
/// appears last, so that a model whose first shard is there is whole. If a name cannot be given,
/// those given already are taken back and what they replaced is put there again; only a process
/// that is killed in that moment leaves some shards without the first.
#[derive(Debug)]
pub struct AtomicSet {
    files: Vec<AtomicFile>,
}

impl AtomicSet {
    /// Creates temporaries for outputs of these lengths, all zero, and claims their space.
    ///
    /// # Errors
    /// As [`AtomicFile::create`], for all of them.
    pub fn create(outputs: &[(PathBuf, u64)], options: OutputOptions) -> Result<Self> {
        // Before any space is claimed: an existing output, and too little space for all.
        for (path, _) in outputs {
            check_target(path, options.overwrite)?;
        }
        if let Some((path, _)) = outputs.first() {
            remove_stale_shards(path);
            let total = outputs.iter().fold(0u64, |sum, (_, len)| sum.saturating_add(*len));
            check_space(path, folder(path), total)?;
        }
        let files = outputs
            .iter()
            .map(|(path, len)| AtomicFile::create(path, *len, options))
            .collect::<Result<_>>()?;
        Ok(Self { files })
    }

    /// Puts other writers around those in use, as [`AtomicFile::wrap_writer`] does.
    pub fn wrap_writer(
        mut self,
        mut wrap: impl FnMut(Box<dyn WriteAt>) -> Box<dyn WriteAt>,
    ) -> Self {
        self.files = self.files.into_iter().map(|file| file.wrap_writer(&mut wrap)).collect();
        self
    }

    /// The files, in the order they were given.
    pub fn files(&self) -> &[AtomicFile] {
        &self.files
    }

    /// Flushes all files, then gives them their names.
    ///
    /// # Errors
    /// As [`AtomicFile::commit`]; the folder is then as it was before.
    pub fn commit(self) -> Result<()> {
        for file in &self.files {
            file.flush()?;
        }
        let first = self.files.first().map(|file| (file.path.clone(), file.options.sync));
        let mut named = Named::default();
        for file in self.files.into_iter().rev() {
            let path = file.path.clone();
            // A folder that has been put there meanwhile could be set aside like a file.
            check_target(&path, file.options.overwrite)?;
            let old = if file.options.overwrite { set_aside(&path)? } else { None };
            // Recorded before, so that also a failure here puts the old file back.
            named.0.push((path, old, false));
            file.publish()?;
            if let Some((.., published)) = named.0.last_mut() {
                *published = true;
            }
        }
        named.keep();
        first.map_or(Ok(()), |(path, sync)| flush_folder(&path, sync))
    }
}

/// Files that have their names, with what those names stood for before. Dropped, it undoes that.
#[derive(Default)]
struct Named(Vec<(PathBuf, Option<PathBuf>, bool)>);

impl Named {
    fn keep(mut self) {
        for (_, old, _) in self.0.drain(..) {
            remove(old.as_deref());
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        for (path, old, published) in self.0.drain(..).rev() {
            let undone = match old {
                Some(old) if published || !path.exists() => std::fs::rename(&old, &path),
                // The name still stands for the old file.
                Some(old) => std::fs::remove_file(&old),
                None if published => std::fs::remove_file(&path),
                None => Ok(()),
            };
            if let Err(error) = undone {
                tracing::warn!(%error, path = %path.display(), "an incomplete set is left behind");
            }
        }
    }
}

fn remove(path: Option<&Path>) {
    if let Some(path) = path
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(%error, path = %path.display(), "the file that was replaced is left behind");
    }
}

/// Gives a file that is about to be replaced a second name, if it is there; where files cannot
/// have two, another one.
fn set_aside(path: &Path) -> Result<Option<PathBuf>> {
    let failed = || io_error(path, "cannot set the old output aside");
    let Some(name) = path.file_name() else { return Ok(None) };
    // Under the name of a temporary, which the next run removes if this one is killed.
    let unused = tempfile::Builder::new()
        .prefix(&prefix(name))
        .suffix(SUFFIX)
        .rand_bytes(RANDOM)
        .make_in(folder(path), |aside| match std::fs::hard_link(path, aside) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                ) =>
            {
                std::fs::rename(path, aside)
            }
            result => result,
        });
    match unused {
        Ok(aside) => aside.into_temp_path().keep().map(Some).map_err(|e| failed()(e.error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed()(error)),
    }
}

/// Removes what a killed run left of a set of the same name, however many shards it had.
fn remove_stale_shards(first: &Path) {
    let Some(shard) = ShardName::parse(first) else { return };
    let start = format!(".{}-", shard.prefix());
    remove_stale(folder(first), |name| {
        let rest = name.strip_prefix(start.as_bytes())?;
        let (numbers, rest) = rest.split_at_checked("00001-of-00001.gguf".len())?;
        ShardName::parse(Path::new(&format!("x-{}", std::str::from_utf8(numbers).ok()?)))?;
        rest.strip_prefix(MARK.as_bytes())
    });
}
