//! Scores for SentencePiece's BPE of which only the merges are left.
//!
//! llama.cpp joins, of all neighbours that make a token, those whose token has the best score; the
//! checkpoint's tokenizer joins those whose merge comes first. With the rank of a token's first
//! merge as its score both do the same, as long as there is a merge for each way to make a token.

use ahash::{AHashMap, AHashSet};

use super::tokenizer_json::TokenizerJson;

/// The merges of a tokenizer.
pub(super) struct Merges<'t> {
    pairs: AHashSet<(&'t str, &'t str)>,
    /// Ranks of the first merges that make a token.
    ranks: AHashMap<String, usize>,
}

impl<'t> Merges<'t> {
    pub(super) fn new(tokenizer: &'t TokenizerJson) -> Self {
        let list = tokenizer.model.merges.as_deref().unwrap_or_default();
        let (mut pairs, mut ranks) = (AHashSet::with_capacity(list.len()), AHashMap::new());
        for (rank, merge) in list.iter().enumerate() {
            if let Some((left, right)) = merge.0.split_once(' ') {
                pairs.insert((left, right));
                ranks.entry([left, right].concat()).or_insert(rank);
            }
        }
        Self { pairs, ranks }
    }

    /// Whether a merge makes a token.
    pub(super) fn make(&self, token: &str) -> bool {
        self.ranks.contains_key(token)
    }

    /// The score of a token; tokens that no merge makes come last.
    pub(super) fn score(&self, token: &str) -> f32 {
        let rank = self.ranks.get(token).copied().unwrap_or(self.pairs.len());
        0.0 - rank as f32
    }

    /// The two halves of a token that llama.cpp joins though no merge does, if there are such: both
    /// are characters or made by merges.
    pub(super) fn without_merge<'s>(&self, token: &'s str) -> Option<(&'s str, &'s str)> {
        let made = |part: &str| part.chars().nth(1).is_none() || self.make(part);
        token.char_indices().skip(1).map(|(at, _)| token.split_at(at)).find(|(left, right)| {
            made(left) && made(right) && !self.pairs.contains(&(*left, *right))
        })
    }
}
