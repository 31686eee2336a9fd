//! One file.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tempfile::TempPath;

use super::{
    FileSystem, Native, OutputOptions, WriteAt, check_folder, check_target, check_writable,
    file_name,
    file_system::{name_file, no_flush},
    flush_folder, folder, io_error,
    space::{allocate, available, check_space},
    temporary::{self, keep, prefix, remove_stale},
};
use crate::{Error, Result, SourceFile, ranges::Ranges};

/// A file that gets its name when it is complete.
///
/// The bytes go to a temporary in the same folder. [`commit`](Self::commit) gives it the name;
/// dropping it without removes it. Only a process that is killed leaves a temporary behind: it is
/// locked while in use, so the next run for the same output knows that it is stale and removes it.
///
/// The header of an output goes last, so that a file that has one is whole: an output whose first
/// bytes were not written is not given its name ([`expect_header`](Self::expect_header)).
///
/// If the file system lacks an operation, the output is written without it: no space is reserved,
/// nothing is locked. If it can neither rename without replacing nor link, `commit` checks that the
/// name is free and then renames; a file that another program creates in between is replaced.
#[derive(Debug)]
#[must_use = "what is not committed is removed"]
pub struct AtomicFile {
    path: PathBuf,
    options: OutputOptions,
    fs: Arc<dyn FileSystem>,
    /// Whether the folder is a temporary of ours, in which no name is taken.
    private: bool,
    temporary: TempPath,
    /// Holds the lock.
    file: Arc<File>,
    /// Writes to the same file.
    writer: Box<dyn WriteAt>,
    len: u64,
    header: Mutex<Header>,
    /// Bytes written so far.
    written: AtomicU64,
}

/// The bytes at the front of an output without which it is not complete.
#[derive(Debug)]
struct Header {
    len: u64,
    written: Ranges,
}

/// How much is written before its way to the device begins.
const WRITEBACK: u64 = 32 << 20;

impl AtomicFile {
    /// Creates the temporary for an output of `len` bytes, all zero, and claims their space.
    ///
    /// # Errors
    /// [`Error::Exists`] if the output does and may not be replaced, [`Error::WrongKind`] if it is
    /// a folder or device, [`Error::NoSpace`] if it does not fit, [`Error::OpenFiles`] if this
    /// process has too many files open, [`Error::Io`] if the folder is missing or not writable.
    pub fn create(path: impl AsRef<Path>, len: u64, options: OutputOptions) -> Result<Self> {
        Self::create_on(Arc::new(Native), path.as_ref(), len, options)
    }

