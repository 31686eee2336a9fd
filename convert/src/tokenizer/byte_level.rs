//! Byte-level BPE, GPT-2's kind: `tokenizer.json`, else `vocab.json` and `merges.txt`.

use std::collections::{HashMap, HashSet};

use gguf_io::{GgufString, metadata::Metadata};
use serde_json::Value;

use crate::{
    Error, Result,
    error::{DOWNLOAD, Quoted},
    json,
};

use super::{
    hash, pre,
    sentencepiece::decoder_tokens,
    sources::{Sources, text},
    special,
    tokenizer_json::TokenizerJson,
    tokens::{TokenType, looks_special, write_tokens},
};

pub(super) fn write(
    sources: &Sources<'_>,
    name: Option<&str>,
    metadata: &mut Metadata,
) -> Result<()> {
    let Some(tokenizer) = &sources.tokenizer else {
        return Err(sources.none());
    };
    if !sources.options.like_reference {
        tokenizer.warn_of_affixes();
    }
    let merges = merges(sources, tokenizer)?;
    let pre = match name {
        Some(name) => name,
        None => match hash::known(sources, tokenizer, merges.iter().filter_map(GgufString::as_str))
        {
            Some(known) => known,
            None => recognise(sources, tokenizer)?,
        },
    };
    let (tokens, types) = tokens(sources, tokenizer)?;
    write_tokens(metadata, "gpt2", pre, tokens, None, &types);
    metadata.insert("tokenizer.ggml.merges", merges);
    special::write(sources, None, metadata)
}

/// All tokens below vocab_size and their types.
pub(super) fn tokens(
    sources: &Sources<'_>,
    tokenizer: &TokenizerJson,
) -> Result<(Vec<String>, Vec<TokenType>)> {
    let slots = slots(sources, tokenizer)?;
    let byte_level = tokenizer.decodes_bytes();
    let mut tokens = Vec::with_capacity(slots.len());
    let mut types = Vec::with_capacity(slots.len());
    for (id, slot) in slots.into_iter().enumerate() {
        let (token, ty) = match slot {
            None => (format!("[PAD{id}]"), TokenType::Unused),
            Some(Slot { token, added: None }) => (token.to_owned(), TokenType::Normal),
            Some(Slot { token, added: Some(added) }) => {
                // llama.cpp looks for these as they are in text, not as they come out of the
                // normalizer.
                let token = match byte_level && !added.normalized {
                    true => decoded(token),
                    false => token.to_owned(),
                };
                if added.special || looks_special(&token) {
                    (token, TokenType::Control)
                } else {
                    (token.replace('▁', " "), TokenType::UserDefined)
                }
            }
        };
        tokens.push(token);
        types.push(ty);
    }
    Ok((tokens, types))
}

/// The name for the structure of a tokenizer that has none of its own.
fn recognise(sources: &Sources<'_>, tokenizer: &TokenizerJson) -> Result<&'static str> {
    let clean = sources.setting("clean_up_tokenization_spaces").and_then(Value::as_bool);
    pre::recognise(tokenizer, clean)
}

/// What an id stands for.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    pub(super) token: &'a str,
    pub(super) added: Option<Added>,
}

/// A token that is found in the text before the model sees it.
#[derive(Clone, Copy)]
pub(super) struct Added {
    /// Whether it is left out where text is shown.
    pub(super) special: bool,
    /// Whether it is looked for in the normalized text.
    pub(super) normalized: bool,
}

