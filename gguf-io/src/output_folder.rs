//! A folder of files that is complete or absent.

use std::{
    ffi::OsStr,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use crate::{
    AtomicFile, Error, FileSystem, OutputOptions, Result,
    output::{
        Native, RANDOM, SUFFIX, check_folder, check_writable, folder, name_folder, prefix,
        rename_visible, sync_folder,
    },
};

/// A folder that gets its name when all of its files are complete.
///
/// Files go to a temporary folder beside it. [`commit`](Self::commit) gives it the name; dropping
/// it without removes it. It is locked while in use, so that the next run for the same output
/// knows what a killed run left behind and removes it.
///
/// If the file system lacks an operation, the folder is written without it, as by [`AtomicFile`].
#[derive(Debug)]
#[must_use = "what is not committed is removed"]
pub struct AtomicFolder {
    path: PathBuf,
    options: OutputOptions,
    fs: Arc<dyn FileSystem>,
    temporary: TempDir,
    /// Holds the lock.
    handle: Option<File>,
}

impl AtomicFolder {
    /// Creates the temporary folder.
    ///
    /// # Errors
    /// [`Error::Exists`] if the output does and may not be replaced, [`Error::WrongKind`] if it is
    /// not a folder, or one that holds more than the files of a checkpoint and would be lost,
    /// [`Error::Io`] if the folder around it is missing or not writable.
    pub fn create(path: impl AsRef<Path>, options: OutputOptions) -> Result<Self> {
        Self::create_on(Arc::new(Native), path.as_ref(), options)
    }

    /// [`create`](Self::create) on a file system of the caller's, as [`AtomicFile::create_on`].
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_on(fs: Arc<dyn FileSystem>, path: &Path, options: OutputOptions) -> Result<Self> {
        let io = |error| Error::Io { path: path.into(), action: "cannot create the output", error };
        let name = Self::name_of(path, options)?;
        let around = folder(path);
        let prefix = prefix(name);
        remove_stale(&*fs, around, prefix.as_encoded_bytes());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX).rand_bytes(RANDOM);
        #[cfg(unix)]
        {
            // As any new folder: the umask takes from this what it takes.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o777));
        }
        // Another run may have taken it for stale before it was locked, and remove it. Where each
        // one is locked, locks are not to be believed.
        const TRIES: usize = 100;
        let mut tries = 0;
        loop {
            tries += 1;
            let temporary = builder.tempdir_in(around).map_err(io)?;
            let handle = match File::open(temporary.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => continue,
                handle => handle.ok(),
            };
            match handle.as_ref().map(|handle| fs.try_lock(handle)) {
                Some(Err(TryLockError::WouldBlock)) if tries < TRIES => continue,
                Some(Ok(())) if tries < TRIES && !temporary.path().exists() => continue,
                // Where folders cannot be locked, none is ever taken for stale.
                Some(Err(error)) => tracing::debug!(%error, "temporary folder not locked"),
                _ => {}
            }
            return Ok(Self { path: path.into(), options, fs, temporary, handle });
        }
    }

    /// What [`create`](Self::create) would refuse, told without creating anything.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn check(path: impl AsRef<Path>, options: OutputOptions) -> Result<()> {
        let path = path.as_ref();
        Self::name_of(path, options)?;
        check_writable(path)
    }

    /// The name of an output that may be written.
    fn name_of(path: &Path, options: OutputOptions) -> Result<&OsStr> {
        // `a/b/.` and `a/b/..` have no last part to put a temporary beside.
        let Some(name) = path.file_name() else {
            return Err(Error::WrongKind {
                path: path.into(),
                found: "no folder name",
                expected: "the path of the output folder",
            });
        };
        check_target(path, options.overwrite)?;
        check_folder(path)?;
        Ok(name)
    }

    /// The temporary folder, to create files in.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Creates a file of `len` bytes in the folder, which is there when it is committed.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create_file(&self, name: &str, len: u64) -> Result<AtomicFile> {
        let path = self.temporary.path().join(name);
        AtomicFile::create_private(Arc::clone(&self.fs), &path, len, self.options.sync)
    }

    /// Creates several files that are open at the same time, of these names and lengths.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create_files<'a>(
        &self,
        files: impl ExactSizeIterator<Item = (&'a str, u64)>,
    ) -> Result<Vec<AtomicFile>> {
        let count = files.len();
        files
            .enumerate()
            .map(|(i, (name, len))| {
                let file = self.create_file(name, len);
                file.map_err(|error| error.with_more_files(count.saturating_sub(i + 1)))
            })
            .collect()
    }

    /// Gives the folder its name. What was there before is removed afterwards.
    ///
    /// # Errors
    /// [`Error::Exists`] if something took the name meanwhile, [`Error::Io`] if flushing fails: the
    /// temporary is removed then. [`Error::Unnamed`] if the complete folder cannot be given its
    /// name: it is kept under another one. An older folder is unchanged.
    pub fn commit(self) -> Result<()> {
        let Self { path, options, fs, temporary, handle } = self;
        let io = |action| {
            let path: Box<Path> = path.as_path().into();
            move |error| Error::Io { path, action, error }
        };
        if options.sync {
            sync_folder(&*fs, temporary.path()).map_err(io("cannot flush the output"))?;
        }
        check_target(&path, options.overwrite)?;
        let name = || match std::fs::symlink_metadata(&path).is_ok() {
            true => replace(&*fs, temporary.path(), &path),
            false => name_folder(&*fs, temporary.path(), &path),
        };
        let mut named = name();
        if named.as_ref().is_err_and(|error| !is_taken(error)) {
            // Some shares of Windows hosts do not rename what is open.
            drop(handle);
            named = name();
        }
        match named {
            // What was replaced has the temporary's name, and goes with it.
            Ok(()) => drop(temporary),
            Err(error) if is_taken(&error) => return Err(Error::Exists { path: path.into() }),
            Err(error) => {
                let hidden = temporary.keep();
                let kept = rename_visible(&*fs, &hidden, &hidden);
                return Err(Error::Unnamed {
                    path: path.into(),
                    kept: kept.into(),
                    others: 0,
                    error,
                });
            }
        }
        if options.sync {
            sync_folder(&*fs, folder(&path))
                .map_err(io("is complete, but the folder around it cannot be flushed"))?;
        }
        Ok(())
    }
}

