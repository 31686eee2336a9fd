//! What can go wrong, in one line each.

use std::{fmt, io, path::Path};

use crate::{ValueType, stored::Nearest};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model file could not be read or written.
///
/// Every message is one line that names the file and the place, says what was found and what was
/// expected, and what to do. Bytes that came from a file are escaped and shortened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server has not given what it was asked for.
    #[error("{}: {problem}; {help}", Shown(path))]
    Remote {
        /// The address.
        path: Box<Path>,
        /// What has happened.
        problem: String,
        /// What to do.
        help: &'static str,
    },
    /// The operating system refused an operation on a file.
    #[error("{}: {action}: {error}", Shown(path))]
    Io {
        /// The file or folder.
        path: Box<Path>,
        /// What was attempted, e.g. `cannot open`.
        action: &'static str,
        /// The operating system's reason.
        #[source]
        error: io::Error,
    },
    /// Reading a byte range failed.
    #[error("{}: cannot read {len} bytes at byte {offset}: {error}", Shown(path))]
    Read {
        /// The file.
        path: Box<Path>,
        /// Where the range begins.
        offset: u64,
        /// How long it is.
        len: u64,
        /// The operating system's reason.
        #[source]
        error: io::Error,
    },
    /// Writing a byte range failed.
    #[error("{}: cannot write {len} bytes at byte {offset}: {error}", Shown(path))]
    Write {
        /// The output (not the temporary).
        path: Box<Path>,
        /// Where the range begins.
        offset: u64,
        /// How long it is.
        len: u64,
        /// The operating system's reason.
        #[source]
        error: io::Error,
    },
    /// The path is not what is needed there: a folder, pipe or device for a file, or the reverse.
    #[error("{}: is {found}, expected {expected}", Shown(path))]
    WrongKind {
        /// The path.
        path: Box<Path>,
        /// What it is.
        found: &'static str,
        /// What is needed.
        expected: &'static str,
    },
    /// The file changed while it was being read.
    #[error("{}: changed while it was read: {what}; {AGAIN}", Shown(path))]
    Changed {
        /// The file.
        path: Box<Path>,
        /// The difference.
        what: String,
    },
    /// The file is something else altogether: empty, a web page, a pointer to the real file.
    #[error("{}: is {found}, expected {expected}; {help}", Shown(path))]
    NotAModel {
        /// The file.
        path: Box<Path>,
        /// What it is.
        found: String,
        /// The format expected.
        expected: &'static str,
        /// What to do.
        help: &'static str,
    },
    /// The file ends before what it announces.
    #[error(
        "{}: {place}: needs {needed} bytes, found {left} before the end of the file; \
         {CUT_SHORT}",
        Shown(path)
    )]
    Truncated {
        /// The file.
        path: Box<Path>,
        /// What is cut short.
        place: Place,
        /// Bytes it takes.
        needed: u64,
        /// Bytes there are.
        left: u64,
    },
    /// The file breaks the rules of its format.
    #[error("{}: {place}: found {found}, expected {expected}; {help}", Shown(path))]
    Malformed {
        /// The file.
        path: Box<Path>,
        /// Where.
        place: Place,
        /// What is there.
        found: Box<str>,
        /// What should be.
        expected: Box<str>,
        /// What to do.
        help: &'static str,
    },
    /// The file may be sound but needs something this version does not know.
    #[error("{}: {place}: found {found}, supported: {supported}; {help}", Shown(path))]
    Unsupported {
        /// The file.
        path: Box<Path>,
        /// Where.
        place: Place,
        /// What is there.
        found: Box<str>,
        /// What is supported.
        supported: Box<str>,
        /// What to do.
        help: &'static str,
    },
    /// A name occurs twice.
    #[error(
        "{}: duplicate {what} {}: {first} and again {second}; {DAMAGED}",
        Shown(path),
        Quoted(name)
    )]
    Duplicate {
        /// The file.
        path: Box<Path>,
        /// What has the name: key, tensor, entry.
        what: &'static str,
        /// The name.
        name: String,
        /// Where it is first, e.g. `at byte 24`.
        first: String,
        /// Where it is again.
        second: String,
    },
    /// Reading on would take more memory than allowed.
    #[error(
        "{}: {place}: needs {needed} bytes of memory, {left} of {limit} are left; \
         the file is damaged or the limit too low for it",
        Shown(path)
    )]
    LimitsExceeded {
        /// The file.
        path: Box<Path>,
        /// What needs the memory.
        place: Place,
        /// Bytes it takes.
        needed: u64,
        /// Bytes left.
        left: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The files of a model do not fit together. All that is wrong is listed.
    #[error("{}: {}; {help}", Shown(path), problems)]
    Set {
        /// The folder, index or first shard.
        path: Box<Path>,
        /// What is wrong.
        problems: Problems,
        /// What to do.
        help: &'static str,
    },
    /// What the caller asked to write does not fit the format.
    #[error("output: {}: found {found}, expected {expected}", .place.name())]
    Layout {
        /// Which key or tensor.
        place: Place,
        /// What it is.
        found: String,
        /// What the format allows.
        expected: String,
    },
    /// A name stands for nothing.
    #[error("{} is no {what}, expected one of {known}", Quoted(found))]
    UnknownName {
        /// What it was taken for, e.g. `dtype of safetensors files`.
        what: &'static str,
        /// The name.
        found: String,
        /// The names there are.
        known: String,
    },
    /// A tensor of an output was not written, or not all of it.
    #[error(
        "{}: tensor {} has {written} of its {bytes} bytes{}; {UNWRITTEN}",
        Shown(path),
        Quoted(tensor),
        AsHave(*others)
    )]
    Unwritten {
        /// The output.
        path: Box<Path>,
        /// The first such tensor.
        tensor: String,
        /// Bytes that were written.
        written: u64,
        /// Bytes of its data.
        bytes: u64,
        /// How many more tensors lack data.
        others: usize,
    },
    /// The elements of an array of metadata have another type.
    #[error("found an array of {found}, expected one of {expected}")]
    ElementType {
        /// The type they have.
        found: ValueType,
        /// The type asked for.
        expected: ValueType,
    },
    /// A model has no tensor of this name.
    #[error("{}: has no tensor {}{}", Shown(path), Quoted(name), Nearest(nearest.as_deref()))]
    NoTensor {
        /// The model; its first file, if it has several.
        path: Box<Path>,
        /// The name asked for.
        name: String,
        /// The name that is most like it.
        nearest: Option<String>,
    },
    /// A buffer is not as long as the data of the tensor that goes there or comes from there.
    #[error(
        "tensor {}: found a buffer of {found} bytes, expected {expected}, the size of its data",
        Quoted(tensor)
    )]
    BufferLength {
        /// The tensor.
        tensor: String,
        /// Bytes of the buffer.
        found: u64,
        /// Bytes of the tensor.
        expected: u64,
    },
    /// The output is there already.
    #[error("{}: exists already; {REPLACE}", Shown(path))]
    Exists {
        /// The output.
        path: Box<Path>,
    },
    /// The output is complete, but the file system does not let it have its name. Nothing is lost:
    /// it is there under another one.
    #[error(
        "{}: cannot give the complete output its name: {error}; it is kept as {}{}: rename it",
        Shown(path),
        Shown(kept),
        Others(*others)
    )]
    Unnamed {
        /// The output.
        path: Box<Path>,
        /// Where it is.
        kept: Box<Path>,
        /// How many other files of the same output are kept beside it.
        others: usize,
        /// The operating system's reason.
        #[source]
        error: io::Error,
    },
    /// The caller has not written the header of an output, which goes last.
    #[error(
        "{}: byte {missing} of its header was not written; write it before the commit",
        Shown(path)
    )]
    Incomplete {
        /// The output.
        path: Box<Path>,
        /// The first byte that was not written.
        missing: u64,
    },
    /// This process may not have as many files open as have to be at the same time.
    #[error(
        "{}: cannot be opened: at least {needed} files have to be open at the same time, this process \
         may have {limit}; allow more (ulimit -n {}) or use fewer files",
        Shown(path),
        // With some to spare, for what else the process has open.
        needed.saturating_add(16).checked_next_multiple_of(64).unwrap_or(*needed)
    )]
    OpenFiles {
        /// The first file that cannot be.
        path: Box<Path>,
        /// How many have to be.
        needed: u64,
        /// How many may be.
        limit: u64,
    },
    /// The output does not fit on its file system.
    #[error("{}: needs {needed} bytes, its file system has {available}; {SPACE}", Shown(path))]
    NoSpace {
        /// The output.
        path: Box<Path>,
        /// Bytes it takes.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
}

