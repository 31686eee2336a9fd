//! Output that is complete or absent, whatever happens on the way.

use std::{ffi::OsStr, fmt, fs::File, io, path::Path, sync::Arc};

use crate::{Error, Result};

mod file;
mod file_system;
mod set;
mod space;
mod temporary;

pub use file::AtomicFile;
pub use file_system::FileSystem;
pub use set::AtomicSet;

pub(crate) use file_system::{Native, name_folder, sync_folder};
pub(crate) use temporary::{RANDOM, SUFFIX, prefix, rename_visible};

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

    /// Copies up to `len` bytes of a file, from its byte `from` on, to byte `to`, without bringing
    /// them into this process; 0 at the end of the file.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] and others where the operating system cannot: the bytes are
    /// then read and written.
    fn copy_from(&self, source: &File, from: u64, to: u64, len: usize) -> io::Result<usize> {
        let _ = (source, from, to, len);
        Err(io::ErrorKind::Unsupported.into())
    }

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

    #[cfg(not(any(unix, windows)))]
    fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    /// On file systems that can, the copy shares the blocks of the source.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn copy_from(&self, source: &File, from: u64, to: u64, len: usize) -> io::Result<usize> {
        let (mut from, mut to) = (from, to);
        Ok(rustix::fs::copy_file_range(source, Some(&mut from), self, Some(&mut to), len)?)
    }
}

/// The same file, not a second handle: processes have few, and models have many shards.
impl WriteAt for Arc<File> {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.as_ref().write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        WriteAt::sync(self.as_ref())
    }

    fn copy_from(&self, source: &File, from: u64, to: u64, len: usize) -> io::Result<usize> {
        self.as_ref().copy_from(source, from, to, len)
    }
}

fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Io { path: path.into(), action, error }
}

/// Makes the names of a folder's files durable, if asked to.
fn flush_folder(fs: &dyn FileSystem, path: &Path, sync: bool) -> Result<()> {
    match sync {
        true => sync_folder(fs, folder(path))
            .map_err(io_error(path, "is complete, but its folder cannot be flushed")),
        false => Ok(()),
    }
}

/// Makes the names of a file's folder durable, if asked to.
pub(crate) fn flush_folder_of(path: &Path, sync: bool) -> Result<()> {
    flush_folder(&Native, path, sync)
}

/// Refuses an output that is one of the files that are read, by whatever name or link.
pub(crate) fn refuse_inputs(path: &Path, inputs: &[crate::SourceFile]) -> Result<()> {
    match inputs.iter().any(|input| input.is_same_file(path)) {
        true => Err(Error::WrongKind {
            path: path.into(),
            found: "a file that is read",
            expected: "another one for the output",
        }),
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
