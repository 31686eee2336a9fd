//! SentencePiece's BPE written as tokenizer.json, for models without a tokenizer.model.

use gguf_io::metadata::Metadata;

use crate::{Result, error::Quoted};

use super::{
    byte_level::{self, Added, Slot, is_byte},
    scores::Merges,
    sources::Sources,
    special,
    tokenizer_json::{MARK, TokenizerJson},
    tokens::{TokenType, looks_special, write_tokens},
};

/// What the reference converter gives every token, having no place for merges.
pub(super) const SCORE: f32 = -1000.0;

pub(super) fn write(sources: &Sources<'_>, metadata: &mut Metadata) -> Result<()> {
    let Some(tokenizer) = &sources.tokenizer else {
        return Err(sources.none());
    };
    let slots = byte_level::slots(sources, tokenizer)?;
    let (tokens, types, scores) = match sources.options.like_reference {
        true => like_reference(sources, tokenizer, &slots)?,
        false => {
            warn(tokenizer);
            own(tokenizer, &slots)
        }
    };
    let count = tokens.len();
    write_tokens(metadata, "llama", "default", tokens, Some(scores), &types);
    if !sources.options.like_reference {
        let given = sources.setting("add_prefix_space").and_then(serde_json::Value::as_bool);
        // llama.cpp puts a space before the text unless told otherwise.
        if !given.unwrap_or_else(|| tokenizer.adds_space()) {
            metadata.insert("tokenizer.ggml.add_space_prefix", false);
        }
    }
    special::write(sources, Some(count), metadata)
}

pub(super) type Columns = (Vec<String>, Vec<TokenType>, Vec<f32>);

fn own(tokenizer: &TokenizerJson, slots: &[Option<Slot<'_>>]) -> Columns {
    let merges = Merges::new(tokenizer);
    let (mut tokens, mut types) =
        (Vec::with_capacity(slots.len()), Vec::with_capacity(slots.len()));
    for (id, slot) in slots.iter().enumerate() {
        let (token, ty) = match slot {
            None => (format!("[PAD{id}]"), TokenType::Unused),
            Some(Slot { token, .. }) if is_byte(token) => ((*token).to_owned(), TokenType::Byte),
            Some(Slot { token, added: None }) => ((*token).to_owned(), TokenType::Normal),
            Some(Slot { token, added: Some(added) }) => {
                added_token(tokenizer, &merges, token, *added)
            }
        };
        tokens.push(token);
        types.push(ty);
    }
    let normal = tokens.iter().zip(&types).filter(|(_, ty)| **ty == TokenType::Normal);
    let mut unmerged = normal.filter_map(|(token, _)| Some((token, merges.without_merge(token)?)));
    if let Some((token, (left, right))) = unmerged.next() {
        tracing::warn!(
            kind = "merges",
            "tokenizer.json lacks merges that llama.cpp does all the same: {} and {} to {}, and those \
             of {} other tokens; some texts will be split otherwise than by transformers",
            Quoted(left),
            Quoted(right),
            Quoted(token),
            unmerged.count()
        );
    }
    let bytes = types.iter().filter(|ty| **ty == TokenType::Byte).count();
    if bytes < 256 {
        tracing::warn!(
            kind = "byte-tokens",
            "tokenizer.json has {bytes} of the 256 tokens for bytes; llama.cpp stops at a text with a \
             character that no token holds"
        );
    }
    let scores = tokens.iter().map(|token| merges.score(token)).collect();
    (tokens, types, scores)
}

/// How llama.cpp finds a token that is found before the others.
fn added_token(
    tokenizer: &TokenizerJson,
    merges: &Merges<'_>,
    token: &str,
    added: Added,
) -> (String, TokenType) {
    if added.special || looks_special(token) {
        return (token.to_owned(), TokenType::Control);
    }
    if token.contains(MARK) {
        // llama.cpp looks for it in text whose spaces have not been replaced yet ...
        if added.normalized && tokenizer.marks_spaces() {
            return (token.replace(MARK, " "), TokenType::UserDefined);
        }
        // ... and so does transformers otherwise, which finds no mark there: Gemma's runs of spaces
        // come from merges.
        if merges.make(token) {
            return (token.to_owned(), TokenType::Normal);
        }
    }
    (token.to_owned(), TokenType::UserDefined)
}

/// Says what llama.cpp does otherwise and no key can tell it.
fn warn(tokenizer: &TokenizerJson) {
    tokenizer.warn_of_affixes();
    let steps = tokenizer.other_steps();
    if !steps.is_empty() {
        tracing::warn!(
            kind = "tokenizer-steps",
            "tokenizer.json has steps that llama.cpp has no part for with SentencePiece's \
             vocabularies: {}; texts that they change will be split otherwise than by transformers",
            Quoted(&steps.join(", "))
        );
    }
    if tokenizer.model.ignore_merges == Some(true) {
        tracing::warn!(
            kind = "merges",
            "tokenizer.json takes words that are tokens whole (ignore_merges), which llama.cpp does \
             not do with SentencePiece's vocabularies: some texts will be split otherwise"
        );
    }
}

/// The tokens as the reference converter writes them: tokens of the vocabulary are normal unless
/// they have a role, and nothing fills the vocabulary up.
pub(super) fn like_reference(
    sources: &Sources<'_>,
    tokenizer: &TokenizerJson,
    slots: &[Option<Slot<'_>>],
) -> Result<Columns> {
    let mut named = sources.named();
    // The roles Llama's tokenizer gives where no file does.
    let usual = [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];
    named.extend(
        usual.iter().filter(|(role, _)| sources.special(role).is_none()).map(|(_, token)| *token),
    );
    let control = |token: &str| named.contains(&token);
    let base = tokenizer.ids()?.len();
    let last = slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let (mut tokens, mut types) = (Vec::with_capacity(last), Vec::with_capacity(last));
    for (id, slot) in slots.iter().take(last).enumerate() {
        let token = slot.map_or_else(|| format!("[PAD{id}]"), |slot| slot.token.to_owned());
        types.push(match slot {
            None => TokenType::Unused,
            Some(_) if id < base && is_byte(&token) => TokenType::Byte,
            Some(_) if control(&token) => TokenType::Control,
            Some(_) if id < base => TokenType::Normal,
            Some(_) => TokenType::UserDefined,
        });
        tokens.push(token);
    }
    Ok((tokens, types, vec![SCORE; last]))
}
