//! Several files that are complete or absent together: the shards of a split model.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    AtomicFile, FileSystem, Native, OutputOptions, WriteAt, check_target, flush_folder, folder,
    io_error,
    space::check_space,
    temporary::{MARK, RANDOM, SUFFIX, prefix, remove_stale, rename_visible},
};
use crate::{Result, gguf::ShardName};

/// Files that get their names when all of them are complete.
///
/// [`commit`](Self::commit) flushes every one before the first appears. The first of the list
/// appears last, so that a model whose first shard is there is whole. If a name cannot be given,
/// those given already are taken back and what they replaced is put there again; only a process
/// that is killed in that moment leaves some shards without the first.
#[derive(Debug)]
#[must_use = "what is not committed is removed"]
pub struct AtomicSet {
    fs: Arc<dyn FileSystem>,
    files: Vec<AtomicFile>,
}

impl AtomicSet {
    /// Creates temporaries for outputs of these lengths, all zero, and claims their space.
    ///
    /// # Errors
    /// As [`AtomicFile::create`], for all of them. All are open at the same time: where this
    /// process may not have as many files open, that is found here.
    pub fn create(outputs: &[(PathBuf, u64)], options: OutputOptions) -> Result<Self> {
        Self::create_on(Arc::new(Native), outputs, options)
    }

    /// [`create`](Self::create) on a file system of the caller's, as [`AtomicFile::create_on`].
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_on(
        fs: Arc<dyn FileSystem>,
        outputs: &[(PathBuf, u64)],
        options: OutputOptions,
    ) -> Result<Self> {
        // Before any space is claimed: an existing output, and too little space for all.
        for (path, _) in outputs {
            check_target(path, options.overwrite)?;
        }
        if let Some((path, _)) = outputs.first() {
            remove_stale_shards(&*fs, path, outputs.len());
            let total = outputs.iter().fold(0u64, |sum, (_, len)| sum.saturating_add(*len));
            check_space(path, folder(path), total)?;
        }
        let mut files = Vec::with_capacity(outputs.len());
        for (path, len) in outputs {
            let file = AtomicFile::create_on(Arc::clone(&fs), path, *len, options);
            files.push(file.map_err(|e| e.with_more_files(outputs.len() - files.len() - 1))?);
        }
        Ok(Self { fs, files })
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
    /// As [`AtomicFile::commit`], and the folder is then as it was before; where the complete files
    /// cannot be given their names, they are in it under other ones.
    pub fn commit(mut self) -> Result<()> {
        if self.files.len() == 1 {
            return self.files.remove(0).commit();
        }
        for file in &self.files {
            file.complete()?;
        }
        let Some(first) = self.files.first() else { return Ok(()) };
        let (path, sync) = (first.path().to_owned(), first.options().sync);
        let mut named = Named { fs: &*self.fs, files: Vec::new() };
        let mut rest = self.files.into_iter().rev();
        while let Some(file) = rest.next() {
            let hidden = file.temporary_path().to_owned();
            let (path, overwrite) = (file.path().to_owned(), file.options().overwrite);
            // A folder that has been put there meanwhile could be set aside like a file.
            let aside = check_target(&path, overwrite).and_then(|()| match overwrite {
                true => set_aside(&*self.fs, &path),
                false => Ok(None),
            });
            let unnamed = match aside {
                Err(error) => file.unnamed(error),
                Ok(old) => match file.publish() {
                    Ok(()) => {
                        named.files.push(Renamed { path, hidden, old });
                        continue;
                    }
                    Err(unnamed) => {
                        put_back(&path, old, false);
                        unnamed
                    }
                },
            };
            let refused = unnamed.is_refused();
            let mut others = named.take_back(refused);
            if !refused {
                others += rest.map(AtomicFile::keep).count();
            }
            return Err(unnamed.settle(others));
        }
        named.keep();
        flush_folder(&*self.fs, &path, sync)
    }
}

/// A file that has its name.
struct Renamed {
    path: PathBuf,
    /// The name of its temporary.
    hidden: PathBuf,
    /// What the name stood for before.
    old: Option<PathBuf>,
}

/// Files that have their names already.
struct Named<'a> {
    fs: &'a dyn FileSystem,
    files: Vec<Renamed>,
}

impl Named<'_> {
    /// The set is complete: what it replaced goes.
    fn keep(self) {
        for Renamed { path, old, .. } in self.files {
            if let Some(old) = old
                && let Err(error) = std::fs::remove_file(&old)
            {
                left(&path, &format!("{}, which it has replaced, stays: {error}", old.display()));
            }
        }
    }

    /// Takes the names back: removes the files, or keeps them under other names. Returns how many
    /// are kept.
    fn take_back(self, remove: bool) -> usize {
        let mut kept = 0;
        for Renamed { path, hidden, old } in self.files.into_iter().rev() {
            if !remove {
                kept += 1;
                if rename_visible(self.fs, &path, &hidden) == path {
                    left(&path, "one of the new files keeps its name");
                    continue;
                }
            } else if old.is_none()
                && let Err(error) = std::fs::remove_file(&path)
            {
                left(&path, &format!("part of an incomplete set stays: {error}"));
            }
            put_back(&path, old, true);
        }
        kept
    }
}

fn left(path: &Path, what: &str) {
    tracing::warn!(kind = "left-behind", "{}: {what}", path.display());
}

/// Gives what was set aside its name again, which may stand for another file by now (`replaced`).
fn put_back(path: &Path, old: Option<PathBuf>, replaced: bool) {
    let Some(old) = old else { return };
    let undone = match replaced || std::fs::symlink_metadata(path).is_err() {
        true => std::fs::rename(&old, path),
        // The name still stands for the old file, and a rename between two names of a file does
        // nothing.
        false => std::fs::remove_file(&old),
    };
    if let Err(error) = undone {
        left(path, &format!("what was replaced stays as {}: {error}", old.display()));
    }
}

/// Gives a file that is about to be replaced a second name, if it is there; where files cannot
/// have two, another one.
fn set_aside(fs: &dyn FileSystem, path: &Path) -> Result<Option<PathBuf>> {
    let failed = || io_error(path, "cannot set the old output aside");
    let Some(name) = path.file_name() else { return Ok(None) };
    // Under the name of a temporary, which the next run removes if this one is killed.
    let unused = tempfile::Builder::new()
        .prefix(&prefix(name))
        .suffix(SUFFIX)
        .rand_bytes(RANDOM)
        .make_in(folder(path), |aside| match fs.hard_link(path, aside) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                ) =>
            {
                fs.rename(path, aside)
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
///
/// A run for some of the shards leaves the temporaries of the others alone: other machines may be
/// at work on them, whose locks a shared file system does not always show.
fn remove_stale_shards(fs: &dyn FileSystem, first: &Path, files: usize) {
    let Some(shard) = ShardName::parse(first).filter(|shard| shard.count() == files as u64) else {
        return;
    };
    let start = format!(".{}-", shard.prefix());
    remove_stale(fs, folder(first), |name| {
        let rest = name.strip_prefix(start.as_bytes())?;
        let (numbers, rest) = rest.split_at_checked("00001-of-00001.gguf".len())?;
        ShardName::parse(Path::new(&format!("x-{}", std::str::from_utf8(numbers).ok()?)))?;
        rest.strip_prefix(MARK.as_bytes())
    });
}
