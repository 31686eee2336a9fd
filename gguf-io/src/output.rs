//! Output that is complete or absent, whatever happens on the way.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use tempfile::NamedTempFile;

use crate::{Error, Result};

mod set;

pub use set::AtomicSet;

/// How an output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputOptions {
    /// Replace an existing file. It keeps its content until the new one is complete.
    pub overwrite: bool,
    /// Flush the file and its folder to the device before [`AtomicFile::commit`] returns, so that
    /// the output survives a loss of power. Without it only a crash of the program is covered.
    pub sync: bool,
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self { overwrite: false, sync: true }
    }
}

/// Positioned writes. An [`AtomicFile`] writes through one, so that tests can put a failing one in
/// between.
pub trait WriteAt: Send + Sync + fmt::Debug {
    /// Writes some bytes from the front of `buf` at `offset`.
    ///
    /// # Errors
    /// When the operating system fails to write.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Flushes everything written to the device.
    ///
    /// # Errors
    /// When the operating system fails to.
    fn sync(&self) -> io::Result<()>;

    /// Writes all of `buf` at `offset`. Interrupted writes are repeated.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at); [`io::ErrorKind::WriteZero`] if nothing more is taken.
    fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    buf = buf.get(n..).ok_or(io::ErrorKind::InvalidData)?;
                    offset = offset.checked_add(n as u64).ok_or(io::ErrorKind::InvalidInput)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl WriteAt for File {
    #[cfg(unix)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, buf, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(self, buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// A file that gets its name when it is complete.
///
/// The bytes go to a temporary in the same folder. [`commit`](Self::commit) gives it the name;
/// dropping it without removes it. Only a process that is killed leaves a temporary behind: it is
/// locked while in use, so the next run for the same output knows that it is stale and removes it.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    options: OutputOptions,
    temporary: NamedTempFile,
    /// Writes to the temporary.
    writer: Box<dyn WriteAt>,
    /// Bytes written so far.
    written: AtomicU64,
}

/// How much is written before its way to the device begins.
const WRITEBACK: u64 = 32 << 20;

/// What stands between the name of an output and the random part of its temporary's.
const MARK: &str = ".quantwright-";
pub(crate) const SUFFIX: &str = ".tmp";

impl AtomicFile {
    /// Creates the temporary for an output of `len` bytes, all zero, and claims their space.
    ///
    /// # Errors
    /// [`Error::Exists`] if the output does and may not be replaced, [`Error::WrongKind`] if it is
    /// a folder or device, [`Error::NoSpace`] if it does not fit, [`Error::Io`] if the folder is
    /// missing or not writable.
    pub fn create(path: &Path, len: u64, options: OutputOptions) -> Result<Self> {
        let name = file_name(path)?;
        check_target(path, options.overwrite)?;
        check_folder(path)?;
        let folder = folder(path);
        let prefix = prefix(name);
        remove_stale(folder, |rest| rest.strip_prefix(prefix.as_encoded_bytes()));
        check_space(path, folder, len)?;
        let temporary = locked_temporary(path, folder, &prefix)?;
        allocate(path, folder, temporary.as_file(), len)?;
        let writer = temporary.as_file().try_clone().map_err(|error| Error::Io {
            path: path.into(),
            action: "cannot create the output",
            error,
        })?;
        Ok(Self {
            path: path.into(),
            options,
            temporary,
            writer: Box::new(writer),
            written: AtomicU64::new(0),
        })
    }

    /// What [`create`](Self::create) would refuse, told without creating anything.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn check(path: &Path, len: u64, options: OutputOptions) -> Result<()> {
        file_name(path)?;
        check_target(path, options.overwrite)?;
        check_folder(path)?;
        check_writable(path)?;
        check_space(path, folder(path), len)
    }

    /// Puts another writer around the one in use, for tests of what happens when writing fails.
    pub fn wrap_writer(mut self, wrap: impl FnOnce(Box<dyn WriteAt>) -> Box<dyn WriteAt>) -> Self {
        self.writer = wrap(self.writer);
        self
    }

