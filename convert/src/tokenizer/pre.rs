//! llama.cpp's name for the way byte-level BPE splits text before it merges.
//!
//! The reference converter recognises a tokenizer by a hash of what it makes of a test text, which
//! tells published vocabularies only. Here the name is told by the structure of tokenizer.json, so
//! that any vocabulary with a known way of splitting has one.

use serde_json::Value;

use crate::{Error, Result, error::Quoted};

use super::tokenizer_json::TokenizerJson;

/// The names llama.cpp knows.
pub const NAMES: &[&str] = gguf_model::tokenizer::PRE_TOKENIZERS;

/// A step of a pre-tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Matches of an expression are pieces, and so is what is between them.
    Split(&'a str),
    /// Runs of digits are pieces, or each digit is.
    Digits { individual: bool },
    /// Runs of punctuation are pieces.
    Punctuation,
    /// GPT-2's own expression.
    Gpt2,
    /// Anything else.
    Other(String),
}

use Step::{Digits, Gpt2, Punctuation, Split};

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGITS: Step<'_> = Digits { individual: true };

/// Known ways of splitting, each under the name of the tokenizer that had it first: llama.cpp has
/// several names for some.
const KNOWN: &[(&str, &[Step<'static>])] = &[
    ("gpt-2", &[Gpt2]),
    ("llama-bpe", &[Split(LLAMA3)]),
    ("qwen2", &[Split(QWEN2)]),
    (
        "qwen35",
        &[Split(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        )],
    ),
    ("starcoder", &[DIGITS, Gpt2]),
    ("falcon", &[Punctuation, Gpt2, Digits { individual: false }, Split("[0-9][0-9][0-9]")]),
    (
        "tekken",
        &[Split(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        )],
    ),
    (
        "gpt-4o",
        &[Split(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        )],
    ),
    (
        "deepseek-llm",
        &[
            Split("[\r\n]"),
            Split(
                r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
            ),
            Split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
            Split(r"\s+$"),
            Split(r"[一-龥ࠀ-一가-퟿]+"),
            DIGITS,
        ],
    ),
    (
        "deepseek-coder",
        &[
            Split("[\r\n]"),
            Split(r"\s?\p{L}+"),
            Split(r"\s?\p{P}+"),
            Split(r"[一-龥ࠀ-一가-퟿]+"),
            DIGITS,
        ],
    ),
    (
        "deepseek-v3",
        &[
            Split(r"\p{N}{1,3}"),
            Split(r"[一-龥぀-ゟ゠-ヿ]+"),
            Split(
                "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
            ),
        ],
    ),
    ("bloom", &[Split(r" ?[^(\s|.,!?…。，、।۔،)]+")]),
    (
        "bailingmoe",
        &[Split(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        )],
    ),
    (
        "seed-coder",
        &[Split(
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
        )],
    ),
    (
        "jais-2",
        &[Split(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",
        )],
    ),
];

/// Refuses a name llama.cpp does not know.
///
/// # Errors
/// [`Error::PreTokenizerName`] with those it does.
pub fn check_name(name: &str) -> Result<()> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    Err(Error::PreTokenizerName { name: name.to_owned(), names: NAMES.join(", ") })
}

/// The name for a tokenizer. `clean_up` is `clean_up_tokenization_spaces` of its settings.
pub(super) fn recognise(tokenizer: &TokenizerJson, clean_up: Option<bool>) -> Result<&'static str> {
    let mut steps = Vec::new();
    match &tokenizer.pre_tokenizer {
        None => steps.push(Step::Other("none".into())),
        Some(pre) => flatten(pre, &mut steps, DEEPEST),
    }
    let mut nfc = false;
    let normalizer = tokenizer
        .normalizer
        .as_ref()
        .and_then(|normalizer| other_normalizer(normalizer, &mut nfc, DEEPEST));
    let known = KNOWN.iter().find(|(_, known)| {
        known.len() == steps.len() && known.iter().zip(&steps).all(|(known, step)| known.is(step))
    });
    match (known, normalizer) {
        // The same splitting under three names, of which two keep spaces as they are.
        (Some(("starcoder", _)), None) if clean_up == Some(false) => {
            Ok(if nfc { "command-r" } else { "smollm" })
        }
        (Some((name, _)), None) => Ok(name),
        (_, normalizer) => {
            let mut found: Vec<String> = normalizer
                .into_iter()
                .map(|kind| format!("normalizer {}", Quoted(&kind)))
                .collect();
            found.extend(steps.iter().take(8).map(Step::shown));
            Err(Error::PreTokenizer {
                path: tokenizer.path().to_path_buf(),
                found: found.join(", "),
                names: NAMES.join(", "),
            })
        }
    }
}

/// Sequences inside sequences; the JSON reader admits more than anyone writes.
const DEEPEST: usize = 8;

/// The steps of a pre-tokenizer, without those that leave text as it is.
fn flatten<'a>(pre: &'a Value, steps: &mut Vec<Step<'a>>, depth: usize) {
    let flag = |key: &str, default| pre.get(key).and_then(Value::as_bool).unwrap_or(default);
    let kind = pre.get("type").and_then(Value::as_str).unwrap_or("without a type");
    match kind {
        "Sequence" if depth > 0 => {
            let parts = pre.get("pretokenizers").and_then(Value::as_array);
            parts.into_iter().flatten().for_each(|part| flatten(part, steps, depth - 1));
        }
        "Split" => steps.push(split(pre, flag("invert", false))),
        "Digits" => steps.push(Digits { individual: flag("individual_digits", false) }),
        "Punctuation" if pre.get("behavior").and_then(Value::as_str) == Some("Contiguous") => {
            steps.push(Punctuation);
        }
        // The prefix decides what a text begins with, not where it is split, but no known
        // tokenizer has it.
        "ByteLevel" if flag("add_prefix_space", true) => {
            steps.push(Step::Other("ByteLevel with add_prefix_space".into()));
        }
        "ByteLevel" if flag("use_regex", true) => steps.push(Gpt2),
        "ByteLevel" => {}
        other => steps.push(Step::Other(other.into())),
    }
}

