//! Unigram models, as SentencePiece finds their best segmentation; T5 and XLM-RoBERTa have them.

use gguf_io::metadata::{Array, Metadata, Value};

use super::{
    prefixes::Prefixes,
    tokens::{Attributes, Tokens, wrong},
    unicode::length_by_first_byte,
};
use crate::Problem;

const CHARACTERS: &str = "tokenizer.ggml.precompiled_charsmap";

/// What an unknown character costs more than the worst token.
const UNKNOWN_PENALTY: f32 = 10.0;

/// The mark of a space.
const SPACE: &str = "\u{2581}";

#[derive(Debug)]
pub(super) struct Unigram {
    matcher: Prefixes,
    /// Tokens that no normalization touches.
    user_defined: Prefixes,
    unknown_score: f32,
    replacements: Replacements,
}

/// The best way to a position.
#[derive(Clone, Copy)]
struct Best {
    token: Option<u32>,
    from: usize,
    score: f64,
}

impl Unigram {
    pub(super) fn new(metadata: &Metadata, tokens: &Tokens) -> Result<Self, Problem> {
        let is = |id, attributes| tokens.is(id, attributes);
        let matched = Attributes::NORMAL.or(Attributes::USER_DEFINED).or(Attributes::UNUSED);
        let entries = |attributes| {
            let chosen = tokens.iter().filter(move |&(id, _)| is(id, attributes));
            Prefixes::new(chosen.map(|(id, text)| (text.into(), id)))
        };
        let worst = tokens
            .iter()
            .filter(|&(id, _)| is(id, Attributes::NORMAL))
            .fold(f32::MAX, |worst, (id, _)| worst.min(tokens.score(id)));
        Ok(Self {
            matcher: entries(matched),
            user_defined: entries(Attributes::USER_DEFINED),
            unknown_score: worst - UNKNOWN_PENALTY,
            replacements: Replacements::read(metadata)?,
        })
    }

    /// Appends the tokens of a text. `space_first` puts a space before its first word, `merge_spaces`
    /// makes one of several.
    pub(super) fn encode(
        &self,
        tokens: &Tokens,
        text: &[u8],
        unknown: Option<u32>,
        (space_first, merge_spaces): (bool, bool),
        output: &mut Vec<u32>,
    ) {
        let text = self.normalize(text, space_first, merge_spaces);
        let mut best = vec![Best { token: unknown, from: 0, score: -f64::MAX }; text.len() + 1];
        best[0].score = 0.0;
        let mut position = 0;
        while let Some(&byte) = text.get(position) {
            let len = length_by_first_byte(byte).min(text.len() - position);
            let here = best[position].score;
            let mut whole_character = false;
            let mut offer = |to: usize, token: Option<u32>, score: f64| {
                if score > best[to].score {
                    best[to] = Best { token, from: position, score };
                }
            };
            for (matched, id) in self.matcher.of(&text[position..]) {
                whole_character |= matched == len;
                let is_own = tokens.is(id, Attributes::USER_DEFINED);
                let score = if is_own { 0.0 } else { f64::from(tokens.score(id)) };
                offer(position + matched, Some(id), here + score);
            }
            if !whole_character {
                offer(position + len, unknown, here + f64::from(self.unknown_score));
            }
            position += len;
        }
        let begin = output.len();
        let mut after_unknown = false;
        let mut end = text.len();
        while end > 0 {
            let Best { token, from, .. } = best[end];
            let is_unknown = token == unknown;
            if !(is_unknown && after_unknown) {
                output.extend(token);
            }
            after_unknown = is_unknown;
            end = from;
        }
        output[begin..].reverse();
    }

    fn normalize(&self, text: &[u8], space_first: bool, merge_spaces: bool) -> Vec<u8> {
        let mut normalized = Vec::with_capacity(text.len() + text.len() / 2);
        let (mut has_space, mut in_word) = (false, false);
        let mut rest = text;
        while !rest.is_empty() {
            let (part, consumed) = self.normalize_prefix(rest);
            for &byte in part {
                if byte == b' ' {
                    in_word = false;
                    if !merge_spaces {
                        normalized.extend(SPACE.as_bytes());
                    }
                    continue;
                }
                if !in_word {
                    in_word = true;
                    if space_first && !has_space || merge_spaces {
                        normalized.extend(SPACE.as_bytes());
                        has_space = true;
                    }
                }
                normalized.push(byte);
            }
            rest = &rest[consumed..];
        }
        normalized
    }

    /// What the beginning of a text that is not empty becomes, and how long that beginning is.
    fn normalize_prefix<'a>(&'a self, text: &'a [u8]) -> (&'a [u8], usize) {
        // Sharing the beginning of such a token is enough in llama.cpp.
        let own = self.user_defined.shared(text);
        if own > 0 {
            return (&text[..own], own);
        }
        if let Some(found) = self.replacements.find(text) {
            return found;
        }
        let len = length_by_first_byte(text[0]).min(text.len());
        match std::str::from_utf8(&text[..len]) {
            Ok(_) => (&text[..len], len),
            Err(_) => ("\u{FFFD}".as_bytes(), 1),
        }
    }
}

/// SentencePiece's table of replacements: a double array (XOR-compressed, after Kanda 2018) whose
/// leaves point to texts that end with a zero.
#[derive(Debug, Default)]
struct Replacements {
    nodes: Vec<u32>,
    texts: Vec<u8>,
}

impl Replacements {
    fn read(metadata: &Metadata) -> Result<Self, Problem> {
        let stored: Vec<u8> = match metadata.get(CHARACTERS) {
            None => return Ok(Self::default()),
            Some(Value::Array(Array::Uint8(bytes))) => bytes.clone(),
            Some(Value::Array(Array::Int8(bytes))) => {
                bytes.iter().map(|byte| byte.cast_unsigned()).collect()
            }
            found => return Err(wrong(CHARACTERS, found, "an array of bytes")),
        };
        let split = stored.split_first_chunk().and_then(|(len, rest)| {
            let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
            (len < rest.len()).then(|| rest.split_at(len))
        });
        let Some((nodes, texts)) = split else {
            let expected = "bytes that begin with the size of a table shorter than they are";
            return Err(wrong(CHARACTERS, metadata.get(CHARACTERS), expected));
        };
        let (nodes, _) = nodes.as_chunks();
        Ok(Self {
            nodes: nodes.iter().map(|&node| u32::from_le_bytes(node)).collect(),
            texts: texts.to_vec(),
        })
    }

    /// The replacement of the longest beginning that has one, and how long that is. A table that
    /// points outside itself has none.
    fn find(&self, text: &[u8]) -> Option<(&[u8], usize)> {
        let base = |node: u32| (node >> 10) << ((node & (1 << 9)) >> 6);
        let node = |index: u32| self.nodes.get(index as usize).copied();
        let mut index = base(node(0)?);
        let mut longest = None;
        for (len, &byte) in (1..).zip(text) {
            index ^= u32::from(byte);
            let Some(here) = node(index) else { break };
            if byte == 0 || here & (1 << 31 | 0xFF) != u32::from(byte) {
                break;
            }
            index ^= base(here);
            if here >> 8 & 1 == 1 {
                longest = Some((node(index)? & !(1 << 31), len));
            }
        }
        let (at, len) = longest?;
        let text = self.texts.get(at as usize..)?;
        let end = text.iter().position(|&byte| byte == 0)?;
        Some((&text[..end], len))
    }
}
