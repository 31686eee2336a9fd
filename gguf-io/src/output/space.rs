//! Room for an output, before anything is written.

use std::{fs::File, io, path::Path};

use super::{FileSystem, WriteAt};
use crate::{Error, Result};

/// Refuses an output for which there is not enough space, where the file system tells.
pub(super) fn check_space(path: &Path, folder: &Path, needed: u64) -> Result<()> {
    match available(folder) {
        Some(available) if available < needed => {
            Err(Error::NoSpace { path: path.into(), needed, available })
        }
        _ => Ok(()),
    }
}

/// Bytes free for this user on a folder's file system, if it tells.
#[cfg(unix)]
pub(super) fn available(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    // Some network and user-space file systems do not know their size and say zero.
    if stat.f_blocks == 0 {
        return None;
    }
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
pub(super) fn available(_folder: &Path) -> Option<u64> {
    None
}

/// Gives the temporary its length, with space behind it where the file system can promise that.
pub(super) fn allocate(
    fs: &dyn FileSystem,
    path: &Path,
    folder: &Path,
    file: &File,
    len: u64,
) -> Result<()> {
    allocated(fs, file, len).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => Error::NoSpace {
            path: path.into(),
            needed: len,
            available: available(folder).unwrap_or(0),
        },
        _ => Error::Io { path: path.into(), action: "cannot allocate the output", error },
    })
}

fn allocated(fs: &dyn FileSystem, file: &File, len: u64) -> io::Result<()> {
    let Some(last) = len.checked_sub(1) else { return Ok(()) };
    loop {
        match fs.reserve(file, len) {
            // Not all systems set the length as well.
            Ok(()) if file.metadata()?.len() == len => return Ok(()),
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if no_room(&error) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "no space reserved");
                break;
            }
        }
    }
    match fs.set_len(file, len) {
        Err(error) if !no_room(&error) => {
            tracing::debug!(%error, "no length set");
            // Any file can be written at its end: what comes before reads as zero.
            file.write_all_at(&[0], last)
        }
        result => result,
    }
}

/// Whether an error says that so large a file cannot be had, and not that there is no such
/// operation.
fn no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