/// Whether an error says that something has the name.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}

/// Gives the folder `new` the name of the folder `old`, which then has that of `new`, if it is there
/// still.
fn replace(fs: &dyn FileSystem, new: &Path, old: &Path) -> io::Result<()> {
    match fs.exchange(new, old) {
        Ok(()) => return Ok(()),
        Err(error) => tracing::debug!(%error, "no exchange of names"),
    }
    // Three steps: a crash between them leaves the old folder under the name of a temporary, but
    // not one that the next run takes for stale.
    let aside = new.with_extension("old");
    fs.rename(old, &aside)?;
    if let Err(error) = fs.rename(new, old) {
        fs.rename(&aside, old)?;
        return Err(error);
    }
    if let Err(error) = fs.rename(&aside, new) {
        tracing::warn!(
            kind = "left-behind",
            "{}: the folder it has replaced stays as {}: {error}",
            old.display(),
            aside.display()
        );
    }
    Ok(())
}

fn check_target(path: &Path, overwrite: bool) -> Result<()> {
    let io = |error| Error::Io { path: path.into(), action: "cannot look at the output", error };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(target) if !target.is_dir() => {
            return Err(Error::WrongKind {
                path: path.into(),
                found: "not a folder",
                expected: "the path of the output folder",
            });
        }
        Ok(_) if !overwrite => return Err(Error::Exists { path: path.into() }),
        Ok(_) => {}
    }
    // The whole folder is replaced: it must not hold what is not ours to remove.
    let (mut empty, mut config, mut other) = (true, false, false);
    for entry in std::fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        empty = false;
        config |= entry.file_name() == "config.json";
        other |= entry.file_type().map_err(io)?.is_dir();
    }
    if empty || (config && !other) {
        return Ok(());
    }
    Err(Error::WrongKind {
        path: path.into(),
        found: "a folder with other things than a checkpoint in it",
        expected: "a new name, an empty folder or a checkpoint to replace",
    })
}

/// Removes what killed runs left behind. Best effort: what cannot be removed does no harm.
fn remove_stale(fs: &dyn FileSystem, around: &Path, prefix: &[u8]) {
    for entry in std::fs::read_dir(around).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name
            .as_encoded_bytes()
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
        let ours =
            random.is_some_and(|r| r.len() == RANDOM && r.iter().all(u8::is_ascii_alphanumeric));
        // Never through a link.
        if !ours || !entry.file_type().is_ok_and(|ty| ty.is_dir()) {
            continue;
        }
        let path = entry.path();
        if File::open(&path).is_ok_and(|handle| fs.try_lock(&handle).is_ok()) {
            let removed = std::fs::remove_dir_all(&path);
            tracing::info!(path = %path.display(), ok = removed.is_ok(), "stale temporary removed");
        }
    }
}
