//! Writing a file so that no tensor is forgotten, cut short or put in the place of another.

use std::{
    collections::HashMap,
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
};

use quant_core::{GgmlType, QTensor};

use super::{
    Layout, PlacedTensor, TensorSpec,
    layout::{check_length, wrong},
};
use crate::{
    AtomicFile, Error, OutputOptions, Place, Result, error::Quoted, ranges::Ranges, stored,
};

impl TensorSpec {
    /// A tensor to be written; dimensions innermost first.
    pub fn new(name: impl Into<String>, ty: GgmlType, shape: impl Into<Vec<u64>>) -> Self {
        Self { name: name.into(), ty, shape: shape.into() }
    }

    /// A tensor that is in memory.
    pub fn of(name: impl Into<String>, tensor: &QTensor<'_>) -> Self {
        let shape: Vec<_> = tensor.shape().iter().rev().map(|dim| *dim as u64).collect();
        Self::new(name, tensor.ty(), shape)
    }
}

impl Layout {
    /// Begins a file on disk, which appears under its name when it is
    /// [finished](GgufWriter::finish). Its space is claimed now.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create(self, path: impl AsRef<Path>, options: OutputOptions) -> Result<GgufWriter> {
        let file = AtomicFile::create(path, self.total, options)?;
        file.expect_header(self.header.len() as u64);
        let names = self.tensors.iter().enumerate();
        Ok(GgufWriter {
            file,
            index: names.map(|(index, tensor)| (tensor.name.clone(), index)).collect(),
            written: self.tensors.iter().map(|_| Mutex::default()).collect(),
            layout: self,
        })
    }

    /// Begins a file that goes to a stream: a socket, a compressor, a vector. Writes its header.
    ///
    /// # Errors
    /// [`Error::Write`] if the stream does not take it.
    pub fn write_to<W: Write>(self, out: W) -> Result<GgufStream<W>> {
        let mut stream =
            GgufStream { out, layout: self, next: 0, done: 0, position: 0, failed: false };
        let header = std::mem::take(&mut stream.layout.header);
        stream.put(&header)?;
        Ok(stream)
    }

    fn unwritten(&self, path: &Path, written: impl Fn(usize) -> u64) -> Result<()> {
        let tensors = self.tensors.iter().enumerate();
        let mut missing = tensors.filter(|(index, tensor)| written(*index) < tensor.bytes);
        match missing.next() {
            None => Ok(()),
            Some((index, tensor)) => Err(Error::Unwritten {
                path: path.into(),
                tensor: tensor.name.clone(),
                written: written(index),
                bytes: tensor.bytes,
                others: missing.count(),
            }),
        }
    }
}

/// A GGUF file on its way to disk. [`Layout::create`] makes one.
///
/// Tensors come in any order, whole or in parts, from any number of threads. Dropping it without
/// [`finish`](Self::finish) removes what was written; an older file of the name stays as it is.
///
/// ```
/// use gguf_io::{Layout, Metadata, OutputOptions, TensorSpec};
/// use quant_core::{GgmlType, QTensor};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("demo.gguf");
/// let up = QTensor::quantize(GgmlType::Q8_0, &[8, 64], &[0.5; 8 * 64])?;
/// let metadata = Metadata::from_iter([("general.architecture", "demo")]);
/// let layout = Layout::new(&metadata, &[TensorSpec::of("blk.0.ffn_up.weight", &up)])?;
/// let writer = layout.create(&path, OutputOptions::default())?;
/// writer.write("blk.0.ffn_up.weight", up.bytes())?;
/// writer.finish()?;
/// # let back = gguf_io::GgufFile::open(&path, &Default::default())?;
/// # assert_eq!(back.tensor("blk.0.ffn_up.weight")?.read()?, up);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "what is not finished is removed"]
pub struct GgufWriter {
    file: AtomicFile,
    layout: Layout,
    index: HashMap<String, usize>,
    /// Of each tensor.
    written: Vec<Mutex<Ranges>>,
}

impl GgufWriter {
    /// Where everything goes.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes a tensor.
    ///
    /// # Errors
    /// [`Error::NoTensor`] if it was not declared, [`Error::BufferLength`] if the data is not of its
    /// size, [`Error::NoSpace`] or [`Error::Write`] if the file system does not take it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (index, tensor) = self.find(name)?;
        check_length(tensor, bytes)?;
        self.put(index, tensor, bytes, 0)
    }

    /// Writes a part of a tensor: `bytes` belong `offset` bytes after its beginning.
    ///
    /// # Errors
    /// As [`write`](Self::write), and [`Error::Layout`] if they end beyond the tensor.
    pub fn write_at(&self, name: &str, bytes: &[u8], offset: u64) -> Result<()> {
        let (index, tensor) = self.find(name)?;
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > tensor.bytes) {
            let found = format!("{} bytes of data at byte {offset} of it", bytes.len());
            let place = Place::Tensor(tensor.name.clone(), tensor.offset);
            return Err(wrong(place, found, format!("none after its {} bytes", tensor.bytes)));
        }
        self.put(index, tensor, bytes, offset)
    }

    fn find(&self, name: &str) -> Result<(usize, &PlacedTensor)> {
        let found = self.index.get(name).and_then(|i| Some((*i, self.layout.tensors.get(*i)?)));
        found.ok_or_else(|| {
            let names = self.layout.tensors.iter().map(|tensor| tensor.name.as_str());
            stored::no_tensor(self.file.path(), name, names)
        })
    }

    fn put(&self, index: usize, tensor: &PlacedTensor, bytes: &[u8], offset: u64) -> Result<()> {
        // Neither sum wraps: the layout ends before 2^63.
        self.file.write_all_at(bytes, tensor.offset.saturating_add(offset))?;
        if let Some(written) = self.written.get(index) {
            let end = offset.saturating_add(bytes.len() as u64);
            written.lock().unwrap_or_else(PoisonError::into_inner).add(offset..end);
        }
        Ok(())
    }

    /// Writes the header, flushes the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::Unwritten`] with the first tensor that has not all of its bytes; otherwise as
    /// [`AtomicFile::commit`]. What was written is removed then.
    pub fn finish(self) -> Result<()> {
        self.layout.unwritten(self.file.path(), |index| {
            let written = self.written.get(index);
            written.map_or(0, |w| w.lock().unwrap_or_else(PoisonError::into_inner).total())
        })?;
        self.file.write_all_at(&self.layout.header, 0)?;
        self.file.commit()
    }
}

