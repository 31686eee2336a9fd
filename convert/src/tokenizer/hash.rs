//! The reference converter's hash of a tokenizer: of what it makes of a test text.
//!
//! It tells published tokenizers by name even where several names have one structure. A tokenizer
//! that cannot be hashed, or whose hash is not known, is identified by its structure ([`super::pre`]).

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    encode, hashes,
    sources::{Sources, text},
    tokenizer_json::TokenizerJson,
};

/// The reference's test text: spaces, digits, scripts, emoji, punctuation and contractions, which
/// tokenizers split in different places.
pub(super) const TEXT: &str = "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u{200d}🌫\u{fe0f} \
(multiple emojis concatenated) ✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 \
កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ ------======= нещо на Български \
''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure I'll \
make it, 'D you like some tea? We'Ve a'lL";

/// llama.cpp's name for a published tokenizer; `merges` are those of a BPE model.
pub(super) fn known<'m>(
    sources: &Sources<'_>,
    tokenizer: &TokenizerJson,
    merges: impl Iterator<Item = &'m str>,
) -> Option<&'static str> {
    let ids = encode::ids(tokenizer, merges, TEXT)?;
    candidates(sources, tokenizer, ids).iter().find_map(|ids| {
        let hash = hash(ids);
        let found = hashes::KNOWN.binary_search_by_key(&hash.as_str(), |(known, _)| known);
        tracing::debug!(hash, known = found.is_ok(), "tokenizer");
        found.ok().and_then(|i| hashes::KNOWN.get(i)).map(|(_, name)| *name)
    })
}

/// SHA-256 of a list of ids as Python prints it.
fn hash(ids: &[u32]) -> String {
    let list = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    Sha256::digest(format!("[{list}]")).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the tokenizer makes of the text with the tokens around it that it may add: as its
/// post-processor says, as tokenizer_config.json says, none. Versions of transformers differ in
/// which of the files they heed.
fn candidates(sources: &Sources<'_>, tokenizer: &TokenizerJson, ids: Vec<u32>) -> [Vec<u32>; 3] {
    let with = |(before, after): (Vec<u32>, Vec<u32>)| [&before[..], &ids, &after[..]].concat();
    let post = tokenizer.post_processor.as_ref().map(around).unwrap_or_default();
    let token = |role: &str| {
        let add = sources.setting(&format!("add_{role}_token")) == Some(&Value::Bool(true));
        let name = sources.special(&format!("{role}_token")).and_then(text).filter(|_| add)?;
        tokenizer.added_tokens.iter().find(|token| token.content == name).map(|token| token.id)
    };
    let settings = [token("bos"), token("eos")].map(|id| id.into_iter().collect());
    let [bos, eos] = settings;
    [with(post), with((bos, eos)), ids]
}

/// The ids a post-processor puts before and after a single text.
fn around(processor: &Value) -> (Vec<u32>, Vec<u32>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let list = |key: &str| processor.get(key).and_then(Value::as_array).into_iter().flatten();
    let id = |value: Option<&Value>| value?.as_u64().and_then(|id| u32::try_from(id).ok());
    match processor.get("type").and_then(Value::as_str) {
        Some("Sequence") => {
            for part in list("processors").filter(|part| part.get("processors").is_none()) {
                let (outer, last) = around(part);
                before = [outer, before].concat();
                after.extend(last);
            }
        }
        Some("BertProcessing" | "RobertaProcessing") => {
            before.extend(id(processor.pointer("/cls/1")));
            after.extend(id(processor.pointer("/sep/1")));
        }
        Some("TemplateProcessing") => {
            let mut passed = false;
            for entry in list("single") {
                let Some(name) = entry.pointer("/SpecialToken/id").and_then(Value::as_str) else {
                    passed = true;
                    continue;
                };
                let token = processor.get("special_tokens").and_then(|tokens| tokens.get(name));
                let ids = token.and_then(|token| token.get("ids")).and_then(Value::as_array);
                let ids = ids.into_iter().flatten().filter_map(|value| id(Some(value)));
                if passed { after.extend(ids) } else { before.extend(ids) }
            }
        }
        _ => {}
    }
    (before, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_are_known() {
        assert!(hashes::KNOWN.windows(2).all(|pair| pair[0].0 < pair[1].0));
        // Names of WordPiece tokenizers, which llama.cpp does not look at, are not in its list.
        let others = ["bert-bge-large", "jina-v2-en", "roberta-bpe", "gpt-j"];
        for (hash, name) in hashes::KNOWN {
            assert_eq!(hash.len(), 64, "{name}");
            assert!(super::super::pre::NAMES.contains(name) || others.contains(name), "{name}");
        }
    }

    #[test]
    fn lists_are_hashed_as_python_prints_them() {
        // sha256("[1, 22, 333]")
        assert_eq!(
            hash(&[1, 22, 333]),
            "276d8737d9d5a80805e0731e8d5ae18972a8e3ba721f4988f67151c6e9159068"
        );
    }

    #[test]
    fn the_test_text_is_the_reference_s() {
        let digest = Sha256::digest(TEXT).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(digest, "a36179c1e2b1cfcfbfad1dc779addad2ffc778201e4cf0d538bddeafa2c526da");
    }

    #[test]
    fn tokens_around_a_text() {
        let processor = serde_json::json!({"type": "Sequence", "processors": [
            {"type": "ByteLevel"},
            {"type": "TemplateProcessing",
             "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}],
             "special_tokens": {"<s>": {"ids": [5, 6]}, "</s>": {"ids": [7]}}},
            {"type": "RobertaProcessing", "cls": ["<s>", 1], "sep": ["</s>", 2]}
        ]});
        assert_eq!(around(&processor), (vec![1, 5, 6], vec![7, 2]));
        assert_eq!(around(&Value::Null), (vec![], vec![]));
    }
}
