//! Hugging Face checkpoints in the safetensors format.

mod dtype;
mod files;
mod folder;
mod header;
mod index;
mod json;
mod locate;
mod neighbours;
mod shards;

use std::{collections::BTreeMap, path::Path};

use indexmap::{IndexMap, map};
use quant_core::QTensor;

use crate::{
    Budget, Error, Limits, Place, Result, SourceFile, StoredTensor,
    error::{Problems, Quoted, Shown},
    stored,
};

pub use dtype::Dtype;
pub use files::Preference;
#[cfg(feature = "remote")]
pub(crate) use folder::{INDEX, SINGLE};
use header::Header;
#[cfg(feature = "remote")]
pub(crate) use index::named_by_index;
pub use locate::locate;

/// Whether a file is named like a shard of weights.
#[cfg(feature = "remote")]
pub(crate) fn is_shard(name: &str) -> bool {
    shards::Shard::parse(name).is_some()
}

/// The weights of a checkpoint: a list of tensors. No tensor data is loaded.
#[derive(Debug)]
pub struct Checkpoint {
    /// The files. [`open`](Self::open) sorts them by name, [`read`](Self::read) keeps its order.
    pub files: Vec<SourceFile>,
    /// Tensors file by file, in each file in the order of their data.
    ///
    /// llama.cpp's converter goes through each file by *name* instead: sort by `(file, name)` to
    /// follow it.
    pub tensors: IndexMap<String, CheckpointTensor>,
    /// What the files say of themselves under `__metadata__`. Of a key that several have, the value
    /// in the first counts.
    pub metadata: BTreeMap<String, String>,
}

/// A tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CheckpointTensor {
    /// How the values are stored.
    pub dtype: Dtype,
    /// Dimensions in Hugging Face order, outermost first. A scalar has none.
    pub shape: Vec<u64>,
    /// Index into [`Checkpoint::files`].
    pub file: usize,
    /// Absolute offset of the data in its file.
    pub offset: u64,
    /// Bytes of the data: what the shape asks for, and there in the file.
    pub bytes: u64,
}

impl Checkpoint {
    /// Opens the weights in a folder: `model.safetensors`, else the files that
    /// `model.safetensors.index.json` names, else `model-*-of-*.safetensors` as a complete set.
    /// Other files are left alone, whatever they are called. Where an index or shards stand beside
    /// `model.safetensors`, a warning names both.
    ///
    /// # Errors
    /// [`crate::Error::Set`] lists all shards that are missing, too many or named outside the folder, and
    /// all tensors on which index and shards disagree; [`crate::Error::NotAModel`] for pickles and for
    /// folders without weights; otherwise as [`read`](Self::read).
    pub fn open(dir: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        Self::open_with(dir.as_ref(), Preference::default(), limits)
    }

    /// Opens one safetensors file, whatever stands beside it.
    ///
    /// # Errors
    /// As [`SourceFile::open`] and [`read`](Self::read).
    pub fn open_file(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        Self::read(vec![SourceFile::open(path)?], limits)
    }

