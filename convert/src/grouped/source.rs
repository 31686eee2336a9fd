//! A checkpoint as a model whose tensors keep their names.

use gguf_io::CheckpointTensor;
use quant_core::GgmlType;
use quant_weights::{Purpose, Weights};

use crate::{
    Error, Result,
    model::{ElementMap, Encoding, Model, Origin, Piece, Tensor, TensorData, View},
};

/// The weights of a checkpoint under their own names, in the order of the files.
pub(super) fn model(weights: Weights) -> Result<Model> {
    let checkpoint = weights.checkpoint();
    let mut tensors = Vec::with_capacity(checkpoint.tensors.len());
    for (name, stored) in &checkpoint.tensors {
        if weights.purpose(name) != Purpose::Weight {
            continue;
        }
        let encoding = encoding(&weights, name, stored)?;
        tensors.push(Tensor {
            name: name.clone(),
            shape: stored.shape.iter().rev().copied().collect(),
            data: TensorData::Stored {
                pieces: vec![Piece {
                    file: stored.file,
                    offset: stored.offset,
                    encoding,
                    view: View::whole(&stored.shape).ok_or(quant_core::Error::TooLarge)?,
                }],
                map: ElementMap::Same,
            },
        });
    }
    Ok(Model {
        metadata: gguf_io::Metadata::new(),
        tensors,
        files: weights.into_checkpoint().files,
        origin: Origin::Checkpoint,
        left_out: Vec::new(),
    })
}

fn encoding(weights: &Weights, name: &str, stored: &CheckpointTensor) -> Result<Encoding> {
    weights.encoding(name, stored).map_err(|problem| {
        let file = weights.checkpoint().files.get(stored.file);
        Error::Weights {
            path: file.map(|file| file.path().into()).unwrap_or_default(),
            name: name.to_owned(),
            found: problem.found,
            expected: problem.expected,
            help: problem.help,
        }
    })
}

/// The module that a tensor is the weight of.
pub(super) fn module(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// The safetensors name of a float type.
pub(super) fn dtype(ty: GgmlType) -> &'static str {
    match ty {
        GgmlType::F16 => "F16",
        GgmlType::BF16 => "BF16",
        _ => "F32",
    }
}