    /// [`create`](Self::create) on a file system of the caller's, for tests of what happens where
    /// one lacks an operation.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_on(
        fs: Arc<dyn FileSystem>,
        path: &Path,
        len: u64,
        options: OutputOptions,
    ) -> Result<Self> {
        let name = file_name(path)?;
        check_target(path, options.overwrite)?;
        check_folder(path)?;
        let prefix = prefix(name);
        remove_stale(&*fs, folder(path), |rest| rest.strip_prefix(prefix.as_encoded_bytes()));
        check_space(path, folder(path), len)?;
        Self::new(fs, path, len, options, false)
    }

    /// Creates a file in a temporary folder of ours, that no one else puts files into.
    pub(crate) fn create_private(
        fs: Arc<dyn FileSystem>,
        path: &Path,
        len: u64,
        sync: bool,
    ) -> Result<Self> {
        file_name(path)?;
        check_space(path, folder(path), len)?;
        Self::new(fs, path, len, OutputOptions { overwrite: false, sync }, true)
    }

    fn new(
        fs: Arc<dyn FileSystem>,
        path: &Path,
        len: u64,
        options: OutputOptions,
        private: bool,
    ) -> Result<Self> {
        let folder = folder(path);
        let temporary = temporary::create(&*fs, path, folder, &prefix(file_name(path)?))?;
        allocate(&*fs, path, folder, temporary.as_file(), len)?;
        let (file, temporary) = temporary.into_parts();
        let file = Arc::new(file);
        Ok(Self {
            path: path.into(),
            options,
            fs,
            private,
            temporary,
            writer: Box::new(Arc::clone(&file)),
            file,
            len,
            header: Mutex::new(Header { len: len.min(1), written: Ranges::default() }),
            written: AtomicU64::new(0),
        })
    }

    /// What [`create`](Self::create) would refuse, told without creating anything.
    ///
    /// # Errors
    /// As [`create`](Self::create), but for a folder that is not writable.
    pub fn check(path: impl AsRef<Path>, len: u64, options: OutputOptions) -> Result<()> {
        let path = path.as_ref();
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

    /// Sets how many bytes at the front have to be written before the output is complete; the default
    /// is one. Call it before writing any of them. Other bytes that are never written are zero.
    pub fn expect_header(&self, len: u64) {
        self.header().len = len.min(self.len);
    }

    fn header(&self) -> MutexGuard<'_, Header> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path the output will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the temporary, for handlers of signals after which nothing is dropped.
    pub fn temporary_path(&self) -> &Path {
        &self.temporary
    }

    /// Writes bytes at an offset. Threads may do so at the same time, to different places.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if the device is full, else [`Error::Write`]; nothing is written beyond
    /// the length that the output was created with.
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

    /// Copies bytes of a file to an offset, within the operating system where it can.
    ///
    /// # Errors
    /// [`Error::Read`] if the source does not have them; as [`write_all_at`](Self::write_all_at).
    pub fn copy_from(&self, source: &SourceFile, from: u64, len: u64, to: u64) -> Result<()> {
        let refused =
            |error| Error::Write { path: self.path.as_path().into(), offset: to, len, error };
        let end = self.end(to, len).map_err(refused)?;
        let mut done = 0u64;
        while let Some(file) = source.file()
            && done < len
        {
            // Pieces, so that what is written goes to the device meanwhile.
            let piece = usize::try_from((len - done).min(WRITEBACK)).unwrap_or(usize::MAX);
            // Neither sum wraps: the output is as long, and the source has at least what was copied.
            let (at, target) = (from.saturating_add(done), to.saturating_add(done));
            match self.writer.copy_from(file, at, target, piece) {
                Ok(n) if n > 0 => {
                    done = done.saturating_add(n as u64);
                    self.note(target, target.saturating_add(n as u64).min(end));
                }
                // The end of the source, or no such operation here: reading says what is wrong.
                _ => break,
            }
        }
        const BUFFER: u64 = 1 << 20;
        let mut buffer = Vec::new();
        while done < len {
            buffer.resize(usize::try_from((len - done).min(BUFFER)).unwrap_or_default(), 0);
            source.read_exact_at(&mut buffer, from.saturating_add(done))?;
            self.write_all_at(&buffer, to.saturating_add(done))?;
            done = done.saturating_add(buffer.len() as u64);
        }
        Ok(())
    }

    /// The end of a range, which lies within the output.
    fn end(&self, offset: u64, len: u64) -> io::Result<u64> {
        offset.checked_add(len).filter(|end| *end <= self.len).ok_or_else(|| {
            let problem = format!("the output was created with {} bytes", self.len);
            io::Error::new(io::ErrorKind::InvalidInput, problem)
        })
    }

    fn try_write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = self.end(offset, bytes.len() as u64)?;
        self.writer.write_all_at(bytes, offset)?;
        self.note(offset, end);
        Ok(())
    }

    /// Takes note of bytes that were written.
    fn note(&self, offset: u64, end: u64) {
        let len = end.saturating_sub(offset);
        if offset < self.header().len {
            self.header().written.add(offset..end);
        }
        let before = self.written.fetch_add(len, Ordering::Relaxed);
        let (first, last) = (before / WRITEBACK, before.saturating_add(len) / WRITEBACK);
        if self.options.sync && first != last {
            // Outputs are written from front to back, if not quite in order: the bytes written are
            // about as far as it has got. What is still missing will go with the final flush.
            self.start_writeback(first * WRITEBACK, (last - first).saturating_mul(WRITEBACK));
        }
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
            if let Err(error) = rustix::fs::fadvise(&*self.file, offset, Some(len), advice) {
                tracing::debug!(%error, "no early writeback");
            }
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (offset, len);
    }

    /// Flushes the output and gives it its name.
    ///
    /// # Errors
    /// [`Error::Exists`] if another file took the name meanwhile and may not be replaced,
    /// [`Error::Incomplete`] if bytes of the header were not written, [`Error::Io`] if flushing
    /// fails: the temporary is removed then. [`Error::Unnamed`] if the complete output cannot be
    /// given its name: it is kept under another one. An older file is unchanged.
    pub fn commit(self) -> Result<()> {
        self.complete()?;
        let (fs, path, sync) = (Arc::clone(&self.fs), self.path.clone(), self.options.sync);
        let private = self.private;
        let published = self.publish();
        if private {
            // A folder of ours is flushed as a whole, and goes as a whole if a file has no name.
            return published.map_err(|unnamed| unnamed.error);
        }
        published.map_err(|unnamed| unnamed.settle(0))?;
        flush_folder(&*fs, &path, sync)
    }

    /// Brings what was written to the device, if asked to, and checks that it is all there.
    pub(super) fn complete(&self) -> Result<()> {
        let missing = {
            let header = self.header();
            header.written.gap(header.len)
        };
        if let Some(missing) = missing {
            return Err(Error::Incomplete { path: self.path.as_path().into(), missing });
        }
        match self.options.sync.then(|| self.writer.sync()) {
            Some(Err(error)) if !no_flush(&error) => {
                Err(io_error(&self.path, "cannot flush the output")(error))
            }
            _ => Ok(()),
        }
    }

    /// Gives the output its name, or hands back what could not be named.
    pub(super) fn publish(self) -> Result<(), Box<Unnamed>> {
        let Self { path, options, fs, private, temporary, file, writer, .. } = self;
        drop(writer);
        if let Err(error) = check_target(&path, options.overwrite) {
            return Err(Box::new(Unnamed { fs, path, temporary, error }));
        }
        let name = || match options.overwrite || private {
            true => fs.rename(&temporary, &path),
            false => name_file(&*fs, &temporary, &path),
        };
        let mut named = name();
        if named.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
            // Some shares of Windows hosts do not rename what is open.
            drop(file);
            named = name();
        }
        match named {
            Ok(()) => {
                // Removes the old name of a file that was linked.
                drop(temporary);
                Ok(())
            }
            Err(error) => {
                let error = match error.kind() {
                    io::ErrorKind::AlreadyExists if !options.overwrite => {
                        Error::Exists { path: path.as_path().into() }
                    }
                    _ => io_error(&path, "cannot give the complete output its name")(error),
                };
                Err(Box::new(Unnamed { fs, path, temporary, error }))
            }
        }
    }

    pub(super) fn options(&self) -> OutputOptions {
        self.options
    }

    /// Gives up giving the output its name.
    pub(super) fn unnamed(self, error: Error) -> Box<Unnamed> {
        let Self { fs, path, temporary, .. } = self;
        Box::new(Unnamed { fs, path, temporary, error })
    }

    /// Keeps the complete output under another name; returns that.
    pub(super) fn keep(self) -> PathBuf {
        let Self { fs, temporary, .. } = self;
        keep(&*fs, temporary)
    }
}

/// A complete output that could not be given its name.
#[derive(Debug)]
pub(super) struct Unnamed {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    temporary: TempPath,
    error: Error,
}

impl Unnamed {
    /// Whether the output is refused, as it would have been at the start; else the file system has
    /// failed, and the work must not be lost for that.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.error, Error::Exists { .. } | Error::WrongKind { .. })
    }

    /// Removes what is refused and keeps the rest; `others` files of a set are kept beside it.
    pub(super) fn settle(self, others: usize) -> Error {
        if self.is_refused() {
            return self.error;
        }
        let Self { fs, path, temporary, error } = self;
        let error = match error {
            Error::Io { error, .. } => error,
            other => io::Error::other(other.to_string()),
        };
        Error::Unnamed { path: path.into(), kept: keep(&*fs, temporary).into(), others, error }
    }
}