    /// The path the output will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the temporary, for handlers of signals after which nothing is dropped.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Writes bytes at an offset. Threads may do so at the same time, to different places.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if the device is full, else [`Error::Write`].
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.try_write(bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => Error::NoSpace {
                path: self.path.as_path().into(),
                needed: bytes.len() as u64,
                available: available(folder(&self.path)).unwrap_or(0),
            },
            _ => Error::Write {
                path: self.path.as_path().into(),
                offset,
                len: bytes.len() as u64,
                error,
            },
        })
    }

    fn try_write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writer.write_all_at(bytes, offset)?;
        let len = bytes.len() as u64;
        let before = self.written.fetch_add(len, Ordering::Relaxed);
        let (first, last) = (before / WRITEBACK, before.saturating_add(len) / WRITEBACK);
        if self.options.sync && first != last {
            // Outputs are written from front to back, if not quite in order: the bytes written are
            // about as far as it has got. What is still missing will go with the final flush.
            self.start_writeback(first * WRITEBACK, (last - first).saturating_mul(WRITEBACK));
        }
        Ok(())
    }

    /// Hints that a range may go to the device now, so that the final flush has little left to do.
    /// Does nothing where there is no way to say so.
    fn start_writeback(&self, offset: u64, len: u64) {
        // `sync_file_range` has no safe wrapper. On Linux this advice starts writing back the dirty
        // pages of the range without waiting, and drops only pages that are clean already, which
        // an output does not need again. Elsewhere it need not write anything: left out.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(len) = std::num::NonZeroU64::new(len) {
            let advice = rustix::fs::Advice::DontNeed;
            if let Err(error) =
                rustix::fs::fadvise(self.temporary.as_file(), offset, Some(len), advice)
            {
                tracing::debug!(%error, "no early writeback");
            }
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (offset, len);
    }

    /// Flushes the output and gives it its name.
    ///
    /// # Errors
    /// [`Error::Exists`] if another file took the name meanwhile and may not be replaced, else
    /// [`Error::Io`]. The temporary is removed; a file that was there before is as it was.
    pub fn commit(self) -> Result<()> {
        self.flush()?;
        let (path, sync) = (self.path.clone(), self.options.sync);
        self.publish()?;
        flush_folder(&path, sync)
    }

    /// Brings what was written to the device, if asked to.
    fn flush(&self) -> Result<()> {
        match self.options.sync {
            true => self.writer.sync().map_err(io_error(&self.path, "cannot flush the output")),
            false => Ok(()),
        }
    }

    /// Gives the output its name.
    fn publish(self) -> Result<()> {
        let Self { path, options, temporary, writer, .. } = self;
        drop(writer);
        let persisted = if options.overwrite {
            temporary.persist(&path)
        } else {
            temporary.persist_noclobber(&path)
        };
        match persisted {
            Ok(_) => Ok(()),
            Err(failed)
                if failed.error.kind() == io::ErrorKind::AlreadyExists && !options.overwrite =>
            {
                Err(Error::Exists { path: path.into() })
            }
            Err(failed) => {
                let action = "cannot give the complete output its name";
                Err(io_error(&path, action)(failed.error))
            }
        }
    }
}

fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Io { path: path.into(), action, error }
}

/// Makes the names of a folder's files durable, if asked to.
fn flush_folder(path: &Path, sync: bool) -> Result<()> {
    match sync {
        true => sync_folder(folder(path))
            .map_err(io_error(path, "is complete, but its folder cannot be flushed")),
        false => Ok(()),
    }
}

/// The folder of a path; the current one if it names none.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// What the names of all temporaries for an output begin with: hidden, and telling whose they are.
pub(crate) fn prefix(name: &OsStr) -> OsString {
    // Room for what is put around it, in the 255 bytes a file name may have.
    const LONGEST: usize = 200;
    let mut prefix = OsString::from(".");
    if name.len() <= LONGEST {
        prefix.push(name);
    } else {
        let text = name.to_string_lossy();
        let mut end = 0;
        for (start, c) in text.char_indices() {
            if start + c.len_utf8() > LONGEST {
                break;
            }
            end = start + c.len_utf8();
        }
        prefix.push(text.get(..end).unwrap_or_default());
    }
    prefix.push(MARK);
    prefix
}

/// The name of an output, which is no folder: `model/` is refused before anything is read.
fn file_name(path: &Path) -> Result<&OsStr> {
    let ends_as_folder = path.to_string_lossy().ends_with(std::path::is_separator);
    match path.file_name() {
        Some(name) if !ends_as_folder => Ok(name),
        _ => Err(Error::WrongKind {
            path: path.into(),
            found: if ends_as_folder { "a folder" } else { "no file name" },
            expected: "the path of the output file",
        }),
    }
}

