//! SentencePiece's merging, as llama.cpp does it: of two neighbours that make up a token those whose
//! token has the best score are merged first, of equals the leftmost.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{tokens::Tokens, unicode::length_by_first_byte};

#[derive(Debug)]
pub(super) struct SentencePiece {
    /// The token of each byte.
    bytes: Vec<Option<u32>>,
}

/// A part of the text; a length of zero says that it went into another.
struct Symbol {
    start: usize,
    len: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that could be merged, the best of which compares greatest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    score: Score,
    left: Reverse<usize>,
    right: usize,
    len: usize,
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
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut start = 0;
        while let Some(&byte) = text.get(start) {
            let len = length_by_first_byte(byte).min(text.len() - start);
            let index = symbols.len();
            let next = (start + len < text.len()).then_some(index + 1);
            symbols.push(Symbol { start, len, previous: index.checked_sub(1), next });
            start += len;
        }
        let mut pairs = BinaryHeap::new();
        let add = |pairs: &mut BinaryHeap<Pair>, symbols: &[Symbol], left: usize, right: usize| {
            let len = symbols[left].len + symbols[right].len;
            let Some(merged) = text.get(symbols[left].start..symbols[left].start + len) else {
                return;
            };
            if let Some(id) = tokens.find(merged) {
                let score = Score(tokens.score(id));
                pairs.push(Pair { score, left: Reverse(left), right, len });
            }
        };
        for right in 1..symbols.len() {
            add(&mut pairs, &symbols, right - 1, right);
        }
        while let Some(Pair { left: Reverse(left), right, len, .. }) = pairs.pop() {
            // One of the two may have been merged with another since.
            let (first, second) = (symbols[left].len, symbols[right].len);
            if first == 0 || second == 0 || first + second != len {
                continue;
            }
            let next = symbols[right].next;
            symbols[left].len = len;
            symbols[left].next = next;
            symbols[right].len = 0;
            if let Some(next) = next {
                symbols[next].previous = Some(left);
                add(&mut pairs, &symbols, left, next);
            }
            if let Some(previous) = symbols[left].previous {
                add(&mut pairs, &symbols, previous, left);
            }
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            let part = &text[symbol.start..symbol.start + symbol.len];
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
