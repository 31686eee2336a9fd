//! The keys of the tokenizer that a file carries.

use gguf_io::{
    message::Quoted,
    metadata::{Array, Metadata, Value},
};

use crate::{
    ProblemKind,
    problem::{Problems, described},
};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";

/// Kinds of tokenizers that llama.cpp knows, besides none.
const MODELS: &[&str] =
    &["llama", "bert", "gpt2", "hybriddna", "whitespace", "t5", "rwkv", "test", "plamo2", "gemma4"];

/// Kinds that split text by ranked merges.
const WITH_MERGES: &[&str] = &["gpt2", "hybriddna", "whitespace", "gemma4"];

/// Tokens that no engine writes or waits for: it does without them where they are wrong.
const UNUSED: &[&str] = &["padding_token_id", "mask_token_id"];

/// Keys that tell yes or no.
pub(crate) const FLAGS: &[&str] = &[
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
    "normalizer.lowercase",
    "normalizer.strip_accents",
];

/// Checks the tokenizer. Of an architecture that is not described here (`is_described`) only what
/// is there is looked at.
pub(crate) fn check(
    metadata: &Metadata,
    is_described: bool,
    problems: &mut Problems,
    notes: &mut Vec<String>,
) {
    let model = match metadata.get(MODEL).map(|value| (value, value.as_str())) {
        Some((_, Some("none" | "no_vocab"))) => return,
        Some((_, Some(model))) if MODELS.contains(&model) => Some(model),
        Some((value, model)) => {
            if is_described || model.is_none() {
                let kinds = format!("one of the STRINGs none, {}", MODELS.join(", "));
                problems.key(MODEL, format!("is {}, expected {kinds}", described(value)));
            }
            None
        }
        None => {
            if is_described {
                problems.missing_key(MODEL, "the kind of the tokenizer");
            }
            None
        }
    };
    let count = match metadata.get(TOKENS) {
        Some(Value::Array(Array::String(tokens))) if !tokens.is_empty() => tokens.len(),
        Some(other) => {
            let found = described(other);
            return problems.key(TOKENS, format!("is {found}, expected an array of strings"));
        }
        None => return problems.missing_key(TOKENS, "an array of strings"),
    };
    beside(
        metadata,
        "tokenizer.ggml.scores",
        count,
        problems,
        notes,
        "FLOAT32 that are numbers",
        {
            |array| match array {
                Array::Float32(scores) => scores.iter().all(|score| !score.is_nan()),
                Array::Int32(_) => true,
                _ => false,
            }
        },
    );
    beside(metadata, "tokenizer.ggml.token_type", count, problems, notes, "INT32", |array| {
        matches!(array, Array::Int32(_))
    });
    merges(metadata, model, problems);
    for (key, value) in metadata.iter() {
        let Some(name) = key.strip_prefix("tokenizer.ggml.") else { continue };
        let expected = match value {
            Value::Uint32(id) if name.ends_with("_token_id") && UNUSED.contains(&name) => {
                if *id as usize >= count {
                    notes.push(format!(
                        "key {} is {id}, which is no token: there are {count}; loaders go without",
                        Quoted(key)
                    ));
                }
                continue;
            }
            Value::Uint32(id) if name.ends_with("_token_id") && (*id as usize) < count => continue,
            _ if name.ends_with("_token_id") => format!("a UINT32, a token below {count}"),
            value if FLAGS.contains(&name) && !matches!(value, Value::Bool(_)) => "a BOOL".into(),
            value if name == "token_type_count" && !matches!(value, Value::Uint32(_)) => {
                "a UINT32".into()
            }
            value if name == "pre" && value.as_str().is_none() => "a STRING".into(),
            _ => continue,
        };
        problems.key(key, format!("is {}, expected {expected}", described(value)));
    }
}

/// Checks an array beside the tokens. Loaders read as many elements as there are tokens.
fn beside(
    metadata: &Metadata,
    key: &str,
    count: usize,
    problems: &mut Problems,
    notes: &mut Vec<String>,
    elements: &str,
    fits: impl Fn(&Array) -> bool,
) {
    match metadata.get(key) {
        None => {}
        Some(Value::Array(array)) if fits(array) && array.len() == count => {}
        Some(Value::Array(array)) if fits(array) && array.len() > count => {
            let more = array.len() - count;
            notes.push(format!("key {} has {more} elements more than tokens", Quoted(key)));
        }
        Some(other) => {
            let found = described(other);
            let expected = format!("{count} {elements}, one for each token");
            problems.key(key, format!("is {found}, expected {expected}"));
        }
    }
}

fn merges(metadata: &Metadata, model: Option<&str>, problems: &mut Problems) {
    const MERGES: &str = "tokenizer.ggml.merges";
    if !model.is_some_and(|model| WITH_MERGES.contains(&model)) {
        return;
    }
    match metadata.get(MERGES) {
        Some(Value::Array(Array::String(_))) => {}
        // Its tokens are merged by their ranks alone.
        None if metadata.get_str("tokenizer.ggml.pre") == Some("kimi-k2") => {}
        None => problems.add(
            ProblemKind::MissingKey,
            MERGES,
            format!("key {} is missing, expected an array of strings", Quoted(MERGES)),
        ),
        Some(other) => {
            problems.key(MERGES, format!("is {}, expected an array of strings", described(other)));
        }
    }
}
