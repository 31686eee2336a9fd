//! How many files a process may have open.

use std::{io, path::Path};

use crate::Error;

/// Raises the soft limit of this process for open files as far as its hard limit allows; returns
/// the limit that holds then, `None` if there is none or the system does not tell.
///
/// All shards of a model are open at the same time, and a soft limit is often 256 or 1024. The limit
/// belongs to the whole process, so nothing in these crates raises it by itself: a program may do so
/// when it starts. Without it, [`Error::OpenFiles`] says what is missing.
///
/// # Errors
/// If the operating system refuses; the limit is then unchanged.
#[cfg(unix)]
pub fn raise_open_file_limit() -> io::Result<Option<u64>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(now) = current else { return Ok(None) };
    // Where the hard limit is none at all, macOS still takes no more than this.
    const MOST: u64 = 10_240;
    let mut result = Ok(current);
    for wanted in [maximum, Some(maximum.map_or(MOST, |most| most.min(MOST)))] {
        if wanted.is_some_and(|wanted| wanted <= now) {
            continue;
        }
        match setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum }) {
            Ok(()) => return Ok(wanted),
            Err(error) => result = Err(error.into()),
        }
    }
    result
}

/// There is no such limit here.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn raise_open_file_limit() -> io::Result<Option<u64>> {
    Ok(None)
}

/// The error of opening or creating a file.
pub(crate) fn error(path: &Path, action: &'static str, error: io::Error) -> Error {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
        && let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    {
        return Error::OpenFiles { path: path.into(), needed: limit.saturating_add(1), limit };
    }
    Error::Io { path: path.into(), action, error }
}
