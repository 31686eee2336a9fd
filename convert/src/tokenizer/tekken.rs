//! Tekken, Mistral's tokenizer: `tekken.json` holds the bytes of each token in the order of their ranks.
//!
//! It is byte-level BPE. Merges are in no file: they are all pairs of tokens that make a further one.

use std::{collections::HashMap, path::Path};

use gguf_io::{GgufString, metadata::Metadata};
use serde::Deserialize;

use crate::{Error, Result, json};

use super::{base64::base64, byte_level, sources::Sources, template};

pub(super) const FILE: &str = "tekken.json";

/// Bytes of a file beyond any.
const LONGEST_FILE: u64 = 64 << 20;

/// Tokens beyond any vocabulary.
const MOST: usize = 1 << 22;

/// Bytes of a token beyond any.
const LONGEST: usize = 4096;

const CONTROL: i32 = 3;
const NORMAL: i32 = 1;

/// The special tokens of files that do not list them.
const SPECIAL: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

#[derive(Deserialize)]
struct Tekken {
    config: Settings,
    vocab: Vec<Token>,
    special_tokens: Option<Vec<Special>>,
}

#[derive(Deserialize)]
struct Settings {
    default_vocab_size: usize,
    default_num_special_tokens: usize,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    rank: usize,
    token_bytes: String,
}

#[derive(Deserialize)]
struct Special {
    rank: usize,
    token_str: String,
}

