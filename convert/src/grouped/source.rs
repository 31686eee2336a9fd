//! A checkpoint as a model whose tensors keep their names.

use gguf_io::{Checkpoint, CheckpointTensor, Dtype};
use quant_core::GgmlType;

use crate::{
    Error, Result,
    model::{ElementMap, Encoding, Model, Origin, Piece, Tensor, TensorData, View},
};

/// The tensors of a checkpoint under their own names, in the order of the files.
pub(super) fn model(checkpoint: Checkpoint) -> Result<Model> {
    let mut tensors = Vec::with_capacity(checkpoint.tensors.len());
    for (name, stored) in &checkpoint.tensors {
        let ty = float(&checkpoint, name, stored)?;
        tensors.push(Tensor {
            name: name.clone(),
            shape: stored.shape.iter().rev().copied().collect(),
            data: TensorData::Stored {
                pieces: vec![Piece {
                    file: stored.file,
                    offset: stored.offset,
                    encoding: Encoding::Ggml(ty),
                    view: View::whole(&stored.shape).ok_or(quant_core::Error::TooLarge)?,
                }],
                map: ElementMap::Same,
            },
        });
    }
    Ok(Model {
        metadata: gguf_io::Metadata::new(),
        tensors,
        files: checkpoint.files,
        origin: Origin::Checkpoint,
        left_out: Vec::new(),
        packed_types: Default::default(),
    })
}

fn float(checkpoint: &Checkpoint, name: &str, stored: &CheckpointTensor) -> Result<GgmlType> {
    match stored.dtype {
        Dtype::F32 => Ok(GgmlType::F32),
        Dtype::F16 => Ok(GgmlType::F16),
        Dtype::BF16 => Ok(GgmlType::BF16),
        other => Err(Error::Weights {
            path: checkpoint.files.get(stored.file).map(|f| f.path().into()).unwrap_or_default(),
            name: name.to_owned(),
            found: format!("type {other}"),
            expected: "F32, F16 or BF16".to_owned(),
            help: "save the checkpoint as BF16 first, or take the original one",
        }),
    }
}

/// The safetensors name of a float type.
pub(super) fn dtype(ty: GgmlType) -> &'static str {
    match ty {
        GgmlType::F16 => "F16",
        GgmlType::BF16 => "BF16",
        _ => "F32",
    }
}
