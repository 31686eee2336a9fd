//! Changing the metadata of a GGUF file. No tensor is touched.
//!
//! A new file takes the data of the old one as it is, copied by the system where it can. In place,
//! only the header is written, if the new one takes as much room as the old one: then a copy of the
//! old header lies beside the file until the new one is whole, and whatever interrupts the edit, the
//! old header can be put back. A header that has become smaller is filled up with a key,
//! [`PADDING`], so that it fits and a later edit may grow into the room. One that has become larger
//! does not fit: the file is written anew then, and takes the old one's name when it is complete.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::{AnyGguf, AnyTensor, layout, split};
use crate::{
    AtomicFile, Error, Limits, Metadata, OutputOptions, Place, Problems, Result, SourceFile, Value,
    WriteAt, error::Quoted, names, output,
};

/// The key that fills up a header edited in place: an array of zero bytes that means nothing.
pub const PADDING: &str = "quantwright.padding";

/// A change of metadata.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Gives a key a value, in its place if it is there, else at the end.
    Set(String, Value),
    /// Removes a key, which has to be there.
    Remove(String),
    /// Gives a key, which has to be there, another name, in its place.
    Rename(String, String),
}

impl Change {
    /// The keys that it touches.
    fn keys(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Self::Set(key, _) | Self::Remove(key) => (key, None),
            Self::Rename(from, to) => (from, Some(to)),
        };
        [Some(first), second].into_iter().flatten().map(String::as_str)
    }
}

/// Makes changes, one after the other.
///
/// # Errors
/// [`Error::Layout`] if a key to remove or rename is not there, or the new name is; for the keys
/// that say where the data of a file is (`general.alignment`, `split.*`), and for one that would
/// leave the file without a name of its architecture.
pub fn apply(metadata: &mut Metadata, changes: &[Change]) -> Result<()> {
    const ARCHITECTURE: &str = "general.architecture";
    let refused = |key: &str, found: String, expected: &str| {
        Err(layout::wrong(Place::Key(key.to_owned(), 0), found, expected))
    };
    let had_architecture = metadata.get_str(ARCHITECTURE).is_some();
    for change in changes {
        for key in change.keys() {
            if key == "general.alignment"
                || [split::COUNT, split::NUMBER, split::TENSORS].contains(&key)
            {
                let expected = "other keys: readers find the tensor data by this one";
                return refused(key, "an edit of it".to_owned(), expected);
            }
        }
        match change {
            Change::Set(key, value) => {
                metadata.insert(key.as_str(), value.clone());
            }
            Change::Remove(key) => {
                if metadata.remove(key).is_none() {
                    return refused(key, "nothing to remove".to_owned(), &like(metadata, key));
                }
            }
            Change::Rename(from, to) => {
                if metadata.get(to).is_some() && from != to {
                    return refused(to, "the key twice".to_owned(), "a name that is free");
                }
                if !metadata.rename(from, to.as_str()) {
                    return refused(from, "nothing to rename".to_owned(), &like(metadata, from));
                }
            }
        }
    }
    if had_architecture && metadata.get_str(ARCHITECTURE).is_none() {
        let found = "no text under it any more".to_owned();
        return refused(ARCHITECTURE, found, "the name of an architecture, which readers ask for");
    }
    Ok(())
}

/// What there is instead of a key: one whose last part is the same, if there is one.
fn like(metadata: &Metadata, key: &str) -> String {
    let last = |key: &str| key.rsplit('.').next().map(str::to_ascii_lowercase);
    let similar = metadata.iter().map(|(there, _)| there).find(|there| last(there) == last(key));
    match similar {
        Some(there) => format!("a key that is there, such as {}", Quoted(there)),
        None => "a key that is there".to_owned(),
    }
}

/// A file with other metadata, ready to be written.
#[derive(Debug)]
pub struct Edit<'a> {
    file: &'a SourceFile,
    /// Up to the data.
    header: Vec<u8>,
    /// The same filled up to where the data begins, if there is room.
    filled: Option<Vec<u8>>,
    /// Where the data begins in the file that is there.
    start: u64,
}

