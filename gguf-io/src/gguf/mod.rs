//! GGUF files: reading their headers, checking their data, laying out new ones; editing, splitting,
//! merging and hashing those there are.

mod any;
pub(crate) mod check;
#[cfg(feature = "write")]
pub mod edit;
mod foreign_types;
pub mod hash;
mod layout;
pub(crate) mod read;
#[cfg(feature = "write")]
pub mod regroup;
pub mod shards;
mod split;
mod tensor;
#[cfg(feature = "write")]
mod writer;

use std::path::Path;

use crate::{Budget, Limits, Metadata, Result, SourceFile, StoredTensor, names, sniff, stored};

pub use any::AnyGguf;
pub use layout::{Layout, PlacedTensor, TensorSpec};
use read::Tensor;
pub use shards::Split;
pub(crate) use split::ShardName;
pub use tensor::{AnyTensor, TensorInfo};
#[cfg(feature = "write")]
pub use writer::{GgufStream, GgufWriter};

/// A GGUF model: its metadata and the list of its tensors. No tensor data is loaded.
///
/// Tensors are [`TensorInfo`]s, whose types are known; in an [`AnyGguf`] they may have any.
#[derive(Debug)]
pub struct GgufFile<T = TensorInfo> {
    /// Keys and values, in file order; those of the first shard if the model is split.
    pub metadata: Metadata,
    /// Tensors in file order, shard by shard.
    pub tensors: Vec<T>,
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Alignment of tensor data in bytes, in the first shard if the model is split.
    pub alignment: u64,
    /// The files: one, or every shard in order.
    pub files: Vec<SourceFile>,
    /// Where the data of each file begins.
    data: Vec<read::DataSection>,
}

impl<T> GgufFile<T> {
    /// The path of the model: of its first file, if it has several.
    pub fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), SourceFile::path)
    }
}

impl GgufFile {
    /// Opens a model by its path; if that is the first shard of several, opens them all.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`SourceFile::open`]; [`crate::Error::Set`] if shards are missing
    /// or do not belong together, or if the path is another shard than the first.
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        open(path.as_ref(), limits)
    }

    /// Opens a model whose files were opened before: one, or all shards, which are known by their
    /// names.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_files(files: &[SourceFile], limits: &Limits) -> Result<Self> {
        open_files(files, limits)
    }

    /// Reads the header of one file, whether or not it is a shard.
    ///
    /// # Errors
    /// [`crate::Error::NotAModel`] if it is something else, [`crate::Error::Unsupported`] for other
    /// versions, byte orders and tensor types, [`crate::Error::Truncated`],
    /// [`crate::Error::Malformed`], [`crate::Error::Duplicate`] or [`crate::Error::LimitsExceeded`]
    /// if the header is damaged.
    pub fn read(file: SourceFile, limits: &Limits) -> Result<Self> {
        Self::read_with(file, &mut Budget::new(limits))
    }

    /// As [`read`](Self::read), charging what it allocates to a budget, which is granted what the
    /// file may cost.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_with(file: SourceFile, budget: &mut Budget) -> Result<Self> {
        read_one(file, budget)
    }

    /// Checks that the tensor data is all there and in its place: in the order of the tensors,
    /// aligned, with nothing but padding between, and nothing after it.
    ///
    /// Opening does not do this, so that a damaged file can be inspected.
    ///
    /// # Errors
    /// [`crate::Error::Truncated`] if data is missing, [`crate::Error::Malformed`] if it is
    /// misplaced or other bytes follow it.
    pub fn check_data(&self) -> Result<()> {
        check_places(self)
    }

    /// A tensor by its name.
    ///
    /// # Errors
    /// [`crate::Error::NoTensor`] with the name most like it.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>> {
        let found = self.iter().find(|tensor| tensor.name() == name);
        let names = || self.tensors.iter().map(|tensor| tensor.name.as_str());
        found.ok_or_else(|| stored::no_tensor(self.path(), name, names()))
    }

    /// The tensors in file order, each with the way to its bytes.
    pub fn iter(&self) -> impl Iterator<Item = StoredTensor<'_>> {
        self.tensors.iter().filter_map(|info| {
            let file = self.files.get(info.file)?;
            Some(StoredTensor::new(&info.name, info, file, info.offset, info.bytes))
        })
    }

    /// Checks that the bytes between the tensors are zero, in a file whose
    /// [data is in its place](Self::check_data).
    ///
    /// # Errors
    /// [`crate::Error::Malformed`] with the first byte that is not, [`crate::Error::Read`].
    pub fn check_padding(&self) -> Result<()> {
        for (index, (file, data)) in self.files.iter().zip(&self.data).enumerate() {
            check::padding(file, data, self.tensors.iter().filter(|tensor| tensor.file == index))?;
        }
        Ok(())
    }
}

fn open<T: Tensor>(path: &Path, limits: &Limits) -> Result<GgufFile<T>> {
    names::refuse_cut_off(path)?;
    let mut budget = Budget::new(limits);
    let model = read_one(SourceFile::open(path)?, &mut budget).map_err(sniff::explain)?;
    match model.metadata.get_u64(split::COUNT) {
        Some(count) if count > 1 => split::open_rest(model, path, count, &[], &mut budget),
        _ => Ok(model),
    }
}

fn open_files<T: Tensor>(files: &[SourceFile], limits: &Limits) -> Result<GgufFile<T>> {
    let Some(first) = files.first() else {
        let problem = "a model without files";
        return Err(layout::wrong(crate::Place::Field("files", 0), problem, "one or more"));
    };
    let mut budget = Budget::new(limits);
    let model = read_one(first.clone(), &mut budget).map_err(sniff::explain)?;
    match model.metadata.get_u64(split::COUNT) {
        Some(count) if count > 1 => {
            split::open_rest(model, first.path(), count, files, &mut budget)
        }
        _ => Ok(model),
    }
}

fn read_one<T: Tensor>(file: SourceFile, budget: &mut Budget) -> Result<GgufFile<T>> {
    budget.admit(file.len());
    let header = read::header(&file, 0, budget)?;
    Ok(GgufFile {
        metadata: header.metadata,
        tensors: header.tensors,
        version: header.version,
        alignment: header.data.alignment,
        files: vec![file],
        data: vec![header.data],
    })
}

fn check_places<T: Tensor>(model: &GgufFile<T>) -> Result<()> {
    for (index, (file, data)) in model.files.iter().zip(&model.data).enumerate() {
        check::file(file, data, model.tensors.iter().filter(|tensor| tensor.file() == index))
            .map_err(sniff::explain)?;
    }
    Ok(())
}
