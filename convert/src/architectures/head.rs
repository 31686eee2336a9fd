//! The head that predicts tokens, where a checkpoint has none.

use std::collections::HashSet;

use gguf_io::SourceFile;
use quant_kernels::Kernels;
use quant_weights::TensorReader;

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

/// Warns of an output that config.json ties to the token embedding but that is stored with other
/// values: what runs depends on the program. A few rows of both are read.
pub(crate) fn warn_of_two(config: &Config, tensors: &[Tensor], files: &[SourceFile]) -> Result<()> {
    let named = |name| tensors.iter().find(|tensor| tensor.name == name);
    let (Some(output), Some(embedding)) = (named(OUTPUT), named("token_embd.weight")) else {
        return Ok(());
    };
    if !config.flag("tie_word_embeddings")? {
        return Ok(());
    }
    let mut differs = output.shape != embedding.shape;
    let (len, mut reader) = (output.row_len(), TensorReader::new(files, Kernels::default()));
    let rows = output.elements().checked_div(len).unwrap_or(0);
    for row in [0, rows / 2, rows.saturating_sub(1)] {
        if differs || rows == 0 {
            break;
        }
        let range = row * len..(row + 1) * len;
        let values = reader.values(output, range.clone())?.to_vec();
        differs = reader.values(embedding, range)? != values;
    }
    if differs {
        tracing::warn!(
            kind = "tied-embeddings",
            tensor = OUTPUT,
            "config.json ties the output to the token embedding (tie_word_embeddings), but the \
             checkpoint stores an output with other values, which is written as {OUTPUT}: \
             transformers 5 takes it too, earlier versions take the token embedding; set \
             tie_word_embeddings to false if it is right, remove it from the weights if it is not"
        );
    }
    Ok(())
}

const OUTPUT: &str = "output.weight";

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
