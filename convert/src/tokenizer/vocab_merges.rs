//! Byte-level BPE as transformers' older tokenizers keep it: `vocab.json` and `merges.txt`.
//!
//! How text is split before it is merged is in no file there; the tokenizer's class says it.

use serde_json::{Value, json};

use crate::{Result, json};

use super::{pre, sentencepiece::added_tokens, sources::Sources, tokenizer_json::TokenizerJson};

/// The tokenizer.json that transformers would save, if both files are there and the class is known
/// or a pre-tokenizer was named.
pub(super) fn read(sources: &Sources<'_>) -> Result<Option<TokenizerJson>> {
    let path = sources.file("vocab.json");
    if !path.is_file() || !sources.file("merges.txt").is_file() {
        return Ok(None);
    }
    let class = class(sources).unwrap_or_default();
    let class = class.strip_suffix("Fast").unwrap_or(class);
    let bytes = |expression: bool| {
        let prefix = sources.setting("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
        json!({"type": "ByteLevel", "add_prefix_space": prefix, "use_regex": expression})
    };
    let (normalizer, splitting) = match class {
        "GPT2Tokenizer"
        | "CodeGenTokenizer"
        | "RobertaTokenizer"
        | "BartTokenizer"
        | "LongformerTokenizer" => (Value::Null, bytes(true)),
        "Qwen2Tokenizer" => {
            let split = json!({
                "type": "Split", "pattern": {"Regex": pre::QWEN2}, "behavior": "Isolated", "invert": false,
            });
            let steps = json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]});
            (json!({"type": "NFC"}), steps)
        }
        _ if sources.options.pre_tokenizer.is_some() => (Value::Null, bytes(true)),
        _ => return Ok(None),
    };
    let vocabulary = json::read_object(&path)?;
    let mut added: Vec<(u64, String)> = added_tokens(sources)?;
    let named = sources.named();
    for token in &named {
        let id = vocabulary.get(*token).and_then(Value::as_u64);
        if let Some(id) = id.filter(|_| added.iter().all(|(_, other)| other != token)) {
            added.push((id, (*token).to_owned()));
        }
    }
    let id = |token: &str| {
        let added = added.iter().find(|(_, other)| other == token);
        added.map(|(id, _)| json!([token, id])).unwrap_or_default()
    };
    // RoBERTa's class and those made from it put tokens around a text.
    let around = match class {
        "RobertaTokenizer" | "BartTokenizer" | "LongformerTokenizer" => json!({
            "type": "RobertaProcessing", "cls": id("<s>"), "sep": id("</s>"),
            "trim_offsets": true, "add_prefix_space": false,
        }),
        _ => Value::Null,
    };
    let listed: Vec<Value> = added
        .iter()
        .map(|(id, token)| {
            let special = named.contains(&token.as_str());
            json!({"id": id, "content": token, "special": special, "normalized": false})
        })
        .collect();
    let content = json!({
        "added_tokens": listed,
        "normalizer": normalizer,
        "pre_tokenizer": splitting,
        "post_processor": around,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocabulary},
    });
    TokenizerJson::made(&path, content).map(Some)
}

/// The tokenizer's class: as it is given, else the one that the model's type has.
fn class<'s>(sources: &'s Sources<'_>) -> Option<&'s str> {
    let given = || sources.config.get("tokenizer_class").and_then(Value::as_str);
    let class = sources.setting("tokenizer_class").and_then(Value::as_str).or_else(given);
    class.or_else(|| match sources.config.get("model_type").and_then(Value::as_str)? {
        "gpt2" | "gpt_bigcode" => Some("GPT2Tokenizer"),
        "phi" => Some("CodeGenTokenizer"),
        "roberta" => Some("RobertaTokenizer"),
        kind if kind.starts_with("qwen2") || kind.starts_with("qwen3") => Some("Qwen2Tokenizer"),
        _ => None,
    })
}