const AGAIN: &str = "run again when nothing writes to it";
const CUT_SHORT: &str = "the file is cut short or damaged, download it again";
const UNWRITTEN: &str = "write all tensors before the file is finished";
const REPLACE: &str = "choose another name or allow it to be replaced (`overwrite`)";
const SPACE: &str = "free some space or choose another folder";

impl Error {
    /// The file or folder that it is about, if there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. }
            | Self::Remote { path, .. }
            | Self::Read { path, .. }
            | Self::Write { path, .. }
            | Self::WrongKind { path, .. }
            | Self::Changed { path, .. }
            | Self::NotAModel { path, .. }
            | Self::Truncated { path, .. }
            | Self::Malformed { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Duplicate { path, .. }
            | Self::LimitsExceeded { path, .. }
            | Self::NoTensor { path, .. }
            | Self::Unwritten { path, .. }
            | Self::Set { path, .. }
            | Self::Exists { path }
            | Self::Unnamed { path, .. }
            | Self::Incomplete { path, .. }
            | Self::OpenFiles { path, .. }
            | Self::NoSpace { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The place in the file, if the error knows one.
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Truncated { place, .. }
            | Self::Malformed { place, .. }
            | Self::Unsupported { place, .. }
            | Self::LimitsExceeded { place, .. }
            | Self::Layout { place, .. } => Some(place),
            _ => None,
        }
    }

