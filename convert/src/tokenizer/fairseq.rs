//! SentencePiece's unigram model with the ids of fairseq, XLM-RoBERTa's kind:
//! `sentencepiece.bpe.model`, else `tokenizer.json`.

use std::path::PathBuf;

use gguf_io::metadata::{Array, Metadata, Value as Entry};
use serde_json::Value;

use crate::{Error, Result, error::DOWNLOAD};

use super::{
    base64::base64,
    options::Kind,
    sentencepiece,
    sources::{ROLES, Sources, text},
    special,
    tokenizer_json::TokenizerJson,
    tokenizer_json::Vocabulary,
    tokens::{TokenType, write_tokens},
};

/// The file that fairseq's models were published with.
pub(super) fn path(sources: &Sources<'_>) -> Option<PathBuf> {
    let path = sources.file("sentencepiece.bpe.model");
    sources.has_model(&path).then_some(path)
}

/// What both files hold.
struct Found {
    /// Text, score and type by id.
    pieces: Vec<(String, f32, TokenType)>,
    add_prefix: bool,
    remove_whitespace: bool,
    charsmap: Vec<u8>,
}

pub(super) fn write(sources: &Sources<'_>, metadata: &mut Metadata) -> Result<()> {
    let found = match (path(sources), &sources.tokenizer) {
        (Some(path), _) => realigned(sources, path)?,
        (None, Some(tokenizer)) => listed(sources, tokenizer)?,
        (None, None) => return Err(sources.none()),
    };
    let count = found.pieces.len();
    let (mut tokens, mut scores, mut types) = (vec![], vec![], vec![]);
    for (token, score, ty) in found.pieces {
        tokens.push(token);
        scores.push(score);
        types.push(ty);
    }
    write_tokens(metadata, "t5", "default", tokens, Some(scores), &types);
    metadata.insert("tokenizer.ggml.add_space_prefix", found.add_prefix);
    // T5's tokenizer.json is read here too.
    if !sources.options.kinds.contains(&Kind::Unigram) {
        sources.write_segments(metadata)?;
    }
    metadata.insert("tokenizer.ggml.remove_extra_whitespaces", found.remove_whitespace);
    if !found.charsmap.is_empty() {
        let charsmap = Entry::Array(Array::Uint8(found.charsmap));
        metadata.insert("tokenizer.ggml.precompiled_charsmap", charsmap);
    }
    special::write(sources, Some(count), metadata)?;
    if sources.tokenizer.is_none() && !sources.options.like_reference {
        // What the class puts around a text, which no file beside tokenizer.json says.
        for key in ["tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"] {
            if metadata.get(key).is_none() {
                metadata.insert(key, true);
            }
        }
    }
    Ok(())
}

/// The pieces of SentencePiece's file, whose first three (the unknown one, start and end) fairseq
/// replaced by four of its own.
fn realigned(sources: &Sources<'_>, path: PathBuf) -> Result<Found> {
    let model = sentencepiece::read(&path, 0)?;
    let wrong = |place: &str, found: String, expected: &str| Error::Tokenizer {
        path: path.clone(),
        place: place.into(),
        found,
        expected: expected.into(),
        help: DOWNLOAD,
    };
    // CamemBERT's ids are others than those of XLM-RoBERTa, and only tokenizer.json has them.
    if sources.config.get("model_type").and_then(Value::as_str) == Some("camembert") {
        return match &sources.tokenizer {
            Some(tokenizer) => listed(sources, tokenizer),
            None => Err(wrong(
                "pieces",
                "no tokenizer.json beside it".into(),
                "one, which has the ids of CamemBERT (transformers writes it with save_pretrained)",
            )),
        };
    }
    if !model.is_unigram {
        let found = "a model that merges pieces".into();
        return Err(wrong("trainer_spec.model_type", found, "a unigram model"));
    }
    let mut pieces = model.pieces;
    sentencepiece::pad(&mut pieces, sources.vocab_size);
    sentencepiece::own_pieces(sources, &mut pieces);
    if pieces.len() < OWN.len() {
        return Err(wrong("pieces", pieces.len().to_string(), "four or more"));
    }
    pieces.pop();
    pieces.splice(..OWN.len() - 1, OWN.map(|(token, ty)| (token.to_owned(), 0.0, ty)));
    if !sources.options.like_reference {
        // The token for what is to be guessed.
        sentencepiece::place_named(&sources.named(), &mut pieces);
    }
    Ok(Found {
        pieces,
        add_prefix: model.add_prefix,
        remove_whitespace: model.remove_whitespace,
        charsmap: model.charsmap,
    })
}