    /// As [`open`](Self::open), with the choice between two sets of weights.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(dir: &Path, preference: Preference, limits: &Limits) -> Result<Self> {
        Self::open_elsewhere(dir, &[], preference, limits)
    }

    /// As [`open_with`](Self::open_with), of a folder some of whose files are elsewhere: they were
    /// opened before, are known by their names, and come before files in the folder.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_elsewhere(
        dir: &Path,
        elsewhere: &[SourceFile],
        preference: Preference,
        limits: &Limits,
    ) -> Result<Self> {
        let mut budget = Budget::new(limits);
        let folder = folder::Folder { path: dir, elsewhere };
        let found = files::find(folder, preference, &mut budget)?;
        let checkpoint = Self::read_with(found.files, &mut budget)?;
        match found.index.map(|index| index.check(&checkpoint)) {
            // transformers does not look at an index beside the single file.
            Some(Err(Error::Set { path, problems, .. }))
                if !found.strict && preference == Preference::SingleFile =>
            {
                tracing::warn!(
                    kind = "two-sets-of-weights",
                    "{}: does not fit model.safetensors ({}; {} differences in all); \
                     model.safetensors is read without it, as transformers does",
                    Shown(&path),
                    problems.first().first().map_or("", String::as_str),
                    problems.count()
                );
            }
            Some(result) => result?,
            None => {}
        }
        Ok(checkpoint)
    }

    /// Reads the headers of safetensors files and checks them to the last byte: the data of each
    /// covers its file without hole or overlap, and has the sizes the shapes ask for.
    ///
    /// # Errors
    /// [`crate::Error::NotAModel`] if a file is something else, [`crate::Error::Unsupported`] for an unknown
    /// dtype, [`crate::Error::Truncated`], [`crate::Error::Malformed`], [`crate::Error::Duplicate`] or
    /// [`crate::Error::LimitsExceeded`] if a header is damaged, [`crate::Error::Set`] for tensors in two files.
    pub fn read(files: Vec<SourceFile>, limits: &Limits) -> Result<Self> {
        Self::read_with(files, &mut Budget::new(limits))
    }

    /// As [`read`](Self::read), charging what it allocates to a budget, which is granted what the
    /// files may cost.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_with(files: Vec<SourceFile>, budget: &mut Budget) -> Result<Self> {
        let (mut tensors, mut metadata) = (IndexMap::new(), BTreeMap::new());
        let mut problems = Problems::default();
        for (number, file) in files.iter().enumerate() {
            budget.admit(file.len());
            let Header { entries, texts, data } = header::read(file, budget)?;
            for (key, text) in texts {
                metadata.entry(key).or_insert(text);
            }
            reserve(&mut tensors, entries.len(), file, budget)?;
            for entry in entries {
                let tensor = CheckpointTensor {
                    dtype: entry.dtype,
                    shape: entry.shape,
                    file: number,
                    // Checked to lie within the file, so neither wraps.
                    offset: data.saturating_add(entry.start),
                    bytes: entry.end.saturating_sub(entry.start),
                };
                match tensors.entry(entry.name) {
                    map::Entry::Vacant(vacant) => drop(vacant.insert(tensor)),
                    map::Entry::Occupied(first) => {
                        let other = files.get(first.get().file).unwrap_or(file);
                        problems.add(|| {
                            format!(
                                "tensor {} is in {} and in {}",
                                Quoted(first.key()),
                                Shown(other.path()),
                                Shown(file.path())
                            )
                        });
                    }
                }
            }
        }
        let first = files.first().map_or(Path::new(""), |file| file.path());
        problems.into_result(
            first,
            "the files do not belong together, download the checkpoint again",
        )?;
        Ok(Self { files, tensors, metadata })
    }

    /// A tensor by its name.
    ///
    /// # Errors
    /// [`Error::NoTensor`] with the name most like it.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_, CheckpointTensor>> {
        let found = self.tensors.get_key_value(name).and_then(|entry| self.stored(entry));
        let names = || self.tensors.keys().map(String::as_str);
        let path = self.files.first().map_or(Path::new(""), SourceFile::path);
        found.ok_or_else(|| stored::no_tensor(path, name, names()))
    }

    /// The tensors, each with the way to its bytes.
    pub fn iter(&self) -> impl Iterator<Item = StoredTensor<'_, CheckpointTensor>> {
        self.tensors.iter().filter_map(|entry| self.stored(entry))
    }

    fn stored<'a>(
        &'a self,
        (name, info): (&'a String, &'a CheckpointTensor),
    ) -> Option<StoredTensor<'a, CheckpointTensor>> {
        let file = self.files.get(info.file)?;
        Some(StoredTensor::new(name, info, file, info.offset, info.bytes))
    }
}

impl<'a> StoredTensor<'a, CheckpointTensor> {
    /// The tensor with its type, shape and bytes; [`QTensor::dequantize`] gives its values.
    ///
    /// # Errors
    /// As [`read_bytes`](Self::read_bytes), and [`Error::Unsupported`] for a dtype that is no
    /// [`GgmlType`](crate::GgmlType): FP8, for example, whose scales are tensors of their own.
    pub fn read(&self) -> Result<QTensor<'a>> {
        let Some(ty) = self.dtype.ggml_type() else {
            return Err(self.unsupported(
                format!("values of {}", self.dtype),
                &dtype::names(|dtype| dtype.ggml_type().is_some()),
                "take its bytes with `read_bytes`, or values with their scales from quant-weights",
            ));
        };
        self.tensor(ty, &self.dims())
    }
}

stored::shaped! {
    CheckpointTensor, ;
}

/// Makes room for more tensors, charged to the budget.
fn reserve(
    tensors: &mut IndexMap<String, CheckpointTensor>,
    count: usize,
    file: &SourceFile,
    budget: &mut Budget,
) -> Result<()> {
    // The entry, its hash, and its part of an index table that is up to half empty.
    const ENTRY: usize = size_of::<(String, CheckpointTensor)>() + 8 + 20;
    budget.debit_array(count as u64, ENTRY, file.path(), &Place::Field("header", 8))?;
    tensors.reserve_exact(count);
    Ok(())
}