/// Writes the keys of the vocabulary.
pub(super) fn write(sources: &Sources<'_>, metadata: &mut Metadata) -> Result<()> {
    let path = sources.file(FILE);
    let tekken: Tekken = json::parse(&path, &json::read_bytes(&path, LONGEST_FILE)?)?;
    let wrong = |place: &str, found: String, expected: &str| damaged(&path, place, found, expected);
    let Settings { default_vocab_size: size, default_num_special_tokens: first, .. } =
        tekken.config;
    let count =
        size.checked_sub(first).filter(|count| size <= MOST && *count <= tekken.vocab.len());
    let Some(count) = count else {
        let found = format!("{size} tokens, {first} of them special");
        let expected = format!("special tokens and at most {} others", tekken.vocab.len());
        return Err(wrong("config.default_vocab_size", found, &expected));
    };
    let special = special(&path, &tekken, first)?;
    let mut ranks = HashMap::with_capacity(count);
    let mut tokens = Vec::with_capacity(count);
    for (rank, token) in tekken.vocab.iter().take(count).enumerate() {
        let place = || format!("vocab[{rank}]");
        let bytes = base64(&token.token_bytes)
            .filter(|bytes| token.rank == rank && (1..=LONGEST).contains(&bytes.len()));
        let Some(bytes) = bytes else {
            let found = format!("rank {}, {} characters", token.rank, token.token_bytes.len());
            let expected = format!("rank {rank} and the bytes of a token in base 64");
            return Err(wrong(&place(), found, &expected));
        };
        if ranks.insert(bytes.clone(), rank).is_some() {
            return Err(wrong(&place(), "bytes of another token".into(), "bytes of its own"));
        }
        tokens.push(bytes);
    }
    metadata.insert("tokenizer.ggml.model", "gpt2");
    metadata.insert("tokenizer.ggml.pre", sources.options.pre_tokenizer.unwrap_or("tekken"));
    metadata.insert("tokenizer.ggml.merges", merges(&tokens, &ranks));
    let id = |token: &str| special.iter().position(|other| other == token);
    let end = id("</s>");
    for (key, id) in [
        ("bos", id("<s>")),
        ("eos", end),
        ("unknown", id("<unk>")),
        ("padding", id("<pad>").or(end)),
    ] {
        if let Some(id) = id.and_then(|id| u32::try_from(id).ok()) {
            metadata.insert(format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    let types: Vec<i32> = std::iter::repeat_n(CONTROL, special.len())
        .chain(std::iter::repeat_n(NORMAL, tokens.len()))
        .collect();
    let texts = tokens.iter().map(|bytes| GgufString::from(shown(bytes).as_str()));
    let texts = special.iter().map(|token| GgufString::from(token.as_str())).chain(texts);
    metadata.insert("tokenizer.ggml.tokens", texts.collect::<Vec<_>>());
    // No program reads them. The format has floats there, llama.cpp's converter writes integers.
    match sources.options.like_reference {
        true => metadata.insert("tokenizer.ggml.scores", vec![0i32; types.len()]),
        false => metadata.insert("tokenizer.ggml.scores", vec![0f32; types.len()]),
    };
    metadata.insert("tokenizer.ggml.token_type", types);
    if let Some(architecture) = metadata.get_str("general.architecture").map(str::to_owned) {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        metadata.insert(format!("{architecture}.vocab_size"), size);
    }
    metadata.insert("tokenizer.ggml.add_bos_token", true);
    metadata.insert("tokenizer.ggml.add_eos_token", false);
    write_template(sources, tekken.config.version.as_deref(), metadata)
}

/// The special tokens, as many as the vocabulary has places for.
fn special(path: &Path, tekken: &Tekken, count: usize) -> Result<Vec<String>> {
    let mut tokens: Vec<String> = match &tekken.special_tokens {
        Some(listed) => {
            let misplaced = listed.iter().enumerate().find(|(i, token)| token.rank != *i);
            if let Some((i, token)) = misplaced {
                let place = format!("special_tokens[{i}]");
                let found = format!("rank {}", token.rank);
                return Err(damaged(path, &place, found, &format!("rank {i}")));
            }
            listed.iter().map(|token| token.token_str.clone()).collect()
        }
        None => SPECIAL.map(str::to_owned).to_vec(),
    };
    if tokens.len() > count {
        let found = format!("{} tokens", tokens.len());
        return Err(damaged(path, "special_tokens", found, &format!("at most {count}")));
    }
    tokens.extend((tokens.len()..count).map(|i| format!("<SPECIAL_{i}>")));
    Ok(tokens)
}

/// All pairs that make a token, those of a token by the ranks of their parts.
fn merges(tokens: &[Vec<u8>], ranks: &HashMap<Vec<u8>, usize>) -> Vec<GgufString> {
    let mut merges = Vec::new();
    for token in tokens.iter().skip(256) {
        let mut pairs: Vec<_> = (1..token.len())
            .filter_map(|at| {
                let (left, right) = token.split_at(at);
                Some(((ranks.get(left)?, ranks.get(right)?), (left, right)))
            })
            .collect();
        pairs.sort_unstable_by_key(|(ranks, _)| *ranks);
        let texts = pairs.into_iter().map(|(_, (left, right))| {
            GgufString::from(format!("{} {}", shown(left), shown(right)).as_str())
        });
        merges.extend(texts);
    }
    merges
}

/// Bytes as byte-level BPE shows them.
fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| byte_level::character(*byte)).collect()
}

/// The template of the checkpoint, else the name of one that llama.cpp has.
fn write_template(
    sources: &Sources<'_>,
    version: Option<&str>,
    metadata: &mut Metadata,
) -> Result<()> {
    let file = sources.file("chat_template.jinja");
    if file.is_file() {
        metadata.insert(
            "tokenizer.chat_template",
            template::read(&file)?.trim_start_matches('\u{feff}'),
        );
        return Ok(());
    }
    match version {
        Some("v3") => _ = metadata.insert("tokenizer.chat_template", "mistral-v3-tekken"),
        Some("v7") => _ = metadata.insert("tokenizer.chat_template", "mistral-v7-tekken"),
        _ => tracing::warn!(
            kind = "chat-template",
            "tekken.json: there is no chat_template.jinja beside it, and llama.cpp has no template of \
             its own for this version of the tokenizer: put the model's chat_template.jinja into the \
             folder, or name one where the model is run"
        ),
    }
    Ok(())
}

fn damaged(path: &Path, place: &str, found: String, expected: &str) -> Error {
    Error::Tokenizer {
        path: path.to_path_buf(),
        place: place.into(),
        found,
        expected: expected.into(),
        help: "download the file again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_make_a_token_are_merges() {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        tokens.extend([&b"ab"[..], b"bc", b"abc", b" ab"].map(<[u8]>::to_vec));
        let ranks = tokens.iter().cloned().zip(0..).collect();
        let merges = merges(&tokens, &ranks);
        let merges: Vec<_> = merges.iter().filter_map(GgufString::as_str).collect();
        assert_eq!(merges, ["a b", "b c", "a bc", "ab c", "Ġ ab"]);
    }
}
