//! Options of a conversion to GGUF that had no effect, or another than they seem to have.

use std::collections::HashSet;

use gguf_io::{Layout, metadata::Value};

use super::{
    assign::{Assigned, Assignments},
    given::Given,
};
use crate::{
    Error, Options, Result, Search, Split,
    error::Quoted,
    importance::{Importance, bends},
    model::{Model, Origin},
    recipe,
    unused::{GROUPED, large_tensors, no_effect, warn_of_matrix},
};

/// Warns of a matrix that nothing uses, and of leave that nothing needs.
pub(super) fn warn(given: &Given<'_>, assigned: &Assignments) {
    let Given { model, options, .. } = *given;
    let (tensors, uses_importance) = (&assigned.tensors, assigned.uses_importance);
    if !uses_importance {
        importance(options, given.importance, tensors, model);
    }
    if options.search == Search::Better
        && !tensors.iter().any(|tensor| tensor.job.search == Search::Better)
    {
        no_effect("`search`", "no tensor gets a type whose codes it improves");
    }
    leave(options, tensors, model, uses_importance);
}

/// An importance matrix that no tensor used; `importance` is what is left of it.
fn importance(
    options: &Options,
    importance: Option<&Importance>,
    tensors: &[Assigned],
    model: &Model,
) {
    let Some(path) = &options.imatrix else { return };
    // A matrix of another model is warned of as such.
    let of_model = |matrix: &Importance| model.tensors.iter().any(|t| matrix.has(&t.name));
    if importance.is_some_and(|matrix| !of_model(matrix)) {
        return;
    }
    let source = |tensor: &Assigned| model.tensors.get(tensor.job.tensor).map(|t| t.source_type());
    let searches =
        tensors.iter().any(|t| bends(t.ty) && source(t) != Some(t.ty) && t.job.carries.is_none());
    let reason = if importance.is_none() {
        "no entry of it is left to use"
    } else if options.grouped.is_some() {
        GROUPED
    } else if !searches {
        "no tensor gets a type whose blocks depend on importance"
    } else {
        "no tensor that is quantized has an entry in it"
    };
    warn_of_matrix(path, reason);
}

/// Leave to quantize again that nothing needed, and the reference's ways where there is no choice.
fn leave(options: &Options, tensors: &[Assigned], model: &Model, importance_used: bool) {
    let source = |tensor: &Assigned| model.tensors.get(tensor.job.tensor).map(|t| t.source_type());
    let quantized = || tensors.iter().filter(|t| source(t).is_some_and(|ty| ty.is_quantized()));
    if options.allow_requantize && !quantized().any(|t| source(t) != Some(t.ty)) {
        let reason = match quantized().next() {
            None => "no tensor of the input is quantized",
            Some(_) => "no quantized tensor of the input gets another type",
        };
        no_effect("`allow_requantize`", reason);
    }
    if options.mmproj && model.metadata.get_str("general.type") != Some("mmproj") {
        no_effect("`mmproj`", "the input is no checkpoint of a multimodal model");
    }
    if options.base.is_some() && model.metadata.get_str("general.type") != Some("adapter") {
        no_effect("`base`", "the input is no LoRA adapter");
    }
    // It has the keys of a matrix written that no tensor used.
    let names_matrix = options.imatrix.is_some() && !importance_used;
    if options.like_reference && model.origin == Origin::Gguf && !names_matrix {
        no_effect("`like_reference`", "the metadata of a GGUF file is carried over");
    }
}

/// Metadata that is set in vain, or to what programs may not read.
///
/// `tells_importance` says whether keys of a matrix are written.
///
/// # Errors
/// For the keys of a split, which are those of the files that are written.
pub(super) fn overrides(given: &Given<'_>, tells_importance: bool) -> Result<()> {
    let Given { model, options, .. } = *given;
    let layers_key = given.layers_key();
    // Which keys are computed after those of the options.
    let written = |key: &str| {
        let of_matrix = tells_importance && key.starts_with("quantize.imatrix.");
        let of_layers = given.pruning.is_some() && key == layers_key;
        of_matrix.then_some("`imatrix`").or(of_layers.then_some("`prune_layers`"))
    };
    let mut seen = HashSet::new();
    for (key, value) in options.override_kv.iter().rev() {
        let shown = Quoted(key);
        if key.starts_with("split.") {
            return Err(Error::Recipe(recipe::Error::BadValue {
                key: key.clone(),
                found: "set by `override_kv`".into(),
                expected: "to be left to `Split::Keep`, `Split::Files`, `Split::MaxBytes` or `Split::MaxTensors`"
                    .into(),
            }));
        }
        let warn = |problem: String| {
            tracing::warn!(kind = "override-kv", "`override_kv` {shown}: {problem}");
        };
        if !seen.insert(key) {
            warn(format!("{} has no effect, a later value of the key counts", short(value)));
        } else if let Some(by) = written(key) {
            warn(format!("{} has no effect, {by} sets this key", short(value)));
        } else if let Some(old) = model.metadata.get(key)
            && old.value_type() != value.value_type()
        {
            let (old, new) = (old.value_type().name(), value.value_type().name());
            warn(format!(
                "the key is of type {old} in the model and becomes {new}: \
                 programs that expect {old} refuse the file or ignore the key"
            ));
        }
    }
    Ok(())
}

fn short(value: &Value) -> String {
    match (value.as_str(), value.as_u64(), value) {
        (Some(text), ..) => Quoted(text).to_string(),
        (_, Some(number), _) => number.to_string(),
        (.., Value::Float32(number)) => number.to_string(),
        (.., Value::Bool(flag)) => flag.to_string(),
        _ => value.value_type().name().to_owned(),
    }
}

/// Limits of a split that end in one file, or that a tensor exceeds.
pub(super) fn split(split: Option<Split>, layouts: &[Layout]) {
    let single = match (split, layouts) {
        (Some(Split::Keep), [_]) => Some(("`Split::Keep`", "the input is one file")),
        (Some(Split::MaxBytes(_)), [_]) => Some(("`Split::MaxBytes`", ALL)),
        (Some(Split::MaxTensors(_)), [_]) => Some(("`Split::MaxTensors`", ALL)),
        _ => None,
    };
    if let Some((option, reason)) = single {
        let named = "the output is one file too, named NAME-00001-of-00001.gguf";
        tracing::warn!(kind = "single-shard", "{option}: {reason}; {named}");
    }
    if let Some(Split::MaxBytes(most)) = split {
        let tensors = layouts.iter().flat_map(|layout| &layout.tensors);
        large_tensors(tensors.map(|tensor| (tensor.name.as_str(), tensor.bytes)), most);
    }
}

const ALL: &str = "all tensors fit into one file";
