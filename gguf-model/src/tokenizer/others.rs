//! RWKV's tokenizer and PLaMo 2's.

use super::{
    prefixes::Prefixes,
    tokens::{Attributes, Tokens},
};

/// RWKV's: the longest token that the text goes on with.
#[derive(Debug)]
pub(super) struct Greedy {
    prefixes: Prefixes,
}

impl Greedy {
    pub(super) fn new(tokens: &Tokens) -> Self {
        Self {
            prefixes: Prefixes::new(tokens.iter().map(|(id, text)| (unescape(text).into(), id))),
        }
    }

    pub(super) fn encode(&self, text: &[u8], unknown: Option<u32>, output: &mut Vec<u32>) {
        let mut rest = text;
        while !rest.is_empty() {
            let longest = self.prefixes.of(rest).last();
            output.extend(longest.map(|(_, id)| id).or(unknown));
            rest = &rest[longest.map_or(1, |(len, _)| len)..];
        }
    }
}

/// The bytes of a token that is written with escapes.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    let digit = |byte: u8| if byte >= b'a' { byte - b'a' + 10 } else { byte.wrapping_sub(b'0') };
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b't') => bytes.push(b'\t'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b'x') => {
                if let (Some(&high), Some(&low)) = (rest.next(), rest.next()) {
                    bytes.push((digit(high) << 4).wrapping_add(digit(low)));
                }
            }
            other => bytes.extend(other),
        }
    }
    bytes
}

/// PLaMo 2's: the segmentation with the best sum of scores, characters without a token as bytes.
#[derive(Debug)]
pub(super) struct Plamo {
    prefixes: Prefixes,
    /// The token of each byte.
    bytes: Vec<Option<u32>>,
}

/// Scores are compared as integers, in ten-thousandths.
const SCALE: f64 = 1e4;
const INVALID: i64 = -20_000_000;
const UNKNOWN: i64 = -10_000_000;

impl Plamo {
    pub(super) fn new(tokens: &Tokens) -> Self {
        let plain = tokens.iter().filter(|&(id, _)| !tokens.is(id, Attributes::BYTE));
        let byte = |byte: u8| {
            let id = tokens.find(format!("<0x{byte:02X}>").as_bytes())?;
            tokens.is(id, Attributes::BYTE).then_some(id)
        };
        Self {
            prefixes: Prefixes::new(plain.map(|(id, text)| (text.into(), id))),
            bytes: (0..=255).map(byte).collect(),
        }
    }

    pub(super) fn encode(&self, tokens: &Tokens, text: &[char], output: &mut Vec<u32>) {
        let text = text.strip_prefix(&['\u{FEFF}']).unwrap_or(text);
        let text: String = text.iter().collect();
        // The least cost from each position to the end, and the first step of the way: how long it
        // is, and its token.
        let mut cost = vec![i64::MAX; text.len() + 1];
        let mut step = vec![(0, None); text.len() + 1];
        cost[text.len()] = 0;
        for (at, character) in text.char_indices().rev() {
            let score = |id: u32| {
                let score = (f64::from(tokens.score(id)) * SCALE).round();
                (score.is_finite() && score > INVALID as f64).then_some(score as i64)
            };
            let mut ways: Vec<_> = self
                .prefixes
                .of(&text.as_bytes()[at..])
                .filter_map(|(len, id)| Some((len, Some(id), score(id)?)))
                .collect();
            // Of equal ways the one with the longest step is taken.
            ways.reverse();
            ways.push((character.len_utf8(), None, UNKNOWN));
            for (len, token, score) in ways {
                // Tokens that end inside a character lead nowhere.
                let Some(whole) = cost[at + len].checked_sub(score) else { continue };
                if whole < cost[at] {
                    cost[at] = whole;
                    step[at] = (len, token);
                }
            }
        }
        let mut at = 0;
        while at < text.len() {
            let (len, token) = step[at];
            match token {
                Some(id) => output.push(id),
                None => output.extend(
                    text.as_bytes()[at..at + len]
                        .iter()
                        .filter_map(|&byte| self.bytes[usize::from(byte)]),
                ),
            }
            at += len.max(1);
        }
    }
}
