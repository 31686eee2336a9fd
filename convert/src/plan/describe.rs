//! The second stage: the metadata of the output.

use gguf_io::Metadata;

use super::{
    assign::{Assigned, Assignments},
    given::Given,
};
use crate::{Result, importance::Importance, model::Model, nvfp4};

/// The metadata that is written: that of the input, and what the options and types make of it.
/// `importance` is what is said to be the origin of the weights.
pub(super) fn describe(
    given: &Given<'_>,
    assignments: &Assignments,
    importance: Option<&Importance>,
) -> Result<Metadata> {
    let Given { model, options, facts, pruning, .. } = *given;
    let mut metadata = model.metadata.clone();
    let copies = copies_blocks(model, &assignments.tensors);
    if !options.like_reference && (importance.is_some() || !copies) {
        // What the input says of a matrix is of blocks that the output does not have.
        let keys = metadata.iter().map(|(key, _)| key.to_owned());
        let keys: Vec<_> = keys.filter(|key| key.starts_with("quantize.imatrix.")).collect();
        keys.iter().for_each(|key| _ = metadata.remove(key));
    }
    if let Some(pruning) = pruning {
        pruning.apply(facts, &mut metadata)?;
    }
    metadata.replace_at_end("general.quantization_version", 2u32);
    let file_type = match assignments.file_type {
        Some(file_type) => file_type.id(),
        None if assignments.is_nvfp4 => nvfp4::FILE_TYPE,
        None => {
            let kept = metadata.get_u64("general.file_type").and_then(|v| v.try_into().ok());
            kept.unwrap_or(0)
        }
    };
    metadata.replace_at_end("general.file_type", file_type);
    for (key, value) in &options.override_kv {
        metadata.replace_at_end(key.clone(), value.clone());
    }
    if let Some(importance) = importance {
        importance.describe(&mut metadata);
    }
    if let Some(pruning) = pruning {
        metadata.replace_at_end(given.layers_key(), pruning.kept());
    }
    Ok(metadata)
}

/// Whether blocks of the input are in the output.
fn copies_blocks(model: &Model, tensors: &[Assigned]) -> bool {
    tensors.iter().any(|tensor| {
        tensor.ty.is_quantized() && model.tensors[tensor.job.tensor].source_type() == tensor.ty
    })
}
