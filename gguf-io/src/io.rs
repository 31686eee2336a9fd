//! Where model bytes come from: positioned reads, never a seek, so threads can share a file.

use std::{
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use crate::{Budget, Error, Limits, Place, Result, open_files};

/// Positioned reads from something whose length is known.
pub trait ReadAt: Send + Sync + std::fmt::Debug {
    /// The length in bytes.
    ///
    /// # Errors
    /// When the operating system does not tell.
    fn len(&self) -> io::Result<u64>;

    /// Reads some bytes at `offset` into the front of `buf`; 0 at the end.
    ///
    /// # Errors
    /// When the operating system fails to read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// All bytes, where they are in memory already.
    fn as_slice(&self) -> Option<&[u8]> {
        None
    }

    /// Says that a range will be read, after those said before. A reader for which it takes long to
    /// begin may fetch it ahead of time; others do nothing.
    fn will_read(&self, range: Range<u64>) {
        let _ = range;
    }

    /// Whether ranges that [will be read](Self::will_read) are fetched ahead, in the order in which they
    /// were announced, so that reading them in another order is slower.
    fn is_fetched_ahead(&self) -> bool {
        false
    }

    /// Whether there are no bytes.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `offset` on. Interrupted reads are repeated.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the end comes first; else the operating system's error.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    // A reader that claims more than the buffer holds is broken.
                    buf = buf.get_mut(n..).ok_or(io::ErrorKind::InvalidData)?;
                    offset = offset.checked_add(n as u64).ok_or(io::ErrorKind::InvalidInput)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl ReadAt for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        // Moves the file's cursor, which nothing here uses.
        std::os::windows::fs::FileExt::seek_read(self, buf, offset)
    }

    #[cfg(not(any(unix, windows)))]
    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The same reader, not a second handle: processes have few, and models have many shards.
impl<R: ReadAt + ?Sized> ReadAt for Arc<R> {
    fn len(&self) -> io::Result<u64> {
        ReadAt::len(self.as_ref())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        ReadAt::read_at(self.as_ref(), buf, offset)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        ReadAt::read_exact_at(self.as_ref(), buf, offset)
    }

    fn as_slice(&self) -> Option<&[u8]> {
        ReadAt::as_slice(self.as_ref())
    }

    fn will_read(&self, range: Range<u64>) {
        ReadAt::will_read(self.as_ref(), range);
    }

    fn is_fetched_ahead(&self) -> bool {
        ReadAt::is_fetched_ahead(self.as_ref())
    }
}

fn copy_at(bytes: &[u8], buf: &mut [u8], offset: u64) -> usize {
    let rest =
        usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
    let n = rest.len().min(buf.len());
    if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
        to.copy_from_slice(from);
    }
    n
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.as_slice().len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(copy_at(self, buf, offset))
    }

    fn as_slice(&self) -> Option<&[u8]> {
        Some(self)
    }
}

/// Bytes in memory, whoever owns them.
struct InMemory<B>(B);

impl<B> std::fmt::Debug for InMemory<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InMemory")
    }
}

impl<B: AsRef<[u8]> + Send + Sync> ReadAt for InMemory<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.as_ref().len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(copy_at(self.0.as_ref(), buf, offset))
    }

    fn as_slice(&self) -> Option<&[u8]> {
        Some(self.0.as_ref())
    }
}

/// A file that a model is read from.
///
/// Its length is recorded when it is opened, so that every later read is checked against it and a
/// file that changes during a run is noticed. A clone shares the handle.
#[derive(Clone, Debug)]
pub struct SourceFile {
    path: PathBuf,
    len: u64,
    backing: Backing,
}

#[derive(Clone, Debug)]
enum Backing {
    File { file: Arc<File>, modified: Option<SystemTime>, wrapper: Option<Arc<dyn ReadAt>> },
    Other(Arc<dyn ReadAt>),
}

