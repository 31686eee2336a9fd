//! A GGUF file as the source of a conversion.

use std::path::Path;

use gguf_io::{GgufFile, Limits};

use crate::{
    Result,
    model::{ElementMap, Encoding, Model, Origin, Piece, Tensor, TensorData, View},
};

/// Opens a GGUF model, split or not. Its metadata is carried over but for the keys of the split.
///
/// # Errors
/// [`crate::Error::Files`] if a file is damaged, cut short, or not a GGUF model.
pub fn open(path: &Path, limits: &Limits) -> Result<Model> {
    let file = GgufFile::open(path, limits)?;
    if file.metadata.get_str("general.type") == Some("imatrix") {
        return Err(gguf_io::Error::NotAModel {
            path: path.into(),
            found: "an importance matrix".into(),
            expected: "a GGUF model",
            help: "give the model here, and this file as its matrix (--imatrix)",
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
    file.check_data()?;
    let GgufFile { mut metadata, tensors, files, .. } = file;
    for key in ["split.no", "split.count", "split.tensors.count"] {
        metadata.remove(key);
    }
    // Offsets are laid out anew with the default alignment, as the reference does.
    metadata.remove("general.alignment");
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
    Ok(Model { metadata, tensors, files, origin: Origin::Gguf, left_out: Vec::new() })
}