/// Refuses an output whose folder is not there.
pub(crate) fn check_folder(path: &Path) -> Result<()> {
    match std::fs::metadata(folder(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::WrongKind {
            path: path.into(),
            found: "in a folder that does not exist",
            expected: "the path of the output; create its folder first",
        }),
        _ => Ok(()),
    }
}

/// Asks the system whether the folder of an output may be written, for those who do not try it.
#[cfg(unix)]
pub(crate) fn check_writable(path: &Path) -> Result<()> {
    use rustix::{fs::Access, io::Errno};
    match rustix::fs::access(folder(path), Access::WRITE_OK | Access::EXEC_OK) {
        Err(error @ (Errno::ACCESS | Errno::ROFS)) => Err(Error::Io {
            path: path.into(),
            action: "cannot create the output",
            error: error.into(),
        }),
        // Not every file system has an answer.
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
pub(crate) fn check_writable(_: &Path) -> Result<()> {
    Ok(())
}

fn check_target(path: &Path, overwrite: bool) -> Result<()> {
    let io = |error| Error::Io { path: path.into(), action: "cannot look at the output", error };
    // A link that leads nowhere exists as well.
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(_) => {}
    }
    let found = match std::fs::metadata(path) {
        Ok(target) if target.is_dir() => "a folder",
        Ok(target) if !target.is_file() => "a pipe, socket or device",
        _ if overwrite => return Ok(()),
        _ => {
            return Err(Error::Exists { path: path.into() });
        }
    };
    Err(Error::WrongKind { path: path.into(), found, expected: "the path of the output file" })
}

/// Removes what a killed run left behind. Best effort: what cannot be removed does no harm.
///
/// `ours` cuts off what the names of our temporaries begin with, and tells whose are not ours.
fn remove_stale(folder: &Path, ours: impl Fn(&[u8]) -> Option<&[u8]>) {
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
        if file.try_lock().is_ok() {
            let removed = std::fs::remove_file(&path);
            tracing::info!(path = %path.display(), ok = removed.is_ok(), "stale temporary removed");
        }
    }
}

/// Random characters in the name of a temporary.
pub(crate) const RANDOM: usize = 6;

/// Creates a temporary and locks it, so that no other run takes it for stale.
fn locked_temporary(path: &Path, folder: &Path, prefix: &OsStr) -> Result<NamedTempFile> {
    let io = |error| Error::Io { path: path.into(), action: "cannot create the output", error };
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(SUFFIX).rand_bytes(RANDOM);
    #[cfg(unix)]
    {
        // As any new file: the umask takes from this what it takes.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    loop {
        let temporary = builder.tempfile_in(folder).map_err(io)?;
        match temporary.as_file().try_lock() {
            // Another run may have locked it between the two, to remove it as stale.
            Err(TryLockError::WouldBlock) => continue,
            // Without locks nothing is ever taken for stale.
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "temporary not locked");
                return Ok(temporary);
            }
            Ok(()) if temporary.path().exists() => return Ok(temporary),
            Ok(()) => continue,
        }
    }
}

fn check_space(path: &Path, folder: &Path, needed: u64) -> Result<()> {
    match available(folder) {
        Some(available) if available < needed => {
            Err(Error::NoSpace { path: path.into(), needed, available })
        }
        _ => Ok(()),
    }
}

/// Bytes free for this user on a folder's file system, if it tells.
#[cfg(unix)]
fn available(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    // Some network and user-space file systems do not know their size and say zero.
    if stat.f_blocks == 0 {
        return None;
    }
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn available(_folder: &Path) -> Option<u64> {
    None
}

/// Gives the temporary its length, with space behind it where the file system can promise that.
fn allocate(path: &Path, folder: &Path, file: &File, len: u64) -> Result<()> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull => Error::NoSpace {
            path: path.into(),
            needed: len,
            available: available(folder).unwrap_or(0),
        },
        _ => Error::Io { path: path.into(), action: "cannot allocate the output", error },
    };
    if reserve(file, len).map_err(failed)? {
        return Ok(());
    }
    file.set_len(len).map_err(failed)
}

/// Reserves space; `false` if the file system cannot.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd"))]
fn reserve(file: &File, len: u64) -> io::Result<bool> {
    use rustix::{fs::FallocateFlags, io::Errno};
    if len == 0 {
        return Ok(true);
    }
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            // Not all systems set the length as well.
            Ok(()) => return file.metadata().map(|stat| stat.len() == len),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "freebsd"
)))]
fn reserve(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

/// Makes the new name itself durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(folder)?.sync_all() {
        // Some file systems cannot flush folders and need not.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}
