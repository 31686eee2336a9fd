use std::path::Path;

use serde_json::{Map, Value, json};

use super::*;
use crate::tokenizer::hash::TEXT;

fn ids_of(file: Value, text: &str) -> Option<Vec<u32>> {
    let tokenizer: TokenizerJson = serde_json::from_value(file).unwrap();
    let merges = tokenizer.model.merges.iter().flatten().map(|merge| merge.0.as_str());
    ids(&tokenizer, merges, text)
}

/// The library's ids, of settings drawn at random.
#[derive(serde::Deserialize)]
struct Golden {
    text: String,
    models: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    model: usize,
    /// Those of the model that are other than in the list.
    settings: Map<String, Value>,
    /// Whether the text is the one that is hashed.
    #[serde(default)]
    whole_text: bool,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    added_tokens: Value,
    ids: Vec<u32>,
}

#[test]
fn ids_are_the_library_s() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/golden/tokenizer-ids.json");
    // The published package has no fixtures.
    let Ok(golden) = std::fs::read(path) else { return };
    let golden: Golden = serde_json::from_slice(&golden).unwrap();
    assert!(golden.cases.len() >= 80);
    let mut failures = Vec::new();
    for (i, case) in golden.cases.iter().enumerate() {
        let mut model = golden.models[case.model].clone();
        model.as_object_mut().unwrap().extend(case.settings.clone());
        let file = json!({"normalizer": case.normalizer, "pre_tokenizer": case.pre_tokenizer,
            "added_tokens": case.added_tokens, "model": model});
        let found = ids_of(file, if case.whole_text { TEXT } else { &golden.text });
        if found.as_ref() != Some(&case.ids) {
            failures.push(format!("case {i}: {found:?} instead of {:?}", case.ids));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn bpe(merges: &[&str]) -> Value {
    json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, " ": 3}, "merges": merges})
}

fn normalized(normalizer: Value, text: &str) -> Option<Vec<u32>> {
    ids_of(json!({"model": bpe(&["a b"]), "normalizer": normalizer}), text)
}

fn split(pre: Value) -> Option<Vec<u32>> {
    ids_of(json!({"model": bpe(&["a b"]), "pre_tokenizer": pre}), "ab a")
}

#[test]
fn models_that_do_not_hold_together_are_refused() {
    assert_eq!(ids_of(json!({"model": bpe(&["a b"])}), "ab a"), Some(vec![2, 3, 0]));
    let mut prefixed = bpe(&["a b"]);
    prefixed["continuing_subword_prefix"] = "longer".into();
    let unigram = json!({"type": "Unigram", "vocab": [["a", 0.0]]});
    for model in [bpe(&["ab ab"]), bpe(&["ab"]), prefixed, unigram] {
        assert_eq!(ids_of(json!({"model": model}), "ab a"), None, "{model}");
    }
    // Known words need no unknown token.
    for model in [
        json!({"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"}),
        json!({"type": "WordPiece", "vocab": {"a": 0}}),
    ] {
        assert_eq!(ids_of(json!({"model": model}), "a"), Some(vec![0]), "{model}");
        assert_eq!(ids_of(json!({"model": model}), "b"), None, "{model}");
    }
}

#[test]
fn texts_that_become_too_long_are_refused() {
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(9)});
    let chain = |n| json!({"type": "Sequence", "normalizers": vec![replace.clone(); n]});
    assert_eq!(normalized(chain(3), "a").unwrap().len(), 9 * 9 * 9);
    assert_eq!(normalized(chain(4), "a"), None);
    let levels =
        vec![json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}); 40];
    assert_eq!(
        split(json!({"type": "Sequence", "pretokenizers": levels[..4]})),
        split(levels[0].clone())
    );
    assert_eq!(split(json!({"type": "Sequence", "pretokenizers": levels})), None);
    // Tokens that are normalized too.
    let added = json!([{"id": 9, "content": "x".repeat(1 << 22), "normalized": true}]);
    let file =
        |steps| json!({"model": bpe(&[]), "added_tokens": added, "normalizer": chain(steps)});
    assert!(ids_of(file(1), "a").is_some());
    assert_eq!(ids_of(file(2), "a"), None);
}

