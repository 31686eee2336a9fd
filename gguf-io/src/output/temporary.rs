//! Temporaries: their names, locks and ends.

use std::{
    ffi::OsStr,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use tempfile::{NamedTempFile, TempPath};

use super::FileSystem;
use crate::{Result, open_files};

pub(super) use crate::names::MARK;
pub(crate) use crate::names::prefix;

pub(crate) const SUFFIX: &str = ".tmp";

/// Random characters in the name of a temporary.
pub(crate) const RANDOM: usize = 6;

/// Creates a temporary and locks it, so that no other run takes it for stale.
pub(super) fn create(
    fs: &dyn FileSystem,
    path: &Path,
    folder: &Path,
    prefix: &OsStr,
) -> Result<NamedTempFile> {
    // Another run may lock it before this one does, to remove it as stale: it is then about to go.
    // Where each one is locked, locks are not to be believed.
    const TRIES: usize = 100;
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(SUFFIX).rand_bytes(RANDOM);
    let mut tries = 0;
    loop {
        tries += 1;
        // With the permissions and attributes of any new file.
        let temporary = builder
            .make_in(folder, |path| {
                File::options().read(true).write(true).create_new(true).open(path)
            })
            .map_err(|error| open_files::error(path, "cannot create the output", error))?;
        match fs.try_lock(temporary.as_file()) {
            Err(TryLockError::WouldBlock) if tries < TRIES => {}
            Ok(()) if tries < TRIES && !temporary.path().exists() => {}
            Ok(()) => return Ok(temporary),
            // Without locks nothing is ever taken for stale.
            Err(error) => {
                tracing::debug!(%error, "temporary not locked");
                return Ok(temporary);
            }
        }
    }
}

/// Removes what a killed run left behind. Best effort: what cannot be removed does no harm.
///
/// `ours` cuts off what the names of our temporaries begin with, and tells whose are not ours.
pub(super) fn remove_stale(
    fs: &dyn FileSystem,
    folder: &Path,
    ours: impl Fn(&[u8]) -> Option<&[u8]>,
) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = ours(name.as_encoded_bytes())
            .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()))
            .is_some_and(|rest| rest.len() == RANDOM && rest.iter().all(u8::is_ascii_alphanumeric));
        // Never through a link, and nothing but a regular file, whose opening does not block.
        if !ours || !entry.file_type().is_ok_and(|ty| ty.is_file()) {
            continue;
        }
        let path = entry.path();
        // Some systems lock only files that are open for writing.
        let Ok(file) = File::options().read(true).write(true).open(&path) else {
            continue;
        };
        if fs.try_lock(&file).is_ok() {
            let removed = std::fs::remove_file(&path);
            tracing::info!(path = %path.display(), ok = removed.is_ok(), "stale temporary removed");
        }
    }
}

/// Keeps a temporary under a name that the next run does not take for stale, if it can get one.
pub(super) fn keep(fs: &dyn FileSystem, temporary: TempPath) -> PathBuf {
    let hidden = temporary.to_path_buf();
    if let Err(error) = temporary.keep() {
        tracing::debug!(%error, "attributes of the temporary stay");
        let mut temporary = error.path;
        temporary.disable_cleanup(true);
    }
    rename_visible(fs, &hidden, &hidden)
}

/// Gives `from` the name of the temporary `hidden` without what makes it one; returns its name then.
pub(crate) fn rename_visible(fs: &dyn FileSystem, from: &Path, hidden: &Path) -> PathBuf {
    let name = hidden.file_name().unwrap_or_default().to_string_lossy();
    let visible = name.strip_prefix('.').and_then(|name| name.strip_suffix(SUFFIX));
    let visible = hidden.with_file_name(visible.unwrap_or(&name));
    match fs.rename(from, &visible) {
        Ok(()) => visible,
        Err(error) => {
            tracing::debug!(%error, "the temporary keeps its name");
            from.into()
        }
    }
}
