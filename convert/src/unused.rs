//! Options of a conversion to GGUF that had no effect, or another than they seem to have: nothing
//! that was asked for is ignored without a word.

use std::collections::HashSet;

use gguf_io::{Layout, Metadata, metadata::Value};

use crate::{
    Error, Options, Result, Split,
    error::{Quoted, Shown},
    importance::{Importance, bends},
    model::{Model, Origin},
    plan::Job,
    recipe,
};

/// Warns of an option.
pub(crate) fn no_effect(option: &str, reason: &str) {
    tracing::warn!(kind = "unused-option", "{option} has no effect: {reason}");
}

/// Names in `--include-weights` and `--exclude-weights` that are part of the name of no entry.
pub(crate) fn weights<'a>(options: &Options, entries: impl Iterator<Item = &'a String> + Clone) {
    let matrix = options.imatrix.as_deref().unwrap_or(std::path::Path::new(""));
    for (option, parts) in [
        ("--include-weights", &options.include_weights),
        ("--exclude-weights", &options.exclude_weights),
    ] {
        for part in parts {
            if !entries.clone().any(|name| name.contains(part.as_str())) {
                tracing::warn!(
                    kind = "unused-option",
                    "{option} {} has no effect: {} has no entry for a tensor of such a name",
                    Quoted(part),
                    Shown(matrix)
                );
            }
        }
    }
}

/// An importance matrix that no tensor used; `importance` is what is left of it.
pub(crate) fn importance(
    options: &Options,
    importance: Option<&Importance>,
    jobs: &[Job],
    model: &Model,
) {
    let Some(path) = &options.imatrix else { return };
    // A matrix of another model is warned of as such.
    let of_model = |matrix: &Importance| model.tensors.iter().any(|t| matrix.has(&t.name));
    if importance.is_some_and(|matrix| !of_model(matrix)) {
        return;
    }
    let source = |job: &Job| model.tensors.get(job.tensor).map(|tensor| tensor.source_type());
    let searches = jobs.iter().any(|job| bends(job.ty) && source(job) != Some(job.ty));
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

/// When grouped integers use importance.
pub(crate) const GROUPED: &str = "grouped integers use one for the scales with --refine-scales, \
                                  and to choose layers where --ratio is below 1";

/// An importance matrix that was not used, and why.
pub(crate) fn warn_of_matrix(path: &std::path::Path, reason: &str) {
    tracing::warn!(
        kind = "unused-option",
        "{}: the importance matrix is not used: {reason}",
        Shown(path)
    );
}

/// Leave to quantize again that nothing needed, and the reference's ways where there is no choice.
pub(crate) fn leave(options: &Options, jobs: &[Job], model: &Model, importance_used: bool) {
    let source = |job: &Job| model.tensors.get(job.tensor).map(|tensor| tensor.source_type());
    let quantized = || jobs.iter().filter(|job| source(job).is_some_and(|ty| ty.is_quantized()));
    if options.allow_requantize && !quantized().any(|job| source(job) != Some(job.ty)) {
        let reason = match quantized().next() {
            None => "no tensor of the input is quantized",
            Some(_) => "no quantized tensor of the input gets another type",
        };
        no_effect("--allow-requantize", reason);
    }
    // It has the keys of a matrix written that no tensor used.
    let names_matrix = options.imatrix.is_some() && !importance_used;
    if options.like_reference && model.origin == Origin::Gguf && !names_matrix {
        no_effect("--like-reference", "the metadata of a GGUF file is carried over");
    }
}

/// Metadata that is set in vain, or to what programs may not read.
///
/// `before` is the metadata of the input; `written` says which keys are computed after those of the
/// options.
///
/// # Errors
/// For the keys of a split, which are those of the files that are written.
pub(crate) fn overrides(
    options: &Options,
    before: &Metadata,
    written: impl Fn(&str) -> Option<&'static str>,
) -> Result<()> {
    let mut seen = HashSet::new();
    for (key, value) in options.override_kv.iter().rev() {
        let shown = Quoted(key);
        if key.starts_with("split.") {
            return Err(Error::Recipe(recipe::Error::BadValue {
                key: key.clone(),
                found: "set by --override-kv".into(),
                expected: "to be left to --keep-split, --split-max-size or --split-max-tensors"
                    .into(),
            }));
        }
        let warn = |problem: String| {
            tracing::warn!(kind = "override-kv", "--override-kv {shown}: {problem}");
        };
        if !seen.insert(key) {
            warn(format!("{} has no effect, a later value of the key counts", short(value)));
        } else if let Some(by) = written(key) {
            warn(format!("{} has no effect, {by} sets this key", short(value)));
        } else if let Some(old) = before.get(key)
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
pub(crate) fn split(split: Option<Split>, layouts: &[Layout]) {
    let single = match (split, layouts) {
        (Some(Split::Keep), [_]) => Some(("--keep-split", "the input is one file")),
        (Some(Split::MaxBytes(_)), [_]) => Some(("--split-max-size", ALL)),
        (Some(Split::MaxTensors(_)), [_]) => Some(("--split-max-tensors", ALL)),
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

/// Names and sizes of tensors, some of which may be larger than a file is to be.
pub(crate) fn large_tensors<'a>(tensors: impl Iterator<Item = (&'a str, u64)>, most: u64) {
    let large: Vec<_> = tensors.filter(|(_, bytes)| *bytes > most).collect();
    let Some((name, bytes)) = large.iter().max_by_key(|(_, bytes)| *bytes) else { return };
    tracing::warn!(
        kind = "large-tensor",
        tensor = %name,
        "{} of the files are larger than the {most} bytes of --split-max-size, because a tensor \
         is not divided: the largest is {} of {bytes} bytes",
        large.len(),
        Quoted(name)
    );
}

const ALL: &str = "all tensors fit into one file";
