//! Merging neighbours, the best pair first: what byte-pair encoding and SentencePiece have in common.

use std::{cmp::Reverse, collections::BinaryHeap};

/// A part of a text, which begins as a character or a byte and grows.
#[derive(Clone, Copy, Debug)]
pub struct Part<T> {
    /// What is known of it, such as its token.
    pub token: T,
    /// Where it starts, in any unit.
    pub start: usize,
    /// Its length in that unit, which is not zero.
    pub len: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

impl<T> Part<T> {
    /// A part of the text that has not been merged.
    pub fn new(token: T, start: usize, len: usize) -> Self {
        Self { token, start, len, previous: None, next: None }
    }
}

/// Merges neighbours until no pair is left that can be merged. `offer` says of two neighbours the rank of their
/// merge and what it makes, if there is one: the lowest rank is merged first, of equals the leftmost.
pub fn merge_neighbours<T: Copy + Ord, R: Ord>(
    parts: &mut Vec<Part<T>>,
    offer: impl Fn(&Part<T>, &Part<T>) -> Option<(R, T)>,
) {
    let count = parts.len();
    for (at, part) in parts.iter_mut().enumerate() {
        part.previous = at.checked_sub(1);
        part.next = Some(at + 1).filter(|&next| next < count);
    }
    let pair = |parts: &[Part<T>], left: usize, right: usize| {
        let (first, second) = (&parts[left], &parts[right]);
        let (rank, token) = offer(first, second)?;
        Some(Reverse((rank, left, right, first.len.saturating_add(second.len), token)))
    };
    let mut pairs = BinaryHeap::new();
    pairs.extend((1..count).filter_map(|right| pair(parts, right - 1, right)));
    while let Some(Reverse((_, left, right, len, token))) = pairs.pop() {
        // One of the two may have been merged with another since: it is longer then, or of no length.
        let (first, second) = (parts[left].len, parts[right].len);
        if first == 0 || second == 0 || first.saturating_add(second) != len {
            continue;
        }
        let next = parts[right].next;
        parts[right].len = 0;
        parts[left] = Part { token, len, next, ..parts[left] };
        if let Some(next) = next {
            parts[next].previous = Some(left);
            pairs.extend(pair(parts, left, next));
        }
        if let Some(previous) = parts[left].previous {
            pairs.extend(pair(parts, previous, left));
        }
    }
    parts.retain(|part| part.len > 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges made of letters, ranked by their order.
    fn merged(text: &str, merges: &[&str]) -> Vec<String> {
        let mut parts: Vec<_> = (0..text.len()).map(|at| Part::new((), at, 1)).collect();
        merge_neighbours(&mut parts, |left, right| {
            let both = &text[left.start..][..left.len + right.len];
            Some((merges.iter().position(|merge| *merge == both)?, ()))
        });
        parts.iter().map(|part| text[part.start..][..part.len].to_owned()).collect()
    }

    #[test]
    fn the_lowest_rank_first_and_of_equals_the_leftmost() {
        assert_eq!(merged("", &["ab"]), [""; 0]);
        assert_eq!(merged("a", &["ab"]), ["a"]);
        assert_eq!(merged("abc", &["bc", "ab"]), ["a", "bc"]);
        assert_eq!(merged("aaaa", &["aa", "aaaa"]), ["aaaa"]);
        assert_eq!(merged("aaa", &["aa"]), ["aa", "a"]);
        // What was offered before its right part grew is no pair any more.
        assert_eq!(merged("abcd", &["bc", "bcd", "abc"]), ["a", "bcd"]);
        // Nor is what was offered before its left part went into another.
        assert_eq!(merged("xabc", &["bc", "xa", "abc"]), ["xa", "bc"]);
        assert_eq!(merged("xabc", &["bc", "xa", "abc", "xabc"]), ["xabc"]);
    }
}
