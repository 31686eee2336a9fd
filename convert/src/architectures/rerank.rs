//! Qwen3-Reranker: a language model that answers yes or no, which becomes a classifier.

use std::path::Path;

use gguf_io::GgufString;
use serde_json::Value;

use crate::{
    Config, Result, general, json,
    model::{Piece, Tensor, TensorData},
};

use super::{family::Architecture, parameter::Keys};

/// What names of rerankers hold, in small letters.
const NAMES: [&str; 2] = ["qwen3-reranker", "qwen3-vl-reranker"];

/// The answers, in the order of the classes.
const LABELS: [&str; 2] = ["yes", "no"];

/// The pooling of classifiers that rank.
const RANK: u32 = 4;

/// What the model is asked, in llama.cpp's words.
const TEMPLATE: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based \
     on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \
     \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant \
     passages that answer the query\n<Query>: {query}\n<Document>: {document}<|im_end|>\n\
     <|im_start|>assistant\n<think>\n\n</think>\n\n";

/// The ids of the answers, if the model is a reranker by its folder or its card.
fn answers(config: &Config) -> Result<Option<[u64; 2]>> {
    let dir = config.path().parent().unwrap_or(Path::new(""));
    let folder = general::folder(dir, config.like_reference()).unwrap_or_default().to_lowercase();
    if !(NAMES.iter().any(|name| folder.contains(name)) || has_card(dir)) {
        return Ok(None);
    }
    let path = dir.join("tokenizer.json");
    let tokenizer = json::read_optional(&path)?.unwrap_or_default();
    let added = tokenizer.get("added_tokens").and_then(Value::as_array);
    let vocabulary = tokenizer.get("model").and_then(|model| model.get("vocab"));
    let id = |token: &str| {
        let own = added.into_iter().flatten().find(|one| one.get("content") == Some(&token.into()));
        let id = own.and_then(|one| one.get("id")).or_else(|| vocabulary?.get(token));
        id.and_then(Value::as_u64)
    };
    let [yes, no] = LABELS.map(id);
    Ok(yes.zip(no).map(|(yes, no)| [yes, no]))
}

/// Whether the model card is that of a reranker.
fn has_card(dir: &Path) -> bool {
    const LONGEST: u64 = 1 << 20;
    let Ok(card) = json::read_bytes(&dir.join("README.md"), LONGEST) else { return false };
    let card = String::from_utf8_lossy(&card).to_lowercase();
    NAMES.iter().any(|name| card.contains(&format!("# {name}")))
}

/// Writes what makes a model a reranker, if it is one.
pub(super) fn keys(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    if answers(config)?.is_some() {
        keys.set("pooling_type", RANK);
        keys.set("classifier.output_labels", LABELS.map(GgufString::from).to_vec());
        keys.set_global("tokenizer.chat_template.rerank", TEMPLATE);
        keys.set_global("tokenizer.chat_templates", vec![GgufString::from("rerank")]);
    }
    Ok(())
}

/// Gives a reranker the rows of its head for yes and no in place of the head.
pub(crate) fn apply(
    architecture: &Architecture,
    config: &Config,
    tensors: &mut Vec<Tensor>,
) -> Result<()> {
    if !matches!(architecture.name, "qwen3" | "qwen3vl") {
        return Ok(());
    }
    let Some(ids) = answers(config)? else { return Ok(()) };
    let place = |name: &str| tensors.iter().position(|tensor| tensor.name == name);
    let head =
        place("output.weight").filter(|_| !config.flag("tie_word_embeddings").unwrap_or(true));
    let Some(at) = head.or_else(|| place("token_embd.weight")) else { return Ok(()) };
    let Some(Tensor { shape, data: TensorData::Stored { pieces, map }, .. }) = tensors.get(at)
    else {
        return Ok(());
    };
    let row = |id: u64| match pieces.as_slice() {
        [piece] => Some(Piece { view: piece.view.clone().narrow(0, id, 1)?, ..piece.clone() }),
        _ => None,
    };
    let [yes, no] = ids.map(row);
    let Some((yes, no)) = yes.zip(no) else {
        let expected = format!("more than the ids of yes and no, {} and {}", ids[0], ids[1]);
        let found = shape.last().copied().unwrap_or_default().to_string();
        return Err(config.wrong("vocab_size", &found, &expected));
    };
    let answers = Tensor {
        name: "cls.output.weight".to_owned(),
        shape: vec![shape.first().copied().unwrap_or(1), LABELS.len() as u64],
        data: TensorData::Stored { pieces: vec![yes, no], map: *map },
    };
    if head.is_some() {
        tensors.remove(at);
    }
    tensors.insert(at, answers);
    Ok(())
}