/// All ids below vocab_size.
pub(super) fn slots<'a>(
    sources: &'a Sources<'_>,
    tokenizer: &'a TokenizerJson,
) -> Result<Vec<Option<Slot<'a>>>> {
    let size = sources.vocab_size;
    let vocabulary = tokenizer.ids()?;
    let mut slots: Vec<Option<Slot<'a>>> = vec![None; size];
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(vocabulary.len());
    let beyond = |token: &str, id: u32| {
        let found = format!("id {id} for {}", Quoted(token));
        let expected = format!("ids below vocab_size, which config.json says is {size}");
        tokenizer.wrong("vocabulary", found, expected)
    };
    for (token, id) in vocabulary {
        match slots.get_mut(*id as usize) {
            Some(slot @ None) => *slot = Some(Slot { token, added: None }),
            // transformers gives the tab of Gemma's vocabulary the id of its byte.
            Some(Some(other)) if is_byte(other.token) => {}
            Some(Some(other)) if is_byte(token) => other.token = token,
            Some(Some(other)) => {
                let found = format!("id {id} for {} and {}", Quoted(other.token), Quoted(token));
                return Err(tokenizer.wrong("model.vocab", found, "an id for each token"));
            }
            None => return Err(beyond(token, *id)),
        }
        if ids.insert(token, *id).is_some() {
            let found = format!("{} twice", Quoted(token));
            return Err(tokenizer.wrong("model.vocab", found, "each token once"));
        }
    }
    for token in &tokenizer.added_tokens {
        // A token of the vocabulary keeps the id it has there.
        let id = ids.get(token.content.as_str()).copied().unwrap_or(token.id);
        let added = Some(Added { special: token.special, normalized: token.normalized });
        match slots.get_mut(id as usize) {
            Some(slot) => {
                let other =
                    slot.filter(|other| other.added.is_some() && other.token != token.content);
                if let Some(other) = other {
                    let found = format!(
                        "id {id} for {} and {}",
                        Quoted(other.token),
                        Quoted(&token.content)
                    );
                    return Err(tokenizer.wrong("added_tokens", found, "an id for each token"));
                }
                if slot.is_none_or(|slot| slot.added.is_none()) {
                    *slot = Some(Slot { token: &token.content, added });
                }
            }
            None => return Err(beyond(&token.content, id)),
        }
        ids.insert(&token.content, id);
    }
    add_named(sources, &mut slots, &mut ids)?;
    Ok(slots)
}

/// Tokens that only tokenizer_config.json and special_tokens_map.json name: transformers adds them
/// to the tokenizer when it loads it.
fn add_named<'a>(
    sources: &'a Sources<'_>,
    slots: &mut [Option<Slot<'a>>],
    ids: &mut HashMap<&'a str, u32>,
) -> Result<()> {
    let mut named: Vec<(&str, Option<u64>, bool)> = Vec::new();
    let decoder = sources.setting("added_tokens_decoder").and_then(Value::as_object);
    for (id, content, special) in decoder_tokens(sources)? {
        let token = decoder.and_then(|tokens| tokens.get(&id.to_string())).and_then(text);
        named.extend(
            token.filter(|token| *token == content).map(|token| (token, Some(id), special)),
        );
    }
    named.extend(sources.named().into_iter().map(|token| (token, None, true)));
    for (token, id, special) in named {
        let next = || slots.iter().rposition(Option::is_some).map_or(0, |last| last as u64 + 1);
        let id = match ids.get(token) {
            Some(id) => u64::from(*id),
            None => id.unwrap_or_else(next),
        };
        let added = Some(Added { special, normalized: false });
        match usize::try_from(id).ok().and_then(|id| slots.get_mut(id)) {
            // The reference converter goes by tokenizer.json alone where that has the token, though
            // transformers leaves out a token with a role where it shows text.
            Some(Some(Slot { token: same, added: Some(added) })) if *same == token => {
                added.special |= special && !sources.options.like_reference;
            }
            Some(slot) if slot.is_none_or(|slot| slot.token == token && slot.added.is_none()) => {
                *slot = Some(Slot { token, added });
                ids.insert(token, u32::try_from(id).unwrap_or(u32::MAX));
            }
            Some(_) => {}
            None => tracing::warn!(
                kind = "special-token",
                "the special token {} has no place below vocab_size, {}, and is left out",
                Quoted(token),
                slots.len()
            ),
        }
    }
    Ok(())
}