/// The first tokens of fairseq.
const OWN: [(&str, TokenType); 4] = [
    ("<s>", TokenType::Control),
    ("<pad>", TokenType::Control),
    ("</s>", TokenType::Control),
    ("<unk>", TokenType::Unknown),
];

/// The tokens of tokenizer.json, which has them under their ids.
fn listed(sources: &Sources<'_>, tokenizer: &TokenizerJson) -> Result<Found> {
    let Vocabulary::Scored(vocabulary) = &tokenizer.model.vocab else {
        let found = "an object of tokens and ids".into();
        return Err(tokenizer.wrong("model.vocab", found, "a list of tokens with scores"));
    };
    let added = |content: &str| tokenizer.added_tokens.iter().find(|one| one.content == content);
    let unknown = sources.setting("unk_token").and_then(text).and_then(added);
    let unknown = unknown.map_or(tokenizer.model.unk_id.unwrap_or(3), |token| token.id.into());
    let named = |id: u32| {
        ROLES
            .iter()
            .filter_map(|key| sources.special(key).and_then(text))
            .any(|name| added(name).is_some_and(|token| token.id == id))
    };
    let mut types = vec![TokenType::Normal; vocabulary.len()];
    for token in &tokenizer.added_tokens {
        if let Some(ty) = types.get_mut(token.id as usize) {
            let control = token.special || named(token.id);
            *ty = if control { TokenType::Control } else { TokenType::UserDefined };
        }
    }
    if let Some(ty) = usize::try_from(unknown).ok().and_then(|id| types.get_mut(id)) {
        *ty = TokenType::Unknown;
    }
    let mut pieces = Vec::with_capacity(vocabulary.len().max(sources.vocab_size));
    for ((token, score), ty) in vocabulary.iter().zip(types) {
        let score = *score as f32;
        if !score.is_finite() {
            let found = format!("{score} for id {}", pieces.len());
            return Err(tokenizer.wrong("model.vocab", found, "a score of 32 bits"));
        }
        pieces.push((token.clone(), score, ty));
    }
    sentencepiece::pad(&mut pieces, sources.vocab_size);
    let charsmap = match tokenizer.normalizer.as_ref().and_then(charsmap) {
        None => Vec::new(),
        Some(text) => base64(text).ok_or_else(|| {
            let place = "normalizer.precompiled_charsmap";
            tokenizer.wrong(place, "other characters".into(), "bytes in base64")
        })?,
    };
    let (add_prefix, remove_whitespace) = match sources.options.like_reference {
        true => as_set(sources),
        false => (tokenizer.adds_space(), tokenizer.joins_spaces()),
    };
    Ok(Found { pieces, add_prefix, remove_whitespace, charsmap })
}

/// What is done to spaces as the reference converter tells it: by settings that no step heeds.
fn as_set(sources: &Sources<'_>) -> (bool, bool) {
    let flag = |key: &str| sources.setting(key).and_then(Value::as_bool);
    // What its class assumes.
    let class = sources.setting("tokenizer_class").and_then(Value::as_str);
    let usual = class.is_none_or(|class| class.starts_with("XLMRoberta"));
    (
        flag("add_prefix_space").unwrap_or(usual),
        flag("clean_up_tokenization_spaces").unwrap_or(false),
    )
}

/// Replacements of characters, compiled: of a normalizer or of the first part that has them.
fn charsmap(normalizer: &Value) -> Option<&str> {
    let parts = normalizer.get("normalizers").and_then(Value::as_array).into_iter().flatten();
    let mut all = std::iter::once(normalizer).chain(parts);
    all.find_map(|part| part.get("precompiled_charsmap"))?.as_str()
}
