//! GGUF files whose tensors may have any type: for work that does not look at weights.

use std::path::Path;

use quant_core::GgmlType;

use super::{
    GgufFile,
    read::{self, Described, Tensor},
    tensor::AnyTensor,
};
use crate::{
    Budget, Limits, Result, SourceFile, StoredTensor, cursor::Cursor, error::DAMAGED, stored,
};

/// A GGUF file of any kind, of language models, image models, adapters or vocabularies, with types
/// of tensors that this program may never have heard of.
pub type AnyGguf = GgufFile<AnyTensor>;

impl Tensor for AnyTensor {
    fn from_description(cursor: &Cursor<'_>, described: Described) -> Result<Self> {
        let Described { place, name, shape, type_id, offset, file } = described;
        let bytes = match GgmlType::from_id(type_id) {
            Some(ty) => read::tensor_bytes(ty, &shape)
                .map_err(|(found, expected)| cursor.malformed(place, found, expected, DAMAGED))?,
            // Found when all tensors are known.
            None => 0,
        };
        Ok(Self { name, type_id, shape, file, offset, bytes })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn file(&self) -> usize {
        self.file
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn set_offset(&mut self, offset: u64) {
        self.offset = offset;
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn settle(tensors: &mut [Self], file: &SourceFile) {
        // Tensors follow each other in the order of the list: where they do not, the check of the
        // places says so.
        let mut end = file.len();
        for tensor in tensors.iter_mut().rev() {
            if tensor.ty().is_none() {
                tensor.bytes = end.saturating_sub(tensor.offset);
            }
            end = tensor.offset;
        }
    }
}

impl AnyGguf {
    /// Opens a file by its path; if that is the first shard of several, opens them all.
    ///
    /// # Errors
    /// As [`GgufFile::open`], but for types of tensors.
    pub fn open_any(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        super::open(path.as_ref(), limits)
    }

    /// Opens a model whose files were opened before, as [`GgufFile::open_files`] does.
    ///
    /// # Errors
    /// As [`GgufFile::open`], but for types of tensors.
    pub fn open_any_files(files: &[SourceFile], limits: &Limits) -> Result<Self> {
        super::open_files(files, limits)
    }

    /// Reads the header of one file, whether or not it is a shard.
    ///
    /// # Errors
    /// As [`GgufFile::read`], but for types of tensors.
    pub fn read_any(file: SourceFile, limits: &Limits) -> Result<Self> {
        super::read_one(file, &mut Budget::new(limits))
    }

    /// A tensor by its name.
    ///
    /// # Errors
    /// [`crate::Error::NoTensor`] with the name most like it.
    pub fn any_tensor(&self, name: &str) -> Result<StoredTensor<'_, AnyTensor>> {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        found
            .and_then(|info| {
                let file = self.files.get(info.file)?;
                Some(StoredTensor::new(&info.name, info, file, info.offset, info.bytes))
            })
            .ok_or_else(|| {
                let names = self.tensors.iter().map(|tensor| tensor.name.as_str());
                stored::no_tensor(self.path(), name, names)
            })
    }

    /// Checks that the tensor data is all there and in its place, as [`GgufFile::check_data`].
    ///
    /// # Errors
    /// As [`GgufFile::check_data`].
    pub fn check_any(&self) -> Result<()> {
        super::check_places(self)
    }
}