/// Whether a token stands for a byte, as SentencePiece names those: `<0x0A>`.
pub(super) fn is_byte(token: &str) -> bool {
    let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A token as its text: byte-level BPE stands every byte for a printable character, and turns a
/// token back into bytes if all of its characters are such.
fn decoded(token: &str) -> String {
    let bytes: Option<Vec<u8>> = token.chars().map(byte).collect();
    bytes.map_or_else(|| token.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The byte that a character stands for: itself where Latin-1 has something to print there, the
/// others in order from U+0100 on.
fn byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The character that stands for a byte.
pub(super) fn character(of: u8) -> char {
    let code = match of {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => of.into(),
        0x00..=0x20 => 0x100 + u32::from(of),
        0x7f..=0xa0 => 0x121 + u32::from(of) - 0x7f,
        0xad => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The merges of tokenizer.json, else of merges.txt.
pub(super) fn merges(sources: &Sources<'_>, tokenizer: &TokenizerJson) -> Result<Vec<GgufString>> {
    let merges = tokenizer.model.merges.as_deref().unwrap_or_default();
    if !merges.is_empty() {
        return Ok(merges.iter().map(|merge| merge.0.as_str().into()).collect());
    }
    let path = sources.file("merges.txt");
    if !path.is_file() {
        return Err(tokenizer.wrong(
            "model.merges",
            "no merges".into(),
            "a list of merges, here or in merges.txt",
        ));
    }
    let mut merges = Vec::new();
    let text = json::read_lines(&path)?;
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        if i == 0 && line.starts_with('#') {
            continue;
        }
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [a, b] => merges.push(format!("{a} {b}").into()),
            _ => {
                return Err(Error::Tokenizer {
                    path,
                    place: format!("line {}", i + 1),
                    found: Quoted(line).to_string(),
                    expected: "two tokens".into(),
                    help: DOWNLOAD,
                });
            }
        }
    }
    warn_of_cut(&merges, tokenizer);
    Ok(merges)
}

/// Tokens that no merge makes and that say nothing: RoBERTa's vocabulary has three fillers.
const UNMADE: usize = 8;

/// Warns if merges.txt does not fit the vocabulary: a list that is cut short is a list all the same,
/// and splits every text into more tokens than the model has learned.
fn warn_of_cut(merges: &[GgufString], tokenizer: &TokenizerJson) {
    let Ok(vocabulary) = tokenizer.ids() else { return };
    let known: HashSet<&str> = vocabulary.iter().map(|(token, _)| token.as_str()).collect();
    let made: HashSet<String> =
        merges.iter().filter_map(GgufString::as_str).map(|merge| merge.replace(' ', "")).collect();
    let added: HashSet<&str> =
        tokenizer.added_tokens.iter().map(|token| token.content.as_str()).collect();
    let is_merged = |token: &str| {
        token.chars().nth(1).is_some()
            && !is_byte(token)
            && !looks_special(token)
            && !added.contains(token)
    };
    let unmade = vocabulary.iter().map(|(token, _)| token.as_str());
    let unmade: Vec<_> =
        unmade.filter(|token| is_merged(token) && !made.contains(*token)).collect();
    let unknown = made.iter().filter(|token| !known.contains(token.as_str())).min();
    if let Some(first) = unmade.first().filter(|_| unmade.len() > UNMADE) {
        tracing::warn!(
            kind = "merges",
            "merges.txt: its {} merges do not make {} tokens of the vocabulary, such as {}; download \
             the file again if it is cut short",
            merges.len(),
            unmade.len(),
            Quoted(first)
        );
    } else if let Some(token) = unknown {
        tracing::warn!(
            kind = "merges",
            "merges.txt: a merge makes {}, which is no token of the vocabulary; download the file \
             again if it is cut short",
            Quoted(token)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let mut bytes: Vec<u8> = (0..=0x143).filter_map(char::from_u32).filter_map(byte).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte('Ġ'), Some(b' '));
        assert!((0..=255).all(|of| byte(character(of)) == Some(of)));
        assert_eq!(byte('Ċ'), Some(b'\n'));
        assert_eq!(byte(' '), None);
    }

    #[test]
    fn added_tokens_are_decoded() {
        assert_eq!(decoded("<|im_end|>"), "<|im_end|>");
        assert_eq!(decoded("Ġfoo"), " foo");
        assert_eq!(decoded("a b"), "a b");
        assert_eq!(decoded("<｜User｜>"), "<｜User｜>");
    }
}