impl<'a> Edit<'a> {
    /// Makes the header of `model` with `metadata`. The data has to be whole.
    ///
    /// # Errors
    /// As [`AnyGguf::check_any`]; [`Error::Layout`] if the metadata does not fit the format, and
    /// [`Error::Set`] if the model has several files.
    pub fn new(model: &'a AnyGguf, metadata: &Metadata) -> Result<Self> {
        let ([file], [data]) = (model.files.as_slice(), model.data.as_slice()) else {
            return Err(several_files(model));
        };
        model.check_any()?;
        if layout::alignment(metadata)? != data.alignment {
            let place = Place::Key("general.alignment".to_owned(), 0);
            return Err(layout::wrong(place, "another alignment", "that of the file"));
        }
        let mut descriptions = Vec::new();
        for tensor in &model.tensors {
            // Checked to lie behind the beginning of the data.
            let offset = tensor.offset.saturating_sub(data.start);
            let AnyTensor { name, shape, type_id, .. } = tensor;
            layout::put_description(&mut descriptions, name, shape, *type_id, offset);
        }
        let mut metadata = metadata.clone();
        metadata.remove(PADDING);
        let mut header = layout::pairs(&metadata, model.tensors.len())?;
        header.extend(&descriptions);
        let taken = header.len() as u64;
        pad(&mut header, data.alignment);
        let zeros = data.start.checked_sub(taken).and_then(|room| room.checked_sub(FILLER));
        let filled = match zeros.and_then(|zeros| usize::try_from(zeros).ok()) {
            Some(zeros) if header.len() as u64 != data.start => {
                metadata.insert(PADDING, vec![0u8; zeros]);
                let mut filled = layout::pairs(&metadata, model.tensors.len())?;
                filled.extend(&descriptions);
                pad(&mut filled, data.alignment);
                Some(filled)
            }
            _ => None,
        };
        Ok(Self { file, header, filled, start: data.start })
    }

    /// The new header that takes the place of the old one without moving the data, if there is one.
    fn fitting(&self) -> Option<&[u8]> {
        let headers = [Some(&self.header), self.filled.as_ref()];
        let mut fitting = headers.into_iter().flatten().filter(|h| h.len() as u64 == self.start);
        fitting.next().map(Vec::as_slice)
    }

    /// Whether a new header takes the place of the old one without moving the data.
    pub fn fits(&self) -> bool {
        self.fitting().is_some()
    }

    fn data_len(&self) -> u64 {
        self.file.len().saturating_sub(self.start)
    }

    /// Length of the file in bytes.
    pub fn total(&self) -> u64 {
        (self.header.len() as u64).saturating_add(self.data_len())
    }

    /// Writes the file into an output of [`total`](Self::total) bytes, the header last.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Write`], [`Error::Changed`].
    pub fn write(&self, output: &AtomicFile) -> Result<()> {
        let header_len = self.header.len() as u64;
        output.expect_header(header_len);
        output.copy_from(self.file, self.start, self.data_len(), header_len)?;
        self.file.check_unchanged()?;
        output.write_all_at(&self.header, 0)
    }

    /// Writes a new file.
    ///
    /// # Errors
    /// As [`AtomicFile::create`], [`write`](Self::write) and [`AtomicFile::commit`];
    /// [`Error::WrongKind`] if the output is the file that is edited.
    pub fn save(&self, output: &Path, options: OutputOptions) -> Result<()> {
        output::refuse_inputs(output, std::slice::from_ref(self.file))?;
        let output = AtomicFile::create(output, self.total(), options)?;
        self.write(&output)?;
        output.commit()
    }

    /// Changes the file itself: its header alone if the new one [`fits`](Self::fits), else all of
    /// it. `sync` says whether to wait until it is on the device.
    ///
    /// # Errors
    /// As [`save`](Self::save). The file is then as it was before; if not even its old header could
    /// be put back, the error says so, and [`restore`] does.
    pub fn in_place(&self, sync: bool) -> Result<()> {
        let path = self.file.path();
        if !self.fits() {
            // Where the file is, if its name is a link.
            let path = std::fs::canonicalize(path)
                .map_err(|error| io_error(path, "cannot be found again", error))?;
            let options = OutputOptions { overwrite: true, sync };
            let output = AtomicFile::create(&path, self.total(), options)?;
            keep_mode(&path, output.temporary_path());
            self.write(&output)?;
            return output.commit();
        }
        let file = File::options()
            .write(true)
            .open(path)
            .map_err(|error| io_error(path, "cannot be changed", error))?;
        self.overwrite(&file, sync)
    }

