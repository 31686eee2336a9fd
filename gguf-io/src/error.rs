//! What can go wrong, in one line each.

mod facts;
mod parts;

use std::{io, path::Path};

use crate::ValueType;
pub(crate) use crate::message::{Quoted, Shown};
pub(crate) use parts::one_line;
use parts::{AsHave, Nearest, Others};
pub use parts::{Place, Problems};

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
pub(crate) const DAMAGED: &str = "the file is damaged or was written by a faulty program";
