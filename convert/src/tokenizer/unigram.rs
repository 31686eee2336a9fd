//! SentencePiece's unigram model, T5's kind: `tokenizer.model` or `spiece.model`, else
//! `tokenizer.json`.

use std::path::PathBuf;

use gguf_io::metadata::{Array, Metadata, Value};

use crate::{Error, Result, error::DOWNLOAD};

use super::{
    fairseq,
    sentencepiece::{self, added_tokens, own_pieces, place, place_added},
    sources::Sources,
    special,
    tokens::{TokenType, write_tokens},
};

/// The file; older models have the second.
pub(super) fn path(sources: &Sources<'_>) -> Option<PathBuf> {
    ["tokenizer.model", "spiece.model"]
        .into_iter()
        .map(|name| sources.file(name))
        .find(|path| sources.has_model(path))
}

pub(super) fn write(sources: &Sources<'_>, metadata: &mut Metadata) -> Result<()> {
    let Some(path) = path(sources) else {
        return fairseq::write(sources, metadata);
    };
    let model = sentencepiece::read(&path, sources.vocab_size)?;
    if !model.is_unigram {
        // Pile-T5 and its like.
        return sentencepiece::write(sources, metadata);
    }
    let (size, mut pieces) = (sources.vocab_size, model.pieces);
    if pieces.len() > size {
        return Err(Error::Tokenizer {
            path,
            place: "pieces".into(),
            found: pieces.len().to_string(),
            expected: format!("at most vocab_size, which config.json says is {size}"),
            help: DOWNLOAD,
        });
    }
    sentencepiece::pad(&mut pieces, size);
    own_pieces(sources, &mut pieces);
    if sources.options.like_reference {
        for (id, token) in added_tokens(sources)? {
            place(&mut pieces, id, token, TokenType::UserDefined);
        }
    } else {
        place_added(sources, &mut pieces)?;
    }
    let (mut tokens, mut scores, mut types) = (vec![], vec![], vec![]);
    for (token, score, ty) in pieces {
        tokens.push(token);
        scores.push(score);
        types.push(ty);
    }
    write_tokens(metadata, "t5", "default", tokens, Some(scores), &types);
    metadata.insert("tokenizer.ggml.add_space_prefix", model.add_prefix);
    metadata.insert("tokenizer.ggml.remove_extra_whitespaces", model.remove_whitespace);
    if !model.charsmap.is_empty() {
        let charsmap = Value::Array(Array::Uint8(model.charsmap));
        metadata.insert("tokenizer.ggml.precompiled_charsmap", charsmap);
    }
    special::write(sources, Some(size), metadata)
}
