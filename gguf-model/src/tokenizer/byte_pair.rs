//! Byte-pair encoding: the pair of neighbours whose merge was learned first is merged first, of equals
//! the leftmost.

use std::collections::HashMap;

use gguf_io::metadata::{Array, Metadata, Value};

use super::{
    neighbours::{Part, merge_neighbours},
    pre::{PreTokenizer, Style},
    split::Splitter,
    tokens::{Tokens, wrong},
    unicode::{BYTE_CHARACTERS, lower},
};
use crate::Problem;

const MERGES: &str = "tokenizer.ggml.merges";

#[derive(Debug)]
pub(super) struct BytePair {
    splitter: Splitter,
    style: Style,
    whole_words: bool,
    /// Kinds whose words end at white space, which is dropped, in lower case or not.
    pub(super) drops_space: bool,
    pub(super) lowercase: bool,
    /// By the pieces that are merged.
    merges: HashMap<(u32, u32), Merge>,
    /// Pieces that are no tokens; they are numbered after those.
    others: HashMap<Box<[u8]>, u32>,
    /// The piece that each byte begins as.
    bytes: Vec<Option<u32>>,
    /// What is written for a byte of a piece that is no token.
    fallback: Vec<Option<u32>>,
}

#[derive(Clone, Copy, Debug)]
struct Merge {
    rank: u32,
    /// The piece that it makes.
    piece: u32,
}

/// A part of a word and the piece that it is, if it is one.
type Symbol = Part<Option<u32>>;

impl BytePair {
    pub(super) fn new(
        metadata: &Metadata,
        tokens: &Tokens,
        pre: &PreTokenizer,
    ) -> Result<Self, Problem> {
        let mut others = HashMap::new();
        let mut piece = |text: &[u8]| {
            tokens.find(text).or_else(|| {
                let next = u32::try_from(tokens.len() + others.len()).ok()?;
                Some(*others.entry(text.into()).or_insert(next))
            })
        };
        let stored = match metadata.get(MERGES) {
            Some(Value::Array(Array::String(merges))) => &merges[..],
            // Its tokens are taken whole.
            None if pre.name == "kimi-k2" => &[],
            found => return Err(wrong(MERGES, found, "an array of strings")),
        };
        let mut merges = HashMap::with_capacity(stored.len());
        let mut merged = Vec::new();
        for (rank, text) in (0u32..).zip(stored) {
            let text = text.as_bytes();
            // The first of two parts may begin with a space.
            let Some(space) = text.iter().skip(1).position(|&byte| byte == b' ') else { continue };
            let (left, right) = (&text[..space + 1], &text[space + 2..]);
            merged.clear();
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
            if let (Some(left), Some(right), Some(piece)) =
                (piece(left), piece(right), piece(&merged))
            {
                merges.entry((left, right)).or_insert(Merge { rank, piece });
            }
        }
        let of_byte = |byte: u8| {
            let mut text = [0; 4];
            let text = BYTE_CHARACTERS[usize::from(byte)].encode_utf8(&mut text).as_bytes();
            tokens.find(text).or_else(|| others.get(text).copied())
        };
        let bytes = (0..=255).map(of_byte).collect();
        let fallback = (0..=255u8)
            .map(|byte| match pre.style {
                Style::Bytes => tokens.find(&[byte]),
                _ => tokens.find(format!("<0x{byte:02X}>").as_bytes()),
            })
            .collect();
        Ok(Self {
            splitter: Splitter::new(pre.splits),
            style: pre.style,
            whole_words: pre.whole_words,
            drops_space: false,
            lowercase: false,
            merges,
            others,
            bytes,
            fallback,
        })
    }

    /// Whether tokens have marks for spaces.
    pub(super) fn marks_spaces(&self) -> bool {
        matches!(self.style, Style::MarkedSpaces | Style::Gemma)
    }

    /// Appends the tokens of a text.
    pub(super) fn encode(&self, tokens: &Tokens, text: &[char], output: &mut Vec<u32>) {
        if !self.drops_space {
            return self.encode_words(tokens, text, output);
        }
        for segment in text.split(|character| character.is_whitespace()) {
            let own = |&character: &char| if self.lowercase { lower(character) } else { character };
            let segment: Vec<char> = segment.iter().map(own).collect();
            self.encode_words(tokens, &segment, output);
        }
    }

    fn encode_words(&self, tokens: &Tokens, text: &[char], output: &mut Vec<u32>) {
        let (mut word, mut encoded) = (String::new(), String::new());
        let mut symbols = Vec::new();
        for range in self.splitter.words(text) {
            word.clear();
            word.extend(&text[range]);
            let whole = if self.whole_words && self.style == Style::Bytes {
                encoded.clear();
                encoded.extend(word.bytes().map(|byte| BYTE_CHARACTERS[usize::from(byte)]));
                tokens.find(encoded.as_bytes())
            } else if self.whole_words
                || self.style == Style::Gemma && word.bytes().all(|byte| byte == b'\n')
            {
                tokens.find(word.as_bytes())
            } else {
                None
            };
            match whole {
                Some(id) => output.push(id),
                None => {
                    self.merge(tokens, &word, &mut symbols);
                    self.write(tokens, &word, &symbols, output);
                }
            }
        }
    }

    /// The pieces that a word ends up as.
    fn merge(&self, tokens: &Tokens, word: &str, symbols: &mut Vec<Symbol>) {
        symbols.clear();
        let mut add = |piece, start, len| symbols.push(Part::new(piece, start, len));
        if self.style == Style::Bytes {
            for (start, byte) in word.bytes().enumerate() {
                add(self.bytes[usize::from(byte)], start, 1);
            }
        } else {
            for (start, character) in word.char_indices() {
                let len = character.len_utf8();
                let text = &word.as_bytes()[start..start + len];
                add(tokens.find(text).or_else(|| self.others.get(text).copied()), start, len);
            }
        }
        merge_neighbours(symbols, |left, right| {
            let merge = self.merges.get(&(left.token?, right.token?))?;
            Some((merge.rank, Some(merge.piece)))
        });
    }

    fn write(&self, tokens: &Tokens, word: &str, symbols: &[Symbol], output: &mut Vec<u32>) {
        for symbol in symbols {
            if let Some(id) = symbol.token.filter(|&piece| (piece as usize) < tokens.len()) {
                output.push(id);
                continue;
            }
            // What has no token for its bytes is dropped, as llama.cpp drops it.
            for &byte in &word.as_bytes()[symbol.start..symbol.start + symbol.len] {
                if self.style == Style::Bytes {
                    let mut text = [0; 4];
                    let text = BYTE_CHARACTERS[usize::from(byte)].encode_utf8(&mut text);
                    output.extend(text.bytes().filter_map(|b| self.fallback[usize::from(b)]));
                } else {
                    output.extend(self.fallback[usize::from(byte)]);
                }
            }
        }
    }
}
