//! WordPiece, BERT's kind: `tokenizer.json`.

use gguf_io::metadata::Metadata;

use crate::Result;

use super::{Sources, Special, TokenType, byte_level, hash, write_tokens};

/// llama.cpp splits text for all WordPiece tokenizers in one way and does not look at the name.
const UNNAMED: &str = "default";

pub(super) fn write(
    sources: &Sources<'_>,
    name: Option<&str>,
    metadata: &mut Metadata,
) -> Result<()> {
    let Some(tokenizer) = &sources.tokenizer else {
        return Err(sources.none());
    };
    let (tokens, types) = byte_level::tokens(sources, tokenizer)?;
    let known = || hash::known(sources, tokenizer, std::iter::empty());
    let pre = name.or_else(known).unwrap_or(UNNAMED);
    sources.write_segments(metadata)?;
    let tokens: Vec<String> =
        tokens.into_iter().zip(&types).map(|(token, ty)| phantom(token, *ty)).collect();
    let count = tokens.len();
    write_tokens(metadata, "bert", pre, tokens, None, &types);
    Special::read(sources, Some(count))?.write(metadata);
    Ok(())
}

/// A token as llama.cpp looks for it: one at the start of a word has a mark there, instead of one
/// inside a word having `##`.
fn phantom(token: String, ty: TokenType) -> String {
    match (ty, token.strip_prefix("##")) {
        (TokenType::Control, _) => token,
        (_, Some(rest)) => rest.to_owned(),
        (_, None) => format!("▁{token}"),
    }
}
