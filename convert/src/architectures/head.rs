//! The head that predicts tokens, where a checkpoint has none.

use std::collections::HashSet;

use crate::{Config, Result, model::Tensor};

use super::{
    family::Architecture,
    mapping::{Mapping, Slot},
    rule::{Presence, Rule},
};

impl Mapping<'_> {
    /// The name of the head that the model has by its rules but the checkpoint has not.
    pub(super) fn absent_head(&self, seen: &HashSet<Slot>) -> Option<&'static str> {
        let is_head =
            |rule: &&Rule| matches!(rule.presence, Presence::Head | Presence::HeadUnless(..));
        let there = seen.iter().any(|slot| self.rules.get(slot.rule).is_some_and(is_head));
        let head = self.rules.iter().copied().find(is_head).filter(|_| !there);
        head.map(|head| head.source)
    }
}

/// The token embedding predicts tokens where the head is absent: by itself, or as a second tensor
/// where llama.cpp loads no model without one.
pub(crate) fn tie(
    architecture: &Architecture,
    config: &Config,
    head: &str,
    tensors: &mut Vec<Tensor>,
) -> Result<()> {
    // Classes without a head, such as Qwen3Model, are named so.
    let expected = !(config.flag("tie_word_embeddings")?
        || config.class().is_ok_and(|class| class.ends_with("Model")));
    if expected {
        tracing::warn!(
            kind = "tied-embeddings",
            "there is no tensor \"{head}.weight\", though config.json does not tie the embeddings: \
             the token embedding predicts tokens, as llama.cpp has it; if the checkpoint is \
             incomplete, take all of its files"
        );
    }
    if !architecture.needs_output || config.like_reference() {
        return Ok(());
    }
    const OUTPUT: &str = "output.weight";
    let embedding = tensors.iter().position(|tensor| tensor.name == "token_embd.weight");
    if let Some((at, embedding)) = embedding.and_then(|at| Some((at, tensors.get(at)?.clone()))) {
        tracing::warn!(
            kind = "tied-embeddings",
            tensor = OUTPUT,
            "{OUTPUT} is a copy of the token embedding, because llama.cpp loads no {} model \
             without it",
            architecture.name
        );
        tensors.insert(at, Tensor { name: OUTPUT.to_owned(), ..embedding });
    }
    Ok(())
}