fn split(pre: &Value, invert: bool) -> Step<'_> {
    let pattern = pre.get("pattern");
    let regex = pattern.and_then(|pattern| pattern.get("Regex")).and_then(Value::as_str);
    let behavior = pre.get("behavior").and_then(Value::as_str).unwrap_or_default();
    match (regex, behavior, invert) {
        // Between the matches of an expression that matches everything there is nothing to remove.
        (Some(regex), "Isolated", _) | (Some(regex), "Removed", true) => Split(regex),
        (Some(regex), ..) => Step::Other(format!("Split {behavior} at {regex}")),
        (None, ..) => Step::Other(format!("Split {behavior} at a text")),
    }
}

/// The first part of a normalizer that llama.cpp has no part for; it takes text to be NFC already.
fn other_normalizer(normalizer: &Value, nfc: &mut bool, depth: usize) -> Option<String> {
    match normalizer.get("type").and_then(Value::as_str) {
        Some("NFC") => {
            *nfc = true;
            None
        }
        Some("Sequence") if depth > 0 => {
            let parts = normalizer.get("normalizers").and_then(Value::as_array);
            parts.into_iter().flatten().find_map(|part| other_normalizer(part, nfc, depth - 1))
        }
        kind => Some(kind.unwrap_or("without a type").to_owned()),
    }
}

impl Step<'_> {
    /// Whether two steps are the same, whichever way their expressions write a line break.
    fn is(&self, other: &Step<'_>) -> bool {
        let escaped = |regex: &str| regex.replace('\r', r"\r").replace('\n', r"\n");
        match (self, other) {
            (Split(a), Split(b)) => escaped(a) == escaped(b),
            _ => self == other,
        }
    }

    fn shown(&self) -> String {
        match self {
            Split(regex) => format!("Split {}", Quoted(regex)),
            Digits { individual: true } => "Digits one by one".into(),
            Digits { individual: false } => "Digits".into(),
            Punctuation => "Punctuation".into(),
            Gpt2 => "ByteLevel with its own expression".into(),
            Self::Other(what) => Quoted(what).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(pre: &str, normalizer: &str) -> TokenizerJson {
        let text = format!(
            r#"{{"model": {{"type": "BPE", "vocab": {{}}, "merges": []}}, "pre_tokenizer": {pre}, "normalizer": {normalizer}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn name(pre: &str) -> Result<&'static str> {
        recognise(&tokenizer(pre, "null"), None)
    }

    fn json(steps: &[Step<'_>]) -> String {
        let mut parts: Vec<Value> = steps
            .iter()
            .map(|step| match step {
                Split(regex) => serde_json::json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false}),
                Digits { individual } => serde_json::json!({"type": "Digits", "individual_digits": individual}),
                Punctuation => serde_json::json!({"type": "Punctuation", "behavior": "Contiguous"}),
                Gpt2 => serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}),
                Step::Other(_) => Value::Null,
            })
            .collect();
        parts.push(
            serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}),
        );
        serde_json::json!({"type": "Sequence", "pretokenizers": parts}).to_string()
    }

    #[test]
    fn every_known_structure_is_recognised_and_named_once() {
        for (i, (known, steps)) in KNOWN.iter().enumerate() {
            check_name(known).unwrap();
            assert_eq!(name(&json(steps)).unwrap(), *known);
            assert!(KNOWN.iter().skip(i + 1).all(|(_, others)| others != steps), "{known}");
        }
    }

    #[test]
    fn a_bare_byte_level_is_gpt2_and_its_expression_is_on_by_default() {
        let bare = r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}"#;
        assert_eq!(name(bare).unwrap(), "gpt-2");
    }

    #[test]
    fn one_structure_three_names() {
        let pre = json(&[DIGITS, Gpt2]);
        let found =
            |clean, normalizer: &str| recognise(&tokenizer(&pre, normalizer), clean).unwrap();
        assert_eq!(found(None, "null"), "starcoder");
        assert_eq!(found(Some(true), "null"), "starcoder");
        assert_eq!(found(Some(false), "null"), "smollm");
        assert_eq!(found(Some(false), r#"{"type": "NFC"}"#), "command-r");
    }

    #[test]
    fn near_misses_are_refused_with_the_way_out() {
        let two_digits = json(&[Split(&LLAMA3.replace("{1,3}", "{1,2}"))]);
        let removed = json(&[Split(LLAMA3)]).replace("Isolated", "Removed");
        let prefix =
            json(&[Gpt2]).replace("\"add_prefix_space\":false", "\"add_prefix_space\":true");
        for pre in [&two_digits, &removed, &prefix, "null", "{}", "[]", r#"{"type": "Whitespace"}"#]
        {
            let message = name(pre).unwrap_err().to_string();
            assert!(
                message.contains("give it")
                    && message.contains("llama-bpe")
                    && !message.contains('\n'),
                "{message}"
            );
        }
        let lowercase = tokenizer(&json(&[Gpt2]), r#"{"type": "Lowercase"}"#);
        let message = recognise(&lowercase, None).unwrap_err().to_string();
        assert!(message.contains("normalizer \"Lowercase\""), "{message}");
        assert!(check_name("llama-3").is_err());
    }
}
