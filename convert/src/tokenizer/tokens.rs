//! Tokens as GGUF lists them.

use gguf_io::metadata::Metadata;

/// Token types of GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// Whether a token that its file does not call special is one all the same: some models mark
/// theirs wrongly (DeepSeek Coder, Command R, Gemma).
pub(super) fn looks_special(token: &str) -> bool {
    let between = |start, end| token.starts_with(start) && token.ends_with(end);
    matches!(token, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}

/// Tokens, scores and types as they are written.
pub(super) fn write_tokens(
    metadata: &mut Metadata,
    model: &str,
    pre: &str,
    tokens: Vec<String>,
    scores: Option<Vec<f32>>,
    types: &[TokenType],
) {
    metadata.insert("tokenizer.ggml.model", model);
    metadata.insert("tokenizer.ggml.pre", pre);
    write_columns(metadata, tokens, scores, types);
}

/// As [`write_tokens`], of a kind that has no pre-tokenizer.
pub(super) fn write_merged(
    metadata: &mut Metadata,
    model: &str,
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: &[TokenType],
) {
    metadata.insert("tokenizer.ggml.model", model);
    write_columns(metadata, tokens, Some(scores), types);
}

fn write_columns(
    metadata: &mut Metadata,
    tokens: Vec<String>,
    scores: Option<Vec<f32>>,
    types: &[TokenType],
) {
    let tokens: Vec<gguf_io::GgufString> = tokens.into_iter().map(Into::into).collect();
    metadata.insert("tokenizer.ggml.tokens", tokens);
    if let Some(scores) = scores {
        metadata.insert("tokenizer.ggml.scores", scores);
    }
    let types: Vec<i32> = types.iter().map(|&ty| ty as i32).collect();
    metadata.insert("tokenizer.ggml.token_type", types);
}
