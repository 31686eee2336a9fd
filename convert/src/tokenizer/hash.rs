//! The reference converter's hash of a tokenizer: of what it makes of a test text.
//!
//! It tells published tokenizers by name even where several names have one structure. A tokenizer
//! that cannot be hashed, or whose hash is not known, is identified by its structure ([`super::pre`]).

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::{
    hash_model::{Bpe, word_piece},
    hashes,
    sources::{Sources, text},
    tokenizer_json::TokenizerJson,
};

/// The reference's test text: spaces, digits, scripts, emoji, punctuation and contractions, which
/// tokenizers split in different places.
const TEXT: &str = "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u{200d}🌫\u{fe0f} \
(multiple emojis concatenated) ✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 \
កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ ------======= нещо на Български \
''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure I'll \
make it, 'D you like some tea? We'Ve a'lL";

/// llama.cpp's name for a published tokenizer; `merges` are those of a BPE model.
pub(super) fn known<'m>(
    sources: &Sources<'_>,
    tokenizer: &'m TokenizerJson,
    merges: impl Iterator<Item = &'m str>,
) -> Option<&'static str> {
    // What is read of the file is checked before it is given to the library; should it stop all
    // the same, the tokenizer is one without a hash.
    let build = AssertUnwindSafe(|| ids(tokenizer, merges));
    let ids = catch_unwind(build).ok().flatten()?;
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

/// The ids of the test text, without those added around it.
fn ids<'m>(
    tokenizer: &'m TokenizerJson,
    merges: impl Iterator<Item = &'m str>,
) -> Option<Vec<u32>> {
    let part = |part: &Option<Value>| part.clone().filter(|part| !part.is_null());
    let (normalizer, pre) = (part(&tokenizer.normalizer), part(&tokenizer.pre_tokenizer));
    let steps = || normalizer.iter().chain(&pre);
    // Only what is plain, and so not deep, is walked for its growth.
    if !steps().all(|part| is_plain(part, DEEPEST)) || growth_of(steps()) > MOST_GROWTH {
        return None;
    }
    let bpe = if tokenizer.is_word_piece() { None } else { Some(Bpe::new(tokenizer, merges)?) };
    let mut found = Tokenizer::new(match &bpe {
        Some(bpe) => bpe.symbols()?,
        None => word_piece(&tokenizer.model)?,
    });
    if let Some(normalizer) = normalizer {
        let normalizer: NormalizerWrapper = serde_json::from_value(normalizer).ok()?;
        found.with_normalizer(Some(normalizer)).ok()?;
    }
    if let Some(pre) = pre {
        let pre: PreTokenizerWrapper = serde_json::from_value(pre).ok()?;
        found.with_pre_tokenizer(Some(pre));
    }
    let added = tokenizer.added_tokens.iter().map(|token| {
        AddedToken::from(token.content.clone(), token.special)
            .normalized(token.normalized)
            .lstrip(token.lstrip)
            .rstrip(token.rstrip)
            .single_word(token.single_word)
    });
    found.add_tokens(added.collect::<Vec<_>>()).ok()?;
    if let Some(bpe) = bpe {
        let symbols = found.encode(TEXT, false).ok()?.get_tokens().concat();
        found.with_model(bpe.merging(&symbols)?);
    }
    Some(found.encode(TEXT, false).ok()?.get_ids().to_vec())
}

/// Sequences inside sequences.
const DEEPEST: usize = 8;

/// Normalizers and pre-tokenizers of byte-level BPE and WordPiece, none of which can fail for what
/// a file makes of its settings.
const PLAIN: [&str; 18] = [
    "BertNormalizer",
    "BertPreTokenizer",
    "ByteLevel",
    "Digits",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Prepend",
    "Punctuation",
    "Replace",
    "Sequence",
    "Split",
    "Strip",
    "StripAccents",
    "Whitespace",
    "WhitespaceSplit",
];

