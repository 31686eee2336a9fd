//! Takes special tokens out of text before the rest is tokenized: the longest first, and each where it
//! is found first.

use std::{cmp::Reverse, ops::Range};

use memchr::memmem;

use super::{
    prefixes::Prefixes,
    tokens::{Attributes, Tokens},
};

#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Ids, longest texts first.
    order: Vec<u32>,
    /// Their texts, each with its place in the order.
    texts: Prefixes,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    Token(u32),
    Text(Range<usize>),
}

impl Partition {
    pub(super) fn new(tokens: &Tokens) -> Self {
        let special = Attributes::CONTROL.or(Attributes::USER_DEFINED).or(Attributes::UNKNOWN);
        let mut order: Vec<u32> =
            tokens.iter().map(|(id, _)| id).filter(|&id| tokens.is(id, special)).collect();
        order.sort_by_key(|&id| (Reverse(tokens.text(id).len()), id));
        let texts =
            Prefixes::new((0..).zip(&order).map(|(place, &id)| (tokens.text(id).into(), place)));
        Self { order, texts }
    }

    /// The parts of a text. Without `parse_special` only tokens that users defined are taken out.
    pub(super) fn split(&self, tokens: &Tokens, text: &[u8], parse_special: bool) -> Vec<Fragment> {
        let mut parts = Vec::new();
        if !text.is_empty() {
            parts.push(Fragment::Text(0..text.len()));
        }
        let mut occurring = vec![false; self.order.len()];
        for at in 0..text.len() {
            for (_, place) in self.texts.of(&text[at..]) {
                occurring[place as usize] = true;
            }
        }
        for (&id, _) in self.order.iter().zip(occurring).filter(|&(_, occurs)| occurs) {
            if parse_special || !tokens.is(id, Attributes::CONTROL.or(Attributes::UNKNOWN)) {
                parts = take_out(tokens, id, text, parts);
            }
        }
        parts
    }
}

fn take_out(tokens: &Tokens, id: u32, text: &[u8], parts: Vec<Fragment>) -> Vec<Fragment> {
    let finder = memmem::Finder::new(tokens.text(id));
    let is_space = |at: usize| matches!(text[at], b' ' | b'\t'..=b'\r');
    let mut split = Vec::with_capacity(parts.len() + 2);
    for part in parts {
        let Fragment::Text(Range { mut start, end }) = part else {
            split.push(part);
            continue;
        };
        while let Some(found) = finder.find(&text[start..end]) {
            let found = start + found;
            let mut before = start..found;
            if tokens.is(id, Attributes::STRIPS_LEFT) {
                while !before.is_empty() && is_space(before.end - 1) {
                    before.end -= 1;
                }
            }
            if !before.is_empty() {
                split.push(Fragment::Text(before));
            }
            split.push(Fragment::Token(id));
            start = found + tokens.text(id).len();
            if tokens.is(id, Attributes::STRIPS_RIGHT) {
                while start < end && is_space(start) {
                    start += 1;
                }
            }
        }
        if start < end {
            split.push(Fragment::Text(start..end));
        }
    }
    split
}
