//! A model as a GGUF file shows it: metadata, and tensors whose values can be read.

use std::path::Path;

use gguf_io::{GgufFile, Limits, Metadata, SourceFile};
use quant_kernels::Kernels;

use crate::{ElementMap, Encoding, Error, Piece, Result, Tensor, TensorData, TensorReader, View};

/// A model as the GGUF file that it is or would become.
///
/// A GGUF file is one ([`Gguf`]), and so is a checkpoint whose tensors have been given their GGUF
/// names, shapes and order: what works on a `Source` needs no file in between.
///
/// Nothing is loaded until a [reader](Self::reader) is asked for it, and a source can be read from
/// any number of threads, each with a reader of its own.
///
/// ```no_run
/// use quant_kernels::Kernels;
/// use quant_weights::{Gguf, Source};
///
/// let model = Gguf::open("model.gguf", &gguf_io::Limits::default())?;
/// let mut reader = model.reader(Kernels::best());
/// for tensor in model.tensors() {
///     let first_row = reader.values(tensor, 0..tensor.row_len())?;
///     println!("{} {:?} begins with {}", tensor.name, tensor.shape, first_row[0]);
/// }
/// model.check_unchanged()?;
/// # Ok::<(), quant_weights::Error>(())
/// ```
pub trait Source: Sync {
    /// Keys and values, in the order they are written.
    fn metadata(&self) -> &Metadata;

    /// The tensors, under their GGUF names; shapes are innermost first. No two have one name.
    fn tensors(&self) -> &[Tensor];

    /// The files that hold the weights, which [`Piece::file`] counts.
    fn files(&self) -> &[SourceFile];

    /// The tensor of a name, if there is one. Looks through all of them: make a map for many names.
    fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors().iter().find(|tensor| tensor.name == name)
    }

    /// A reader of the tensors, for one thread.
    fn reader(&self, kernels: Kernels) -> TensorReader<'_> {
        TensorReader::new(self.files(), kernels)
    }

    /// Says that tensors will be read, in this order, so that files which are far away can be fetched
    /// ahead of time. Those of this machine do nothing.
    fn will_read<'a>(&self, tensors: impl Iterator<Item = &'a Tensor>)
    where
        Self: Sized,
    {
        tensors.for_each(|tensor| tensor.will_be_read(self.files()));
    }

    /// Checks that no file has changed since it was opened. What was read before counts only if this
    /// succeeds afterwards.
    ///
    /// # Errors
    /// [`gguf_io::Error::Changed`] for the first that has.
    fn check_unchanged(&self) -> Result<()> {
        Ok(self.files().iter().try_for_each(SourceFile::check_unchanged)?)
    }
}

/// A GGUF file, split or not, as a [`Source`].
#[derive(Debug)]
pub struct Gguf {
    /// Keys and values, in file order; those of the first shard if the model is split.
    pub metadata: Metadata,
    /// Tensors in file order, shard by shard.
    pub tensors: Vec<Tensor>,
    /// The files: one, or every shard in order.
    pub files: Vec<SourceFile>,
}

impl Gguf {
    /// Opens a GGUF file, or all shards of a split one by the path of the first.
    ///
    /// # Errors
    /// As [`GgufFile::open`] and [`GgufFile::check_data`].
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        GgufFile::open(path, limits)?.try_into()
    }
}

impl TryFrom<GgufFile> for Gguf {
    type Error = Error;

    /// A file whose header has been read.
    ///
    /// # Errors
    /// As [`GgufFile::check_data`].
    fn try_from(file: GgufFile) -> Result<Self> {
        file.check_data()?;
        let GgufFile { metadata, tensors, files, .. } = file;
        let tensors = tensors
            .into_iter()
            .map(|t| {
                // The reader has checked that the bytes are whole blocks.
                let blocks = t.bytes / (t.ty.block_bytes() as u64).max(1);
                let piece = Piece {
                    file: t.file,
                    offset: t.offset,
                    encoding: Encoding::Ggml(t.ty),
                    view: View::whole(&[blocks]).ok_or(quant_core::Error::TooLarge)?,
                };
                let data = TensorData::Stored { pieces: vec![piece], map: ElementMap::Same };
                Ok(Tensor { name: t.name, shape: t.shape, data })
            })
            .collect::<Result<_>>()?;
        Ok(Self { metadata, tensors, files })
    }
}

impl Source for Gguf {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    fn files(&self) -> &[SourceFile] {
        &self.files
    }
}