    /// [`in_place`](Self::in_place) through a writer of the caller's, for tests of what happens
    /// when writing fails. The new header has to [fit](Self::fits).
    ///
    /// # Errors
    /// As [`in_place`](Self::in_place).
    pub fn overwrite(&self, file: &dyn WriteAt, sync: bool) -> Result<()> {
        let path = self.file.path();
        let Some(new) = self.fitting() else {
            let place = Place::Field("header", 0);
            let found = format!("{} bytes", self.header.len());
            return Err(layout::wrong(place, found, format!("at most {}", self.start)));
        };
        let mut old = vec![0; new.len()];
        self.file.read_exact_at(&mut old, 0)?;
        self.file.check_unchanged()?;
        let journal = Journal::write(path, self.file.len(), &old)?;
        let put = |header: &[u8]| -> io::Result<()> {
            file.write_all_at(header, 0)?;
            if sync { file.sync() } else { Ok(()) }
        };
        let Err(error) = put(new) else { return journal.remove(sync) };
        if put(&old).is_ok() {
            journal.remove(sync)?;
            return Err(io_error(path, "cannot change its header, which is as before", error));
        }
        Err(io_error(path, "an edit was cut off, and its header is damaged: edit it again", error))
    }
}

/// Bytes of a [`PADDING`] without zeros: length and text of the key, type, type of the elements,
/// their number.
const FILLER: u64 = 8 + PADDING.len() as u64 + 4 + 4 + 8;

/// Zeros up to the next multiple of the alignment.
fn pad(header: &mut Vec<u8>, alignment: u64) {
    let len = (header.len() as u64).next_multiple_of(alignment);
    header.resize(usize::try_from(len).unwrap_or(header.len()), 0);
}

/// Lets those read a file who could read the one that it replaces, and no one else. Where a file system
/// has no such thing, there is nothing to keep.
fn keep_mode(old: &Path, new: &Path) {
    #[cfg(unix)]
    if let Ok(file) = std::fs::metadata(old) {
        let _ = std::fs::set_permissions(new, file.permissions());
    }
    #[cfg(not(unix))]
    let _ = (old, new);
}

fn several_files(model: &AnyGguf) -> Error {
    let path = model.files.first().map_or_else(PathBuf::new, |file| file.path().to_owned());
    let mut problems = Problems::default();
    problems.add(|| format!("the model has {} files", model.files.len()));
    Error::Set { path: path.into(), problems, help: "merge it and edit the result" }
}

fn io_error(path: &Path, action: &'static str, error: io::Error) -> Error {
    Error::Io { path: path.into(), action, error }
}

/// The old header of a file whose header is being written.
struct Journal {
    path: PathBuf,
}

const MAGIC: &[u8; 16] = b"quantwright edit";

impl Journal {
    fn write(path: &Path, len: u64, old: &[u8]) -> Result<Self> {
        let journal = names::journal(path)
            .ok_or_else(|| io_error(path, "has no name", io::ErrorKind::InvalidInput.into()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(old);
        // Under its name it is complete, and on the device before the header is touched.
        let options = OutputOptions { overwrite: false, sync: true };
        let file = AtomicFile::create(&journal, bytes.len() as u64, options)?;
        file.write_all_at(&bytes, 0)?;
        file.commit()?;
        Ok(Self { path: journal })
    }

    fn remove(self, sync: bool) -> Result<()> {
        std::fs::remove_file(&self.path)
            .map_err(|error| io_error(&self.path, "cannot be removed", error))?;
        output::flush_folder_of(&self.path, sync)
    }
}

/// Puts the old header of a file back if an edit of it was cut off. Returns whether one was.
///
/// # Errors
/// [`Error::Io`], [`Error::Read`]; [`Error::Changed`] if the file is another one by now.
pub fn restore(path: &Path) -> Result<bool> {
    let Some(journal) = names::journal(path).filter(|journal| journal.exists()) else {
        return Ok(false);
    };
    let saved = SourceFile::open(&journal)?.read_all(Limits::default().heap)?;
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| io_error(path, "cannot be changed", error))?;
    let len = file.metadata().map_err(|error| io_error(path, "cannot be asked", error))?.len();
    let parts = saved.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk::<8>());
    match parts {
        Some((stored, old)) if u64::from_le_bytes(*stored) == len && old.len() as u64 <= len => {
            file.write_all_at(old, 0)
                .and_then(|()| WriteAt::sync(&file))
                .map_err(|error| io_error(path, "cannot put its old header back", error))?;
        }
        _ => {
            return Err(Error::Changed {
                path: path.into(),
                what: format!("{} belongs to another file", journal.display()),
            });
        }
    }
    Journal { path: journal }.remove(true)?;
    Ok(true)
}
