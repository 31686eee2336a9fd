//! A folder of files that is complete or absent.

use std::{
    ffi::OsStr,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    Error, OutputOptions, Result,
    output::{RANDOM, SUFFIX, check_folder, check_writable, folder, prefix, sync_folder},
};

/// A folder that gets its name when all of its files are complete.
///
/// Files go to a temporary folder beside it. [`commit`](Self::commit) gives it the name; dropping
/// it without removes it. It is locked while in use, so that the next run for the same output
/// knows what a killed run left behind and removes it.
#[derive(Debug)]
pub struct AtomicFolder {
    path: PathBuf,
    options: OutputOptions,
    temporary: TempDir,
    /// Holds the lock.
    _handle: Option<File>,
}

impl AtomicFolder {
    /// Creates the temporary folder.
    ///
    /// # Errors
    /// [`Error::Exists`] if the output does and may not be replaced, [`Error::WrongKind`] if it is
    /// not a folder, or one that holds more than the files of a checkpoint and would be lost,
    /// [`Error::Io`] if the folder around it is missing or not writable.
    pub fn create(path: &Path, options: OutputOptions) -> Result<Self> {
        let io = |error| Error::Io { path: path.into(), action: "cannot create the output", error };
        let name = Self::name_of(path, options)?;
        let around = folder(path);
        let prefix = prefix(name);
        remove_stale(around, prefix.as_encoded_bytes());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX).rand_bytes(RANDOM);
        #[cfg(unix)]
        {
            // As any new folder: the umask takes from this what it takes.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o777));
        }
        loop {
            let temporary = builder.tempdir_in(around).map_err(io)?;
            // Another run may have taken it for stale before it was locked, and remove it.
            let handle = match File::open(temporary.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                handle => handle.ok(),
            };
            match handle.as_ref().map(File::try_lock) {
                Some(Err(TryLockError::WouldBlock)) => continue,
                Some(Ok(())) if !temporary.path().exists() => continue,
                // Where folders cannot be locked, none is ever taken for stale.
                Some(Err(error)) => tracing::debug!(%error, "temporary folder not locked"),
                _ => {}
            }
            return Ok(Self { path: path.into(), options, temporary, _handle: handle });
        }
    }

    /// What [`create`](Self::create) would refuse, told without creating anything.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn check(path: &Path, options: OutputOptions) -> Result<()> {
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

    /// Gives the folder its name. What was there before is removed afterwards.
    ///
    /// # Errors
    /// [`Error::Exists`] if something took the name meanwhile, else [`Error::Io`]. The temporary is
    /// removed; what was there before is as it was.
    pub fn commit(self) -> Result<()> {
        let Self { path, options, temporary, _handle } = self;
        let io = |action| {
            let path: Box<Path> = path.as_path().into();
            move |error| Error::Io { path, action, error }
        };
        if options.sync {
            sync_folder(temporary.path()).map_err(io("cannot flush the output"))?;
        }
        check_target(&path, options.overwrite)?;
        let name = io("cannot give the complete output its name");
        if std::fs::symlink_metadata(&path).is_ok() {
            // The temporary then holds what is replaced, and goes with it.
            exchange(temporary.path(), &path).map_err(name)?;
        } else {
            std::fs::rename(temporary.path(), &path).map_err(name)?;
            let _renamed_away = temporary.keep();
        }
        if options.sync {
            sync_folder(folder(&path))
                .map_err(io("is complete, but the folder around it cannot be flushed"))?;
        }
        Ok(())
    }
}

/// Makes each of two folders have the other's name.
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
    {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    // Three steps: a crash between them leaves the old folder under a temporary name.
    let aside = a.with_extension("old");
    std::fs::rename(b, &aside)?;
    if let Err(error) = std::fs::rename(a, b) {
        std::fs::rename(&aside, b)?;
        return Err(error);
    }
    std::fs::rename(&aside, a)
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
fn remove_stale(around: &Path, prefix: &[u8]) {
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
        if File::open(&path).is_ok_and(|handle| handle.try_lock().is_ok()) {
            let removed = std::fs::remove_dir_all(&path);
            tracing::info!(path = %path.display(), ok = removed.is_ok(), "stale temporary removed");
        }
    }
}
