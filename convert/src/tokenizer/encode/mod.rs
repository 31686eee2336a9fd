//! The ids of a text as Hugging Face's `tokenizers` library gives them, without special tokens: for BPE and
//! WordPiece and the steps before them that published tokenizers of these kinds have.
//!
//! A text passes through four steps: added tokens are taken out of it, what is left is normalized, it is split
//! into words, and the model makes tokens of each word. What a file says is not trusted: anything that is
//! unknown, wrong or would make a text too long gives no ids.

mod added;
mod bpe;
mod normalizer;
mod pattern;
mod pre_tokenizer;
mod word_piece;

use ahash::AHashMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::{
    added::Added, bpe::Bpe, normalizer::Normalizer, pre_tokenizer::PreTokenizer,
    word_piece::WordPiece,
};
use super::tokenizer_json::{TokenizerJson, Vocabulary};

/// A part of a text: one that is still to be encoded, or an added token.
enum Piece {
    Text(String),
    Token(u32),
}

/// The ids of tokens.
type Ids<'m> = AHashMap<&'m str, u32>;

/// What makes tokens of words.
trait Model {
    /// Appends the ids of a word; `None` if the token for unknown words is missing.
    fn encode(&self, word: &str, ids: &mut Vec<u32>) -> Option<()>;
}

/// The ids of a text, without those added around it; `merges` are those of a BPE model.
pub(super) fn ids<'m>(
    tokenizer: &TokenizerJson,
    merges: impl Iterator<Item = &'m str>,
    text: &str,
) -> Option<Vec<u32>> {
    let normalizer: Option<Normalizer> = read(tokenizer.normalizer.as_ref())?;
    let pre: Option<PreTokenizer> = read(tokenizer.pre_tokenizer.as_ref())?;
    let growths =
        [normalizer.as_ref().map(Normalizer::growth), pre.as_ref().map(PreTokenizer::growth)];
    if product(growths.into_iter().flatten()) > MOST_GROWTH {
        return None;
    }
    let Vocabulary::Ids(vocabulary) = &tokenizer.model.vocab else { return None };
    let ids: Ids<'_> = vocabulary.iter().map(|(token, id)| (token.as_str(), *id)).collect();
    if ids.len() != vocabulary.len() && !tokenizer.is_word_piece() {
        return None;
    }
    let model: Box<dyn Model + '_> = if tokenizer.is_word_piece() {
        Box::new(WordPiece::new(&tokenizer.model, &ids))
    } else {
        Box::new(Bpe::new(&tokenizer.model, &ids, merges)?)
    };
    let added = Added::new(&tokenizer.added_tokens, &ids, normalizer.as_ref())?;
    let mut pieces = added.pieces(text, normalizer.as_ref())?;
    if let Some(pre) = pre {
        pieces = pre.split(pieces)?;
    }
    let mut ids = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Token(id) => ids.push(id),
            Piece::Text(word) => model.encode(&word, &mut ids)?,
        }
    }
    Some(ids)
}

/// A step that a file may do without; the outer `None` is for one that cannot be read.
fn read<T: DeserializeOwned>(step: Option<&Value>) -> Option<Option<T>> {
    match step.filter(|step| !step.is_null()) {
        Some(step) if is_named(step, DEEPEST) => {
            serde_json::from_value(step.clone()).ok().map(Some)
        }
        Some(_) => None,
        None => Some(None),
    }
}

/// Sequences inside sequences.
const DEEPEST: usize = 8;

/// Whether a step has a name, as all steps inside it, and those are not too deep. Serde would take a number for the
/// name.
fn is_named(step: &Value, depth: usize) -> bool {
    let lists = ["normalizers", "pretokenizers"].into_iter().filter_map(|key| step.get(key));
    let mut inner = lists.filter_map(Value::as_array).flatten();
    step.get("type").is_some_and(Value::is_string)
        && depth > 0
        && inner.all(|step| is_named(step, depth - 1))
}

/// How much longer a text may become: real tokenizers stay far below, and a chain of a few replacements could
/// make it longer than any memory.
const MOST_GROWTH: usize = 1000;

/// How many times as long a text becomes by steps one after the other.
fn product(growths: impl Iterator<Item = usize>) -> usize {
    growths.fold(1, usize::saturating_mul)
}

/// The text with a character for each byte.
fn in_bytes(text: &str) -> String {
    text.bytes().map(super::byte_level::character).collect()
}

/// A setting that is there and not empty.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