#[test]
fn settings_that_the_library_refuses_are_refused() {
    for normalizer in [
        json!({}),
        json!(7),
        json!({"type": 1}),
        json!({"type": "Nmt"}),
        json!({"type": "Digits", "individual_digits": true}),
        json!({"type": "Strip", "strip_left": true}),
        json!({"type": "Strip", "strip_left": true, "strip_right": 1}),
        json!({"type": "Prepend", "prepend": null}),
        json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""}),
        json!({"type": "Replace", "pattern": "a", "content": ""}),
        json!({"type": "BertNormalizer", "clean_text": true, "lowercase": true}),
        json!({"type": "Sequence"}),
        json!({"type": "Sequence", "normalizers": [{"type": "Nmt"}]}),
    ] {
        assert_eq!(normalized(normalizer.clone(), "ab"), None, "{normalizer}");
    }
    for pre in [
        json!({}),
        json!({"type": "FixedLength", "length": 0}),
        json!({"type": "NFC"}),
        json!({"type": "ByteLevel", "add_prefix_space": true}),
        json!({"type": "Digits"}),
        json!({"type": "Punctuation", "behavior": null}),
        json!({"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated"}),
        json!({"type": "Split", "pattern": {"String": "a"}, "behavior": "isolated", "invert": true}),
        json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": true}),
        json!({"type": "Sequence", "pretokenizers": [{"type": "FixedLength", "length": 0}]}),
    ] {
        assert_eq!(split(pre.clone()), None, "{pre}");
    }
    let nested = |n| {
        let inside = |step, _| json!({"type": "Sequence", "pretokenizers": [step]});
        (0..n).fold(json!({"type": "Whitespace"}), inside)
    };
    assert!(split(nested(DEEPEST - 1)).is_some());
    assert_eq!(split(nested(DEEPEST)), None);
}

#[test]
fn searches_that_take_too_long_give_no_ids() {
    let split = |regex: &str, text: &str| {
        let pre = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        ids_of(json!({"model": bpe(&[]), "pre_tokenizer": pre}), text)
    };
    assert_eq!(split(r"a\Kb", "ab"), Some(vec![0, 1]));
    let twofold = r"(?:(?=a)a|a)*(?!a)b\b";
    assert_eq!(split(twofold, "aab"), Some(vec![0, 0, 1]));
    assert_eq!(split(twofold, &"a".repeat(60)), None);
}

#[test]
fn what_stands_before_the_first_character_is_refused() {
    let prepend = |text: &str| json!({"type": "Prepend", "prepend": text});
    assert_eq!(normalized(prepend("a"), "b"), Some(vec![2]));
    assert_eq!(normalized(prepend(""), "b"), None);
    assert_eq!(normalized(prepend(""), ""), Some(vec![]));
    let replace =
        |regex: &str| json!({"type": "Replace", "pattern": {"Regex": regex}, "content": "a"});
    assert_eq!(normalized(replace("$"), "b"), Some(vec![1, 0]));
    assert_eq!(normalized(replace("^"), "b"), None);
}

#[test]
fn added_tokens_that_the_library_has_no_answer_for() {
    let found = |tokens: &[(&str, bool)], text: &str| {
        let token = |(i, (content, rest)): (usize, &(&str, bool))| json!({"id": i, "content": content, "normalized": true, "lstrip": rest, "rstrip": rest});
        let added: Vec<_> = tokens.iter().enumerate().map(token).collect();
        let normalizer = json!({"type": "Sequence", "normalizers": [
            {"type": "Lowercase"}, {"type": "Replace", "pattern": {"String": "-"}, "content": ""}]});
        ids_of(
            json!({"model": bpe(&["a b"]), "added_tokens": added, "normalizer": normalizer}),
            text,
        )
    };
    // The ids are those that the model has, or come after them.
    assert_eq!(found(&[("x", false), ("b", false), ("", false)], "aBX"), Some(vec![0, 1, 4]));
    // Two are one, if they are looked for.
    assert_eq!(found(&[("X", false), ("x", false)], "ab"), Some(vec![2]));
    assert_eq!(found(&[("X", false), ("x", false)], "abx"), None);
    // Nothing is left.
    assert_eq!(found(&[("--", false)], "ab"), None);
    // One takes the space that the other is, and gives it back.
    assert_eq!(found(&[("x", true), (" ", false)], "x ab"), Some(vec![4, 3, 2]));
    assert_eq!(found(&[("x", true), (" ", true)], "x  ab"), Some(vec![4, 2]));
}
