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
/// merge and the token that it makes, if there is one: the lowest rank is merged first, of equals the leftmost.
pub fn merge_neighbours<T: Copy + Ord, R: Ord>(
    parts: &mut Vec<Part<T>>,
    offer: impl Fn(&Part<T>, &Part<T>) -> Option<(R, T)>,
) {
    let count = parts.len();
    for (at, part) in parts.iter_mut().enumerate() {
        part.previous = at.checked_sub(1);
        part.next = Some(at + 1).filter(|&next| next < count);
    }
    let offered = |parts: &[Part<T>], at: usize| {
        let (left, right, len) = pair(parts, at)?;
        let (rank, token) = offer(left, right)?;
        Some(Reverse((rank, at, len, token)))
    };
    let mut pairs = BinaryHeap::new();
    pairs.extend((0..count).filter_map(|at| offered(parts, at)));
    while let Some(Reverse((_, at, len, token))) = pairs.pop() {
        // One of the two may have been merged with another since: then what is there now has to make the same token.
        let Some((left, right, now)) = pair(parts, at) else { continue };
        if now != len && offer(left, right).is_none_or(|(_, made)| made != token) {
            continue;
        }
        let (gone, previous, next) = (left.next, left.previous, right.next);
        parts[at] = Part { token, len: now, next, ..*left };
        if let Some(gone) = gone {
            parts[gone].len = 0;
        }
        if let Some(next) = next {
            parts[next].previous = Some(at);
        }
        pairs.extend(offered(parts, at));
        pairs.extend(previous.and_then(|previous| offered(parts, previous)));
    }
    parts.retain(|part| part.len > 0);
}

/// A part, the next one, and the length of both; none for a part that went into another, which has no length.
fn pair<T>(parts: &[Part<T>], at: usize) -> Option<(&Part<T>, &Part<T>, usize)> {
    let left = parts.get(at).filter(|left| left.len > 0)?;
    let right = parts.get(left.next?)?;
    Some((left, right, left.len.saturating_add(right.len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges made of letters, ranked by their order.
    fn merged(text: &str, merges: &[&str]) -> Vec<String> {
        let mut parts: Vec<_> = (0..text.len()).map(|at| Part::new(None, at, 1)).collect();
        merge_neighbours(&mut parts, |left, right| {
            let both = &text[left.start..][..left.len + right.len];
            let rank = merges.iter().position(|merge| *merge == both)?;
            Some((rank, Some(rank)))
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

    #[test]
    fn a_pair_that_grew_counts_as_the_one_before_if_it_makes_the_same_token() {
        // `b c` first, then `a bc` where `a b` stood, as both make token 5; so `z a` comes too late.
        let merges = [("b", "c", 4), ("a", "b", 5), ("z", "a", 6), ("a", "bc", 5)];
        let text = "zabc";
        let mut parts: Vec<_> = (0..4).map(|at| Part::new(at as u32, at, 1)).collect();
        merge_neighbours(&mut parts, |left, right| {
            let [left, right] = [left, right].map(|part| &text[part.start..][..part.len]);
            let rank = merges.iter().position(|merge| (merge.0, merge.1) == (left, right))?;
            Some((rank, merges[rank].2))
        });
        let tokens: Vec<u32> = parts.iter().map(|part| part.token).collect();
        assert_eq!(tokens, [0, 5]);
    }
}
