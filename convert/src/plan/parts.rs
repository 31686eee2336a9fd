//! Parts of models: what the tensors of an adapter or a projector become.
//!
//! No recipe is for them. They are what the reference's converter makes of them: matrices of the type
//! asked for, vectors, norms and some others in single precision, in the converter's order.

use quant_core::GgmlType;

use super::{
    assign::{Assigned, Assignments},
    given::Given,
};
use crate::{
    Error, Options, Result, Search,
    job::{Form, Job},
    model::{Model, Tensor},
    projectors::{self, Kept},
    recipe::{AwkwardReason, AwkwardShape, Error as Refusal, FileType},
};

/// What the model is a part of a model as, if it is one.
pub(super) fn of(model: &Model) -> Option<&'static str> {
    if !model.origin.is_checkpoint() {
        return None;
    }
    match model.metadata.get_str("general.type") {
        Some("adapter") => Some("an adapter"),
        Some("mmproj") => Some("a projector"),
        _ => None,
    }
}

/// Refuses what is asked for if it is for language models.
pub(super) fn refuse(part: &'static str, options: &Options) -> Result<()> {
    let request = &options.request;
    let types = [None, Some(FileType::F32), Some(FileType::F16), Some(FileType::BF16)];
    let known = types.contains(&request.file_type) || request.file_type == Some(FileType::Q8_0);
    let asked = match request.file_type {
        Some(ty) if !known => Some(format!("the type {ty}")),
        _ => [
            (options.grouped.is_some(), "a type of grouped integers"),
            (options.imatrix.is_some(), "an importance matrix"),
            (options.prune_layers.is_some(), "leaving out layers"),
            (options.pre_tokenizer.is_some(), "a pre-tokenizer"),
            (request.pure, "one type for all tensors"),
            (request.leave_output_tensor, "leaving the output as it is"),
            (request.output_tensor_type.is_some(), "a type of the output"),
            (request.token_embedding_type.is_some(), "a type of the token embedding"),
            (!request.overrides.is_empty(), "a type for single tensors"),
        ]
        .into_iter()
        .find_map(|(given, what)| given.then(|| what.to_owned())),
    };
    asked.map_or(Ok(()), |asked| Err(Error::Part { asked, part }))
}

/// Gives every tensor its type, in the order of the model.
pub(super) fn assign(given: &Given<'_>) -> Result<Assignments> {
    let Given { model, options, .. } = *given;
    let types = || model.tensors.iter().map(|t| (&t.shape[..], t.source_type()));
    let file_type = options.request.file_type.unwrap_or_else(|| FileType::detect(types()));
    let (mut tensors, mut awkward) = (Vec::new(), Vec::new());
    for (index, tensor) in model.tensors.iter().enumerate() {
        let wanted = wanted(model, tensor, file_type);
        let fits = tensor.row_len().is_multiple_of(wanted.block_len() as u64);
        let ty = if fits { wanted } else { GgmlType::F16 };
        if !fits && options.request.strict {
            awkward.push(AwkwardShape {
                tensor: tensor.name.clone(),
                row_len: tensor.row_len(),
                ty: wanted,
                reason: AwkwardReason::Strict(ty),
            });
        }
        tensors.push(Assigned {
            name: tensor.name.clone(),
            ty,
            wanted: (!fits).then_some(wanted),
            is_free: false,
            without_importance: false,
            lacks_importance: false,
            job: Job {
                tensor: index,
                form: Form::Ggml(ty),
                carries: None,
                importance: None,
                refine: false,
                search: Search::Reference,
            },
        });
    }
    if !awkward.is_empty() {
        return Err(Refusal::AwkwardShapes { tensors: awkward }.into());
    }
    Ok(Assignments { tensors, file_type: Some(file_type), uses_importance: false, is_nvfp4: false })
}

/// The type that the reference's converter gives a tensor in a file of this type.
fn wanted(model: &Model, tensor: &Tensor, file_type: FileType) -> GgmlType {
    let name = tensor.name.as_str();
    if tensor.shape.len() < 2 || name.ends_with("_norm.weight") {
        return GgmlType::F32;
    }
    let matrix = [".weight", ".lora_a", ".lora_b"].iter().any(|end| name.ends_with(end));
    match projectors::kept(&model.metadata, name) {
        Some(Kept::F16) => GgmlType::F16,
        Some(Kept::Float) if file_type == FileType::F16 => GgmlType::F16,
        Some(Kept::F32 | Kept::Float) => GgmlType::F32,
        None if matrix => file_type.base(),
        None => GgmlType::F32,
    }
}