impl SourceFile {
    /// Opens a regular file. Symlinks are followed; folders, pipes and devices are refused, and
    /// opening one never blocks.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened, [`Error::WrongKind`] if it is not a regular file,
    /// [`Error::OpenFiles`] if this process has too many files open.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_path(path.as_ref())
    }

    fn open_path(path: &Path) -> Result<Self> {
        let io = |error| Error::Io { path: path.into(), action: "cannot open", error };
        // Opening a device can have effects and opening a pipe can block: look first.
        regular(path, &std::fs::metadata(path).map_err(io)?)?;
        let mut options = File::options();
        options.read(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            // In case a pipe has taken the file's place since.
            options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        }
        let file =
            options.open(path).map_err(|error| open_files::error(path, "cannot open", error))?;
        let stat = file.metadata().map_err(io)?;
        regular(path, &stat)?;
        Ok(Self {
            path: path.to_path_buf(),
            len: stat.len(),
            backing: Backing::File {
                file: Arc::new(file),
                modified: stat.modified().ok(),
                wrapper: None,
            },
        })
    }

    /// A file in memory: a vector, a static slice, or a file that the caller mapped (or an `Arc`
    /// of that). `name` stands for it in messages. Tensors are borrowed
    /// from it, not copied: see [`StoredTensor`](crate::StoredTensor).
    ///
    /// The code that makes a map is `unsafe` and promises that the file does not change while it is
    /// mapped. If the file is truncated all the same, reading the missing pages ends the process with
    /// SIGBUS; only [`open`](Self::open) makes that an error.
    pub fn from_bytes(
        name: impl Into<PathBuf>,
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
    ) -> Self {
        Self {
            path: name.into(),
            len: bytes.as_ref().len() as u64,
            backing: Backing::Other(Arc::new(InMemory(bytes))),
        }
    }

    /// A file that the caller has mapped: [`from_bytes`](Self::from_bytes) of a map.
    ///
    /// ```
    /// // Safe, since it belongs to this process alone; `memmap2::Mmap::map` of a file is `unsafe`.
    /// let map = memmap2::MmapMut::map_anon(4096)?.make_read_only()?;
    /// let file = gguf_io::SourceFile::from_mmap("mapped", map);
    /// assert_eq!(file.len(), 4096);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(feature = "mmap")]
    pub fn from_mmap(name: impl Into<PathBuf>, map: memmap2::Mmap) -> Self {
        Self::from_bytes(name, map)
    }

    /// A file behind any other positioned reader.
    ///
    /// # Errors
    /// [`Error::Io`] if the reader does not know its length.
    pub fn from_reader(name: impl Into<PathBuf>, reader: Box<dyn ReadAt>) -> Result<Self> {
        let path = name.into();
        match reader.len() {
            Ok(len) => Ok(Self { path, len, backing: Backing::Other(reader.into()) }),
            Err(error) => {
                Err(Error::Io { path: path.into(), action: "cannot tell the length", error })
            }
        }
    }

    /// Puts another reader around the one in use, for tests of what happens when reading fails.
    /// Changes are still noticed in the file itself.
    ///
    /// # Errors
    /// None today.
    pub fn wrap_reader(
        mut self,
        wrap: impl FnOnce(Box<dyn ReadAt>) -> Box<dyn ReadAt>,
    ) -> Result<Self> {
        self.backing = match self.backing {
            Backing::Other(reader) => Backing::Other(wrap(Box::new(reader)).into()),
            Backing::File { file, modified, wrapper } => {
                let inner: Box<dyn ReadAt> = match wrapper {
                    Some(reader) => Box::new(reader),
                    None => Box::new(Arc::clone(&file)),
                };
                Backing::File { file, modified, wrapper: Some(wrap(inner).into()) }
            }
        };
        Ok(self)
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the operating system, if reads go to one as it is.
    pub(crate) fn file(&self) -> Option<&File> {
        match &self.backing {
            Backing::File { file, wrapper: None, .. } => Some(file),
            _ => None,
        }
    }

    /// Bytes of a file that is in memory, without a copy; `None` if it is not, or ends before them.
    pub fn slice(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let Backing::Other(reader) = &self.backing else { return None };
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        reader.as_slice()?.get(start..end)
    }

    /// The length in bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file had no bytes when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buf` from `offset` on, or fails: bytes are never made up.
    ///
    /// # Errors
    /// [`Error::Read`] with the path and offset.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let reader: &dyn ReadAt = match &self.backing {
            Backing::File { wrapper: Some(reader), .. } => reader.as_ref(),
            Backing::File { file, .. } => file,
            Backing::Other(reader) => reader.as_ref(),
        };
        let len = buf.len() as u64;
        reader.read_exact_at(buf, offset).map_err(|error| Error::Read {
            path: self.path.as_path().into(),
            offset,
            len,
            error: match error.kind() {
                io::ErrorKind::UnexpectedEof => io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file ends before that; it is cut short or was changed",
                ),
                _ => error,
            },
        })
    }

    /// Says that a range will be read, after those said before, so that a file which is far away can
    /// be fetched ahead of time. Reading something else, or in another order, is slower and not wrong.
    pub fn will_read(&self, range: Range<u64>) {
        if let Backing::Other(reader) = &self.backing {
            reader.will_read(range);
        }
    }

    /// Whether what [will be read](Self::will_read) is fetched ahead, in that order.
    pub fn is_fetched_ahead(&self) -> bool {
        matches!(&self.backing, Backing::Other(reader) if reader.is_fetched_ahead())
    }

    /// Reads `len` bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::Truncated`] if the file does not have them, [`Error::LimitsExceeded`] if the budget
    /// does not, [`Error::Read`] if reading fails. Memory is taken only after the first two.
    pub fn read_vec(&self, offset: u64, len: usize, budget: &mut Budget) -> Result<Vec<u8>> {
        let place = Place::Field("data", offset);
        let left = self.len.saturating_sub(offset);
        if len as u64 > left {
            return Err(Error::Truncated {
                path: self.path.as_path().into(),
                place,
                needed: len as u64,
                left,
            });
        }
        budget.debit(len as u64, &self.path, &place)?;
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Reads the whole file if it has at most `longest` bytes.
    ///
    /// # Errors
    /// [`Error::LimitsExceeded`] if it has more, [`Error::Read`] if reading fails.
    pub fn read_all(&self, longest: u64) -> Result<Vec<u8>> {
        let mut budget = Budget::new(&Limits::with_heap(longest));
        budget.admit(self.len);
        // A length beyond the address space is beyond every budget.
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        self.read_vec(0, len, &mut budget)
    }

    /// Checks that the length and the time of the last change are still those found at opening.
    ///
    /// # Errors
    /// [`Error::Changed`] if they are not, [`Error::Io`] if the file can no longer be asked.
    pub fn check_unchanged(&self) -> Result<()> {
        let io = |error| Error::Io {
            path: self.path.as_path().into(),
            action: "cannot check for changes",
            error,
        };
        let (len, same_time) = match &self.backing {
            Backing::File { file, modified, .. } => {
                let stat = file.metadata().map_err(io)?;
                (stat.len(), stat.modified().ok() == *modified)
            }
            Backing::Other(reader) => (reader.len().map_err(io)?, true),
        };
        let what = if len != self.len {
            format!("its length was {} bytes and is {len}", self.len)
        } else if !same_time {
            "its modification time is another".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Changed { path: self.path.as_path().into(), what })
    }

    /// Whether `path` leads to this very file, by whatever name or link. A file in memory is no
    /// file on disk; a path that leads nowhere is not this file.
    pub fn is_same_file(&self, path: &Path) -> bool {
        let Backing::File { file, .. } = &self.backing else {
            return false;
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            match (file.metadata(), std::fs::metadata(path)) {
                (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
                _ => false,
            }
        }
        #[cfg(not(unix))]
        {
            // No safe way to the file id there: resolves symlinks, but not hard links.
            let _ = file;
            match (self.path.canonicalize(), path.canonicalize()) {
                (Ok(a), Ok(b)) => a == b,
                _ => false,
            }
        }
    }
}

fn regular(path: &Path, stat: &std::fs::Metadata) -> Result<()> {
    if stat.is_file() {
        return Ok(());
    }
    Err(Error::WrongKind {
        path: path.into(),
        found: if stat.is_dir() { "a folder" } else { "a pipe, socket or device" },
        expected: "a regular file",
    })
}
