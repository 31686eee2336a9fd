//! The second stage: the metadata of the output.

use gguf_io::Metadata;

use super::{
    assign::{Assigned, Assignments},
    given::Given,
    parts,
};
use crate::{Result, Search, importance::Importance, model::Model, nvfp4, recipe::FileType};

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
    const FILE_TYPE: &str = "general.file_type";
    let kept = || metadata.get_u64(FILE_TYPE).and_then(|v| u32::try_from(v).ok());
    let nvfp4 = assignments.is_nvfp4.then_some(nvfp4::FILE_TYPE);
    let file_type = assignments.file_type.map(FileType::id).or(nvfp4).or_else(kept);
    if parts::of(model).is_some() {
        // In the order of the reference's converter, which says nothing of the type of an adapter.
        if metadata.get(FILE_TYPE).is_some() {
            metadata.insert(FILE_TYPE, file_type.unwrap_or(0));
        }
    } else {
        metadata.replace_at_end("general.quantization_version", 2u32);
        // Files that are no language model need not have one.
        let is_known = facts.layers > 0 || metadata.get(FILE_TYPE).is_some();
        if let Some(file_type) = file_type.or(is_known.then_some(0)) {
            metadata.replace_at_end(FILE_TYPE, file_type);
        }
    }
    for (key, value) in &options.override_kv {
        metadata.replace_at_end(key.clone(), value.clone());
    }
    if let Some(importance) = importance {
        importance.describe(&mut metadata);
    }
    // As with the matrix: what the input says of a search is of its own blocks.
    if !copies && !options.like_reference {
        metadata.remove(Search::KEY);
    }
    if assignments.tensors.iter().any(|tensor| tensor.job.search == Search::Better) {
        metadata.replace_at_end(Search::KEY, Search::BETTER);
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
