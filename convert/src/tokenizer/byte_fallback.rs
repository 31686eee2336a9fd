//! SentencePiece's BPE written as tokenizer.json, for models without a tokenizer.model.

use std::collections::HashSet;

use gguf_io::metadata::Metadata;
use serde_json::Value;

use crate::{Result, error::Quoted};

use super::{Sources, Special, TokenType, write_tokens};

/// tokenizer.json does not keep the scores; merges, which it keeps, GGUF has no place for here.
const SCORE: f32 = -1000.0;

pub(super) fn write(sources: &Sources<'_>, metadata: &mut Metadata) -> Result<()> {
    let Some(tokenizer) = &sources.tokenizer else {
        return Err(sources.none());
    };
    let vocabulary = tokenizer.ids()?;
    let specials = specials(sources);
    let mut tokens = vec![None; vocabulary.len()];
    for (token, id) in vocabulary {
        match tokens.get_mut(*id as usize) {
            Some(place @ None) => *place = Some(token.clone()),
            Some(Some(other)) => {
                let found = format!("id {id} for {} and {}", Quoted(other), Quoted(token));
                return Err(tokenizer.wrong("model.vocab", found, "an id for each token"));
            }
            None => {
                let found = format!("id {id} for {}", Quoted(token));
                let expected = format!("ids below {}, the number of tokens", vocabulary.len());
                return Err(tokenizer.wrong("model.vocab", found, expected));
            }
        }
    }
    // Each id below the length is taken once, so none is left.
    let mut tokens: Vec<String> = tokens.into_iter().flatten().collect();
    let mut types: Vec<TokenType> = tokens.iter().map(|token| kind(token, &specials)).collect();
    let mut added: Vec<_> = tokenizer
        .added_tokens
        .iter()
        .filter(|token| token.id as usize >= vocabulary.len())
        .collect();
    added.sort_by_key(|token| token.id);
    for token in added {
        if token.id as usize != tokens.len() {
            let found = format!("id {} for {}", token.id, Quoted(&token.content));
            return Err(tokenizer.wrong("added_tokens", found, format!("id {}", tokens.len())));
        }
        let special = specials.contains(token.content.as_str());
        types.push(if special { TokenType::Control } else { TokenType::UserDefined });
        tokens.push(token.content.clone());
    }
    if tokens.len() > sources.vocab_size {
        let found = format!("{} tokens", tokens.len());
        return Err(tokenizer.wrong(
            "tokens",
            found,
            format!("at most vocab_size, {}", sources.vocab_size),
        ));
    }
    let count = tokens.len();
    write_tokens(metadata, "llama", "default", tokens, Some(vec![SCORE; count]), &types);
    Special::read(sources, Some(count))?.write(metadata);
    Ok(())
}

fn kind(token: &str, specials: &HashSet<&str>) -> TokenType {
    let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match byte {
        Some(hex) if hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            TokenType::Byte
        }
        _ if specials.contains(token) => TokenType::Control,
        _ => TokenType::Normal,
    }
}

/// The tokens that have a role, with the roles Llama's tokenizer gives where no file does.
fn specials<'s>(sources: &'s Sources<'_>) -> HashSet<&'s str> {
    const DEFAULTS: [(&str, Option<&str>); 7] = [
        ("bos_token", Some("<s>")),
        ("eos_token", Some("</s>")),
        ("unk_token", Some("<unk>")),
        ("sep_token", None),
        ("pad_token", None),
        ("cls_token", None),
        ("mask_token", None),
    ];
    let mut specials = HashSet::new();
    for (key, default) in DEFAULTS {
        specials.extend(sources.special(key).and_then(text).or(default));
    }
    let more = sources.special("additional_special_tokens").and_then(Value::as_array);
    specials.extend(more.into_iter().flatten().filter_map(text));
    specials
}

/// A token, given as text or as an object.
pub(super) fn text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}