/// A GGUF file on its way to a stream. [`Layout::write_to`] makes one.
///
/// Tensors come in the order of the layout, whole or in parts.
#[derive(Debug)]
#[must_use = "what is not finished lacks its end"]
pub struct GgufStream<W> {
    out: W,
    layout: Layout,
    /// Index of the tensor that is due.
    next: usize,
    /// Bytes of it that are written.
    done: u64,
    /// Bytes of the file that are written.
    position: u64,
    /// Whether the stream has failed: nobody knows what it took.
    failed: bool,
}

impl<W: Write> GgufStream<W> {
    /// Writes a tensor.
    ///
    /// # Errors
    /// [`Error::Layout`] if another one is due, [`Error::BufferLength`] if the data is not of its
    /// size, [`Error::Write`] if the stream does not take it.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let tensor = self.due(name)?;
        check_length(&tensor, bytes)?;
        self.append(name, bytes)
    }

    /// Writes the next bytes of a tensor.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`Error::Layout`] if they are more than it lacks.
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let tensor = self.due(name)?;
        let lacks = tensor.bytes.saturating_sub(self.done);
        if bytes.len() as u64 > lacks {
            let place = Place::Tensor(tensor.name.clone(), tensor.offset);
            let found = format!("{} bytes of data", bytes.len());
            return Err(wrong(place, found, format!("the {lacks} that it lacks")));
        }
        self.pad_to(tensor.offset)?;
        self.put(bytes)?;
        self.done = self.done.saturating_add(bytes.len() as u64);
        self.skip_complete();
        Ok(())
    }

    /// Moves on where nothing is due of a tensor.
    fn skip_complete(&mut self) {
        while self.layout.tensors.get(self.next).is_some_and(|tensor| tensor.bytes == self.done) {
            (self.next, self.done) = (self.next.saturating_add(1), 0);
        }
    }

    fn due(&mut self, name: &str) -> Result<PlacedTensor> {
        let tensors = &self.layout.tensors;
        let Some(asked) = tensors.iter().position(|tensor| tensor.name == name) else {
            let names = tensors.iter().map(|tensor| tensor.name.as_str());
            return Err(stored::no_tensor(Path::new(STREAM), name, names));
        };
        // Tensors without bytes need not be written, but may be.
        let between = tensors.get(self.next..asked).unwrap_or_default();
        let empty = |tensor: &PlacedTensor| tensor.bytes == 0;
        match tensors.get(asked) {
            Some(tensor) if asked >= self.next && between.iter().all(empty) => {
                self.next = asked;
                Ok(tensor.clone())
            }
            Some(tensor) if empty(tensor) => Ok(tensor.clone()),
            _ => {
                let expected = match tensors.get(self.next) {
                    Some(due) => format!("{}, which comes first", Quoted(&due.name)),
                    None => "no more tensors".to_owned(),
                };
                Err(wrong(Place::Tensor(name.to_owned(), 0), "data of it", expected))
            }
        }
    }

    fn pad_to(&mut self, offset: u64) -> Result<()> {
        const ZEROS: [u8; 64] = [0; 64];
        while self.position < offset {
            let len = usize::try_from(offset - self.position).unwrap_or(ZEROS.len());
            self.put(ZEROS.get(..len).unwrap_or(&ZEROS))?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let failure = |error| Error::Write {
            path: Path::new(STREAM).into(),
            offset: self.position,
            len: bytes.len() as u64,
            error,
        };
        if self.failed {
            return Err(failure(std::io::Error::other("the stream has failed before")));
        }
        self.out.write_all(bytes).map_err(failure).inspect_err(|_| self.failed = true)?;
        self.position = self.position.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Pads the last tensor, flushes the stream and gives it back.
    ///
    /// # Errors
    /// [`Error::Unwritten`] with the first tensor that has not all of its bytes, [`Error::Write`] if
    /// the stream fails.
    pub fn finish(mut self) -> Result<W> {
        let (next, done) = (self.next, self.done);
        self.layout.unwritten(Path::new(STREAM), |index| match index.cmp(&next) {
            std::cmp::Ordering::Less => u64::MAX,
            std::cmp::Ordering::Equal => done,
            std::cmp::Ordering::Greater => 0,
        })?;
        self.pad_to(self.layout.total)?;
        let position = self.position;
        self.out.flush().map_err(|error| Error::Write {
            path: Path::new(STREAM).into(),
            offset: position,
            len: 0,
            error,
        })?;
        Ok(self.out)
    }
}

/// What a stream is called in messages.
const STREAM: &str = "the stream";
