//! Options of a recipe that no tensor took its type from.

use std::{collections::BTreeSet, fmt::Write};

use super::{
    FileType, ModelFacts, Request, TensorFacts,
    overrides::TensorOverride,
    role::{Role, is_quantizable},
};
use crate::error::Quoted;

/// Which options have had a say in the type of some tensor.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// Whether there is a tensor that may be quantized at all.
    pub(super) any: bool,
    pub(super) pure: bool,
    pub(super) leave_output: bool,
    pub(super) output_type: bool,
    pub(super) embedding_type: bool,
    /// The numbers of the patterns.
    pub(super) overrides: BTreeSet<usize>,
}

/// Warns of the options that were given and not used, and says why.
pub(super) fn warn(
    facts: &ModelFacts,
    tensors: &[TensorFacts<'_>],
    request: &Request,
    used: &Used,
    tied: bool,
) {
    let no_effect = |option: &str, reason: &str| {
        tracing::warn!(kind = "unused-option", "{option} has no effect: {reason}");
    };
    let quantized = request.file_type.is_some_and(FileType::is_quantized);
    let differs = |t: &TensorFacts<'_>| {
        t.shape.len() > 1 && request.file_type.is_some_and(|file_type| t.ty != file_type.base())
    };
    if let Some(file_type) = request.file_type.filter(|_| !used.any && tensors.iter().any(differs))
    {
        no_effect(
            &format!("`file_type` {file_type}"),
            "recipes are for matrices whose names end in \"weight\", and there is none",
        );
    }
    if request.pure && !used.pure {
        match request.file_type {
            None => no_effect("`pure`", "without a recipe tensors keep their types"),
            Some(ty) if !quantized => {
                no_effect("`pure`", &format!("the recipe {} has no mixture of types", ty.name()));
            }
            Some(_) => no_effect("`pure`", "other options name the type of every tensor"),
        }
    }
    if request.leave_output_tensor && (!used.leave_output || request.file_type.is_none()) {
        let reason = match (tied, request.file_type) {
            (true, _) => NO_OUTPUT,
            (_, None) => "without a recipe tensors keep their types",
            (_, Some(_)) if !quantized => "output.weight is of the type of the file already",
            _ => "the model's output.weight is never quantized",
        };
        no_effect("`leave_output_tensor`", reason);
    }
    if request.output_tensor_type.is_some() && !used.output_type {
        let reason = match tied {
            false if request.leave_output_tensor => {
                "`leave_output_tensor` leaves output.weight as it is"
            }
            false => "the model's output.weight is never quantized",
            // Where there is a mix, the embedding has the type, unless another option names it.
            true if request.token_embedding_type.is_some() => {
                "the model has no output.weight, and `token_embedding_type` names the type of \
                 the embedding that doubles as one"
            }
            true => NO_OUTPUT,
        };
        no_effect("`output_tensor_type`", reason);
    }
    if request.token_embedding_type.is_some() && !used.embedding_type {
        let there = tensors.iter().any(|t| Role::of(t.name) == Role::TokenEmbedding);
        let reason = if there {
            "the token embedding of this model is never quantized, or `overrides` names its type"
        } else {
            "the model has no token_embd.weight"
        };
        no_effect("`token_embedding_type`", reason);
    }
    warn_of_patterns(facts, tensors, request, used);
}

const NO_OUTPUT: &str = "the model has no output.weight; where its token_embd.weight doubles as \
                         one, `token_embedding_type` names the type of that";

/// Patterns that decided nothing, together if they did so for the same reason.
fn warn_of_patterns(
    facts: &ModelFacts,
    tensors: &[TensorFacts<'_>],
    request: &Request,
    used: &Used,
) {
    let (mut nothing, mut kept, mut taken) = (Patterns::new(), Patterns::new(), Patterns::new());
    for (number, unused) in request.overrides.iter().enumerate() {
        if used.overrides.contains(&number) {
            continue;
        }
        let matched = || tensors.iter().filter(|t| unused.matches(t.name));
        let mut quantizable = matched().filter(|t| is_quantizable(t.name, t.shape, &facts.arch));
        let list = match (matched().next(), quantizable.next()) {
            (None, _) => &mut nothing,
            (Some(_), None) => &mut kept,
            (Some(_), Some(_)) => &mut taken,
        };
        list.push((unused, matched().next().map(|t| t.name)));
    }
    let warn = |patterns: &Patterns<'_>, problem: &str| {
        if !patterns.is_empty() {
            tracing::warn!(kind = "unused-option", "{}: {problem}", shown(patterns));
        }
    };
    warn(&nothing, "no tensor of the model has such a name");
    warn(&kept, "such tensors are never quantized");
    warn(&taken, "an earlier pattern or another option names the type of such tensors");
}

/// Patterns, each with the first tensor that it matches.
type Patterns<'a> = Vec<(&'a TensorOverride, Option<&'a str>)>;

/// The first of some patterns, where they were given and what they match.
fn shown(patterns: &Patterns<'_>) -> String {
    const MOST: usize = 8;
    let mut text = String::new();
    for (i, (pattern, tensor)) in patterns.iter().take(MOST).enumerate() {
        let separator = if i == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}{} of {}", Quoted(pattern.pattern()), pattern.place);
        if let Some(tensor) = tensor {
            let _ = write!(text, " (as {})", Quoted(tensor));
        }
    }
    let more = patterns.len().saturating_sub(MOST);
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    match patterns.len() {
        1 => text + " has no effect",
        _ => text + " have no effect",
    }
}