fn is_plain(part: &Value, depth: usize) -> bool {
    let kind = part.get("type").and_then(Value::as_str);
    kind.is_some_and(|kind| PLAIN.contains(&kind))
        && (depth > 0 && inner(part).all(|part| is_plain(part, depth - 1)))
}

/// The parts of a sequence.
fn inner(part: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["normalizers", "pretokenizers"].into_iter().filter_map(|key| part.get(key));
    lists.filter_map(Value::as_array).flatten()
}

/// How much longer the text may become: real tokenizers stay far below, and a chain of a few
/// replacements could make it longer than any memory.
const MOST_GROWTH: usize = 1000;

/// How many times as many bytes parts may make of a text, one after the other.
fn growth_of<'v>(parts: impl Iterator<Item = &'v Value>) -> usize {
    parts.map(growth).fold(1, usize::saturating_mul)
}

/// How many times as many bytes a plain part may make of a text, at most.
fn growth(part: &Value) -> usize {
    let text = |key: &str| part.get(key).and_then(Value::as_str).map_or(0, str::len);
    match part.get("type").and_then(Value::as_str) {
        Some("Sequence") => growth_of(inner(part)),
        // A pattern may match nothing, between any two characters.
        Some("Replace") => text("content").saturating_add(1),
        Some("Prepend") => text("prepend").saturating_add(1),
        // U+FDFA becomes eighteen letters.
        Some("NFKC" | "NFKD") => 12,
        Some("NFC" | "NFD" | "BertNormalizer" | "ByteLevel" | "Lowercase") => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
        pre_tokenizers::byte_level::ByteLevel,
    };

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

    #[test]
    fn what_the_library_would_stop_at_is_not_given_to_it() {
        let ids = |model: &str, rest: &str| {
            let text = format!("{{\"model\": {model} {rest}}}");
            let tokenizer: TokenizerJson = serde_json::from_str(&text).unwrap();
            let merges: Vec<_> =
                tokenizer.model.merges.iter().flatten().map(|m| m.0.clone()).collect();
            super::ids(&tokenizer, merges.iter().map(String::as_str))
        };
        let vocab = r#""vocab": {"a": 0, "b": 1, "ab": 2}"#;
        let ok = format!(r#"{{"type": "BPE", {vocab}, "merges": ["a b"]}}"#);
        assert!(ids(&ok, "").is_some());
        for model in [
            format!(r#"{{"type": "BPE", {vocab}, "merges": ["ab ab"]}}"#),
            format!(r#"{{"type": "BPE", {vocab}, "merges": ["ab"]}}"#),
            format!(
                r#"{{"type": "BPE", {vocab}, "merges": ["a b"], "continuing_subword_prefix": "longer"}}"#
            ),
            r#"{"type": "Unigram", "vocab": [["a", 0.0]]}"#.to_owned(),
        ] {
            assert_eq!(ids(&model, ""), None, "{model}");
        }
        let replace = r#"{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaa"}"#;
        let chain = |n: usize| {
            let parts = vec![replace; n].join(", ");
            format!(", \"normalizer\": {{\"type\": \"Sequence\", \"normalizers\": [{parts}]}}")
        };
        assert!(ids(&ok, &chain(3)).is_some());
        assert_eq!(ids(&ok, &chain(4)), None);
        let levels = vec![r#"{"type": "ByteLevel"}"#; 40].join(", ");
        let pre = r#""pre_tokenizer": {"type": "Sequence", "pretokenizers""#;
        assert_eq!(ids(&ok, &format!(", {pre}: [{levels}]}}")), None);
        for pre in [
            r#"{"type": "FixedLength", "length": 0}"#,
            r#"{"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}"#,
            r#"{"type": "Sequence", "pretokenizers": [{"type": "FixedLength", "length": 0}]}"#,
            "{}",
            "7",
        ] {
            assert_eq!(ids(&ok, &format!(", \"pre_tokenizer\": {pre}")), None, "{pre}");
        }
    }

    /// Characters that are no tokens where text is not mapped to bytes.
    const MISSING: &str = "n工…";

    /// A tokenizer.json of byte-level BPE, or of characters, that merges some parts of the test text.
    fn file(bytes: bool, parts: &[(usize, usize)], mut model: Value, added: &[&str]) -> Value {
        let alphabet = ByteLevel::alphabet().into_iter().chain(TEXT.chars());
        let mut vocab = serde_json::Map::new();
        let mut add = |token: String| {
            let id = vocab.len();
            vocab.entry(token).or_insert(id.into());
        };
        for c in alphabet.filter(|c| bytes || !MISSING.contains(*c)) {
            add(c.to_string());
        }
        for token in ["<unk>", "<0xE5>", "<0xB7>", "<0xA5>", "<0x6E>"] {
            add(token.to_owned());
        }
        let text = if bytes {
            let byte_level = ByteLevel::new(false, false, false);
            let mut text = PreTokenizedString::from(TEXT);
            byte_level.pre_tokenize(&mut text).unwrap();
            let splits = text.get_splits(OffsetReferential::Normalized, OffsetType::None);
            splits.into_iter().map(|(part, ..)| part).collect::<String>()
        } else {
            TEXT.to_owned()
        };
        let text: Vec<char> = text.chars().collect();
        let mut merges = Vec::new();
        for &(start, len) in parts {
            let part = &text[start % text.len()..][..len.min(text.len() - start % text.len())];
            // Merges are written with a space between two tokens.
            let end = part.iter().position(|c| *c == ' ' || !bytes && MISSING.contains(*c));
            let part = &part[..end.unwrap_or(part.len())];
            for end in 1..part.len() {
                let token = |part: &[char]| part.iter().collect::<String>();
                add(token(&part[..=end]));
                merges.push(format!("{} {}", token(&part[..end]), part[end]));
            }
        }
        let first = vocab.len();
        let added: Vec<Value> = added
            .iter()
            .enumerate()
            .map(|(i, content)| {
                serde_json::json!({"id": first + i, "content": content, "special": false, "single_word": i == 1,
                    "lstrip": false, "rstrip": i == 2, "normalized": i == 0})
            })
            .collect();
        model["type"] = "BPE".into();
        model["vocab"] = vocab.into();
        model["merges"] = merges.into();
        let mut file = serde_json::json!({"version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added, "normalizer": {"type": "Prepend", "prepend": "▁"}, "pre_tokenizer": null,
            "post_processor": null, "decoder": null, "model": model});
        if bytes {
            file["pre_tokenizer"] = serde_json::json!({"type": "ByteLevel", "add_prefix_space": true,
                "trim_offsets": true, "use_regex": true});
        }
        file
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The tokens left out are none that the text has.
        #[test]
        fn ids_are_those_of_the_whole_model(
            bytes in any::<bool>(),
            parts in vec((0usize..2000, 2usize..9), 0..200),
            (byte_fallback, ignore_merges, fuse_unk) in any::<(bool, bool, bool)>(),
            unk in prop::option::of(Just("<unk>")),
            added in prop::sample::subsequence(vec!["told", "I", "='", "333", "\n\n", "🦙", "other"], 0..7),
        ) {
            let model = serde_json::json!({"byte_fallback": byte_fallback, "ignore_merges": ignore_merges,
                "fuse_unk": fuse_unk, "unk_token": unk, "dropout": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null});
            let file = file(bytes, &parts, model, &added);
            let whole = Tokenizer::from_bytes(file.to_string()).unwrap();
            let expected = whole.encode(TEXT, false).unwrap().get_ids().to_vec();
            let tokenizer: TokenizerJson = serde_json::from_value(file).unwrap();
            let merges = tokenizer.model.merges.iter().flatten().map(|merge| merge.0.as_str());
            prop_assert_eq!(super::ids(&tokenizer, merges), Some(expected));
        }
    }
}
