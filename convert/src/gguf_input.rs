//! A GGUF file as the source of a conversion.

use std::path::Path;

use gguf_io::{GgufFile, Limits, SourceFile};

use quant_weights::Gguf;

use crate::{
    Result,
    model::{Model, Origin},
};

/// Opens a GGUF model, split or not. Its metadata is carried over but for the keys of the split.
///
/// # Errors
/// [`crate::Error::Files`] if a file is damaged, cut short, or not a GGUF model.
pub fn open(path: &Path, limits: &Limits) -> Result<Model> {
    checked(path, GgufFile::open(path, limits)?)
}

/// Opens a GGUF model whose files were opened before; `path` stands for it in messages.
///
/// # Errors
/// As [`open`].
pub fn open_files(path: &Path, files: &[SourceFile], limits: &Limits) -> Result<Model> {
    checked(path, GgufFile::open_files(files, limits)?)
}

fn checked(path: &Path, file: GgufFile) -> Result<Model> {
    if file.metadata.get_str("general.type") == Some("imatrix") {
        return Err(gguf_io::Error::NotAModel {
            path: path.into(),
            found: "an importance matrix".into(),
            expected: "a GGUF model",
            help: "give the model here, and this file as its matrix (`imatrix`)",
        }
        .into());
    }
    read(file)
}

/// A model whose headers have been read.
///
/// # Errors
/// [`crate::Error::Files`] if data is missing or misplaced.
pub fn read(file: GgufFile) -> Result<Model> {
    let Gguf { mut metadata, tensors, files } = file.try_into()?;
    for key in ["split.no", "split.count", "split.tensors.count"] {
        metadata.remove(key);
    }
    // Offsets are laid out anew with the default alignment, as the reference does.
    metadata.remove("general.alignment");
    Ok(Model { metadata, tensors, files, origin: Origin::Gguf, left_out: Vec::new() })
}
