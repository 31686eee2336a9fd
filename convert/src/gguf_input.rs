//! A GGUF file as the source of a conversion.

use std::{collections::HashMap, path::Path};

use gguf_io::{
    GgufFile, Limits, SourceFile,
    metadata::{Metadata, Value, ValueType},
};

use crate::{
    Error, Result,
    error::Quoted,
    model::{ElementMap, Encoding, Model, Origin, Piece, Tensor, TensorData, View},
};

/// Opens a GGUF model, split or not. Its metadata is carried over but for the keys of the split.
///
/// # Errors
/// [`crate::Error::Files`] if a file is damaged, cut short, or not a GGUF file.
pub fn open(path: &Path, limits: &Limits) -> Result<Model> {
    read(GgufFile::open(path, limits)?)
}

/// A model whose headers have been read.
///
/// # Errors
/// [`crate::Error::Files`] if data is missing or misplaced, [`crate::Error::Tokenizer`] if a list of
/// the tokenizer has elements of another type than programs take it to have.
pub fn read(file: GgufFile) -> Result<Model> {
    file.check_data()?;
    check_lists(&file.metadata, &file.files)?;
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
    Ok(Model {
        metadata,
        tensors,
        files,
        origin: Origin::Gguf,
        left_out: Vec::new(),
        packed_types: HashMap::new(),
    })
}

/// Lists that loaders read without asking for the type of their elements: carried over, a wrong one
/// would have them read past its end.
fn check_lists(metadata: &Metadata, files: &[SourceFile]) -> Result<()> {
    use ValueType::{Float32, Int32, String, Uint32};
    const LISTS: [(&str, &[ValueType]); 4] = [
        ("tokenizer.ggml.tokens", &[String]),
        ("tokenizer.ggml.scores", &[Float32]),
        ("tokenizer.ggml.token_type", &[Int32, Uint32]),
        ("tokenizer.ggml.merges", &[String]),
    ];
    for (key, types) in LISTS {
        let found = match metadata.get(key) {
            None => continue,
            Some(Value::Array(array)) if types.contains(&array.element_type()) => continue,
            Some(Value::Array(array)) => format!("an array of {}", array.element_type().name()),
            Some(value) => value.value_type().name().to_owned(),
        };
        let names: Vec<_> = types.iter().map(|ty| ty.name()).collect();
        return Err(Error::Tokenizer {
            path: files.first().map(|file| file.path().to_path_buf()).unwrap_or_default(),
            place: format!("key {}", Quoted(key)),
            found,
            expected: format!("an array of {}", names.join(" or ")),
            help: "the file was written by a faulty program; convert the original checkpoint",
        });
    }
    Ok(())
}