    /// The tensor that it is about, if there is one.
    pub fn tensor(&self) -> Option<&str> {
        match (self, self.place()) {
            (Self::Duplicate { what: "tensor" | "entry", name, .. }, _) => Some(name),
            (
                Self::NoTensor { name, .. }
                | Self::BufferLength { tensor: name, .. }
                | Self::Unwritten { tensor: name, .. },
                _,
            ) => Some(name),
            (_, Some(Place::Tensor(name, _))) => Some(name),
            _ => None,
        }
    }

    /// The metadata key that it is about, if there is one.
    pub fn key(&self) -> Option<&str> {
        match (self, self.place()) {
            (Self::Duplicate { what: "key", name, .. }, _) => Some(name),
            (_, Some(Place::Key(key, _))) => Some(key),
            _ => None,
        }
    }

    /// The offset in the file, in bytes, if it is known.
    pub fn byte(&self) -> Option<u64> {
        match (self, self.place()) {
            (Self::Read { offset, .. } | Self::Write { offset, .. }, _) => Some(*offset),
            // A layout is not of a file yet.
            (Self::Layout { .. }, _) | (_, None) => None,
            (_, Some(Place::Field(_, at) | Place::Key(_, at) | Place::Tensor(_, at))) => Some(*at),
        }
    }

    /// What to do about it: the last part of the message.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Changed { .. } => Some(AGAIN),
            Self::Truncated { .. } => Some(CUT_SHORT),
            Self::Duplicate { .. } => Some(DAMAGED),
            Self::Exists { .. } => Some(REPLACE),
            Self::NoSpace { .. } => Some(SPACE),
            Self::Unwritten { .. } => Some(UNWRITTEN),
            Self::NotAModel { help, .. }
            | Self::Remote { help, .. }
            | Self::Malformed { help, .. }
            | Self::Unsupported { help, .. }
            | Self::Set { help, .. } => Some(help),
            _ => None,
        }
    }

    /// The error of opening one file where `more` are to be opened after it.
    pub(crate) fn with_more_files(mut self, more: usize) -> Self {
        if let Self::OpenFiles { needed, .. } = &mut self {
            *needed = needed.saturating_add(more as u64);
        }
        self
    }
}

/// `, as have N others`, or nothing.
struct AsHave(usize);

impl fmt::Display for AsHave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(", and another one lacks data"),
            n => write!(f, ", and {n} others lack data"),
        }
    }
}

/// ` and N more files beside it`, or nothing.
struct Others(usize);

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(", its other file beside it"),
            n => write!(f, ", its other {n} files beside it"),
        }
    }
}

pub(crate) const DAMAGED: &str = "the file is damaged or was written by a faulty program";

/// Where in a file something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A part of the header that has a name, at this offset.
    Field(&'static str, u64),
    /// A metadata key whose entry, or part of it, is at this offset.
    Key(String, u64),
    /// A tensor whose description or data is at this offset.
    Tensor(String, u64),
}

impl Place {
    /// What it is, without where: what is not written yet has no place in a file.
    fn name(&self) -> String {
        match self {
            Self::Field(name, _) => (*name).to_owned(),
            Self::Key(key, _) => format!("key {}", Quoted(key)),
            Self::Tensor(name, _) => format!("tensor {}", Quoted(name)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Field(_, at) | Self::Key(_, at) | Self::Tensor(_, at)) = self;
        write!(f, "{} at byte {at}", self.name())
    }
}

pub(crate) use crate::message::Shown;

/// A name from a file, quoted, escaped and shortened for a message.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 80;
        match self.0.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{:?}…", self.0.get(..end).unwrap_or_default()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// Text that quotes a file, such as a parser's message: on one line and shortened.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut line: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

/// All that is wrong with a set of files. The first ones are kept and shown, the rest counted, so
/// that a hostile set cannot fill the memory or the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    first: Vec<String>,
    more: usize,
}

impl Problems {
    const KEPT: usize = 24;

    pub(crate) fn add(&mut self, problem: impl FnOnce() -> String) {
        if self.first.len() < Self::KEPT {
            self.first.push(problem());
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Adds those of another list after these.
    pub(crate) fn append(&mut self, other: Self) {
        other.first.into_iter().for_each(|problem| self.add(|| problem));
        self.more = self.more.saturating_add(other.more);
    }

    /// The first problems, one sentence each.
    pub fn first(&self) -> &[String] {
        &self.first
    }

    /// How many there are in all.
    pub fn count(&self) -> usize {
        self.first.len().saturating_add(self.more)
    }

    /// `Ok` if there are none, else the error that lists them.
    pub(crate) fn into_result(self, path: &Path, help: &'static str) -> Result<()> {
        if self.first.is_empty() {
            return Ok(());
        }
        Err(Error::Set { path: path.into(), problems: self, help })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join("; "))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
