//! Gemma 4's kind: SentencePiece's tokens, split by the ranked merges of tokenizer.json.

use gguf_io::metadata::Metadata;

use crate::Result;

use super::{
    byte_fallback, byte_level,
    sources::Sources,
    special,
    tokens::{TokenType, write_merged},
};

/// Tokens that chats are told apart by: engines show them.
const VISIBLE: [&str; 7] = [
    "<|channel>",
    "<channel|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|\"|>",
];

pub(super) fn write(sources: &Sources<'_>, metadata: &mut Metadata) -> Result<()> {
    let Some(tokenizer) = &sources.tokenizer else {
        return Err(sources.none());
    };
    let slots = byte_level::slots(sources, tokenizer)?;
    let (mut tokens, mut types, mut scores) =
        byte_fallback::like_reference(sources, tokenizer, &slots)?;
    for (token, ty) in tokens.iter().zip(&mut types) {
        if VISIBLE.contains(&token.as_str()) {
            *ty = TokenType::UserDefined;
        }
    }
    // The reference cuts the embeddings of tokens that there are none of instead.
    if !sources.options.like_reference {
        for id in tokens.len()..slots.len() {
            tokens.push(format!("[PAD{id}]"));
            types.push(TokenType::Unused);
            scores.push(byte_fallback::SCORE);
        }
    }
    let count = tokens.len();
    write_merged(metadata, "gemma4", tokens, scores, &types);
    metadata.insert("tokenizer.ggml.merges", byte_level::merges(sources, tokenizer)?);
    special::write(sources, Some(count), metadata)?;
    metadata.insert("tokenizer.ggml.add_space_prefix", false);
    metadata.insert("tokenizer.ggml.add_bos_token", true);
    Ok(())
}
