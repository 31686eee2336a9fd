//! SentencePiece's merging, as llama.cpp does it: of two neighbours that make up a token those whose
//! token has the best score are merged first, of equals the leftmost.

use std::cmp::Reverse;

use super::{
    neighbours::{Part, merge_neighbours},
    tokens::Tokens,
    unicode::length_by_first_byte,
};

#[derive(Debug)]
pub(super) struct SentencePiece {
    /// The token of each byte.
    bytes: Vec<Option<u32>>,
}

#[derive(PartialEq)]
struct Score(f32);

impl Eq for Score {}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Zeros are equal, whatever their signs.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl SentencePiece {
    pub(super) fn new(tokens: &Tokens) -> Self {
        Self { bytes: (0..=255).map(|byte| byte_token(tokens, byte)).collect() }
    }

    /// Appends the tokens of a text whose spaces are marked. A byte without a token becomes `unknown`.
    pub(super) fn encode(
        &self,
        tokens: &Tokens,
        text: &[u8],
        unknown: Option<u32>,
        output: &mut Vec<u32>,
    ) {
        let mut parts = Vec::with_capacity(text.len());
        let mut start = 0;
        while let Some(&byte) = text.get(start) {
            let len = length_by_first_byte(byte).min(text.len() - start);
            parts.push(Part::new(None, start, len));
            start += len;
        }
        merge_neighbours(&mut parts, |left, right| {
            let merged = text.get(left.start..left.start + left.len + right.len)?;
            let id = tokens.find(merged)?;
            Some((Reverse(Score(tokens.score(id))), Some(id)))
        });
        for part in parts {
            let part = &text[part.start..part.start + part.len];
            match tokens.find(part) {
                Some(id) => output.push(id),
                None => output.extend(
                    part.iter().filter_map(|&byte| self.bytes[usize::from(byte)].or(unknown)),
                ),
            }
        }
    }
}

/// The token that stands for a byte, else the one whose text is that byte.
pub(super) fn byte_token(tokens: &Tokens, byte: u8) -> Option<u32> {
    tokens.find(format!("<0x{byte:02X}>").as_bytes()).or_else(|| tokens.find(&[byte]))
}
