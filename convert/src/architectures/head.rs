//! The head that predicts tokens, where a checkpoint has none.

use std::collections::HashSet;

use crate::{Result, model::Tensor};

use super::{
    rule::{Presence, Rule},
    tensors::{Mapping, Slot},
};

impl Mapping<'_> {
    /// Where there is no head, the token embedding predicts tokens: by itself, or as a second tensor
    /// where llama.cpp loads no model without one.
    pub(super) fn tie(&self, seen: &HashSet<Slot>, tensors: &mut Vec<Tensor>) -> Result<()> {
        let is_head =
            |rule: &&Rule| matches!(rule.presence, Presence::Head | Presence::HeadUnless(..));
        let Some(head) = self.rules.iter().copied().find(is_head) else { return Ok(()) };
        if seen.iter().any(|slot| self.rules.get(slot.rule).is_some_and(is_head)) {
            return Ok(());
        }
        // Classes without a head, such as Qwen3Model, are named so.
        let expected = !(self.config.flag("tie_word_embeddings")?
            || self.config.class().is_ok_and(|class| class.ends_with("Model")));
        if expected {
            tracing::warn!(
                kind = "tied-embeddings",
                "there is no tensor \"{}.weight\", though config.json does not tie the embeddings: \
                 the token embedding predicts tokens, as llama.cpp has it; if the checkpoint is \
                 incomplete, take all of its files",
                head.source
            );
        }
        if !self.architecture.needs_output || self.config.like_reference() {
            return Ok(());
        }
        const OUTPUT: &str = "output.weight";
        let embedding = tensors.iter().position(|tensor| tensor.name == "token_embd.weight");
        if let Some((at, embedding)) = embedding.and_then(|at| Some((at, tensors.get(at)?.clone())))
        {
            tracing::warn!(
                kind = "tied-embeddings",
                tensor = OUTPUT,
                "{OUTPUT} is a copy of the token embedding, because llama.cpp loads no {} model \
                 without it",
                self.architecture.name
            );
            tensors.insert(at, Tensor { name: OUTPUT.to_owned(), ..embedding });
        }
        Ok(())
    }
}
