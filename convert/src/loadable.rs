//! Whether loaders take what is made of a model. What is wrong with the input, be it a config.json, is wrong
//! with the output as well: it is told before the work is done, not by an engine afterwards.

use gguf_io::{
    Metadata,
    metadata::{Value, ValueType},
};
use gguf_model::{Content, Problem, ProblemKind};

use crate::{Error, Result, model::Model};

/// Warns of what keeps loaders from using an output with this metadata, of which options set
/// `overrides`, and these tensors.
///
/// # Errors
/// For lists of the tokenizer that are too short or of no type that can be mended, and for keys of
/// it that hold a list or number in place of a text: without its tokens a model is of no use.
pub(crate) fn check<'a>(
    model: &Model,
    metadata: &Metadata,
    overrides: &[(String, Value)],
    tensors: impl Iterator<Item = (&'a str, &'a [u64])> + Clone,
) -> Result<()> {
    let report = gguf_model::check(metadata, tensors.clone());
    // Who sets a key by an option may know what for.
    let is_set = |key: &str| overrides.iter().any(|(name, _)| name == key);
    let (hopeless, rest): (Vec<_>, Vec<_>) = report
        .problems
        .into_iter()
        .partition(|problem| is_hopeless(problem, metadata) && !is_set(&problem.subject));
    let file = model.files.first().map(|file| file.path().to_path_buf()).unwrap_or_default();
    if let Some(Problem { subject, message, .. }) = hopeless.into_iter().next() {
        let place = format!("key {}", crate::error::Quoted(&subject));
        let (found, expected) = message
            .strip_prefix(&place)
            .and_then(|message| message.trim_start().strip_prefix("is "))
            .and_then(|message| message.split_once(", expected "))
            .unwrap_or((&message, "what loaders read"));
        return Err(Error::Tokenizer {
            path: file,
            found: found.into(),
            expected: expected.into(),
            place,
            help: "the file was written by a faulty program; convert the original checkpoint",
        });
    }
    // Without keys that every model has it is a part of one, or a trial: no loader is to take it.
    // Unless it was made so: the keys are named after the architecture.
    let renames = is_set("general.architecture") || is_set("general.type");
    let is_part = !renames && rest.iter().any(|problem| problem.kind == ProblemKind::MissingKey);
    let told = || rest.iter().filter(|p| !is_part || p.kind == ProblemKind::WrongKey);
    if let Some(first) = told().next() {
        let problems = first.of(told().count() as u64);
        tracing::warn!(
            kind = "not-loadable",
            "loaders are likely to refuse the output: {problems}"
        );
    } else if renames
        && let Content::Other = report.content
        && let Content::Model(was) = gguf_model::check(&model.metadata, tensors).content
    {
        let note = report.notes.first().map_or("what it holds is not known", String::as_str);
        tracing::warn!(
            kind = "not-loadable",
            "loaders may not take the output for the {} model that it is: {note}",
            was.name
        );
    }
    Ok(())
}

/// Whether it is a key of the tokenizer whose value is no token and no name, but has a type or
/// length that is never read.
fn is_hopeless(problem: &Problem, metadata: &Metadata) -> bool {
    let is_known =
        |value: &Value| matches!(value.value_type(), ValueType::Uint32 | ValueType::String);
    problem.kind == ProblemKind::WrongKey
        && problem.subject.starts_with("tokenizer.ggml.")
        && metadata.get(&problem.subject).is_some_and(|value| !is_known(value))
}
