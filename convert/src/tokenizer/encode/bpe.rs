//! Byte-pair encoding: the pair of neighbours whose merge stands first in the file is merged first, of equals the
//! leftmost.

use std::{cmp::Reverse, collections::BinaryHeap};

use ahash::AHashMap;

use super::{super::tokenizer_json::Model as File, Ids, Model, given};

/// A BPE model.
pub(super) struct Bpe<'m> {
    file: &'m File,
    ids: &'m Ids<'m>,
    merges: AHashMap<(u32, u32), Merge>,
}

#[derive(Clone, Copy)]
struct Merge {
    rank: u32,
    /// The token that it makes.
    id: u32,
}

/// A token of a word that is still being merged.
struct Symbol {
    id: u32,
    /// Merged into the one before it.
    is_gone: bool,
    previous: Option<usize>,
    next: Option<usize>,
}

impl<'m> Bpe<'m> {
    /// `None` for merges of what is no token, and for what the library takes on trust.
    pub(super) fn new<'t>(
        file: &'m File,
        ids: &'m Ids<'m>,
        merges: impl Iterator<Item = &'t str>,
    ) -> Option<Self> {
        if given(&file.continuing_subword_prefix).is_some() {
            return None;
        }
        let (mut pairs, mut merged) = (AHashMap::new(), String::new());
        for (rank, merge) in (0..).zip(merges) {
            let (a, b) = merge.split_once(' ')?;
            merged.clear();
            merged.extend([a, b]);
            let pair = (*ids.get(a)?, *ids.get(b)?);
            pairs.insert(pair, Merge { rank, id: *ids.get(&*merged)? });
        }
        Some(Self { file, ids, merges: pairs })
    }

    /// The tokens of a word before anything is merged.
    fn symbols(&self, word: &str) -> Option<Vec<u32>> {
        let (mut symbols, mut token) = (Vec::new(), String::new());
        // The unknown token, which waits for whether there are more of it. The bytes of characters overtake it.
        let mut unknown: Option<u32> = None;
        let mut characters = word.chars().peekable();
        while let Some(c) = characters.next() {
            token.clear();
            token.push(c);
            if characters.peek().is_none() {
                token.extend(given(&self.file.end_of_word_suffix));
            }
            if let Some(id) = self.ids.get(&*token) {
                symbols.extend(unknown.take());
                symbols.push(*id);
                continue;
            }
            if self.file.byte_fallback == Some(true) {
                let bytes =
                    token.bytes().map(|byte| self.ids.get(&*format!("<0x{byte:02X}>")).copied());
                if let Some(bytes) = bytes.collect::<Option<Vec<_>>>() {
                    symbols.extend(bytes);
                    continue;
                }
            }
            if let Some(name) = given(&self.file.unk_token) {
                if self.file.fuse_unk != Some(true) {
                    symbols.extend(unknown.take());
                }
                unknown = Some(*self.ids.get(name)?);
            }
        }
        symbols.extend(unknown);
        Some(symbols)
    }

    /// The tokens that are left when nothing more can be merged.
    fn merged(&self, ids: Vec<u32>) -> impl Iterator<Item = u32> {
        let count = ids.len();
        let symbol = |(at, id): (usize, u32)| Symbol {
            id,
            is_gone: false,
            previous: at.checked_sub(1),
            next: Some(at + 1).filter(|next| *next < count),
        };
        let mut symbols: Vec<Symbol> = ids.into_iter().enumerate().map(symbol).collect();
        let mut queue = BinaryHeap::new();
        for at in 0..count {
            queue.extend(self.offer(&symbols, at));
        }
        while let Some(Reverse((_, at, id))) = queue.pop() {
            // One of the two may have been merged with another since.
            if self.offer(&symbols, at).is_none_or(|Reverse((.., now))| now != id) {
                continue;
            }
            let right = symbols.get(at).and_then(|left| left.next);
            let Some(right) = right.and_then(|right| symbols.get_mut(right)) else { continue };
            right.is_gone = true;
            let after = right.next;
            if let Some(after) = after.and_then(|after| symbols.get_mut(after)) {
                after.previous = Some(at);
            }
            let Some(left) = symbols.get_mut(at) else { continue };
            (left.id, left.next) = (id, after);
            let previous = left.previous;
            queue.extend(previous.and_then(|previous| self.offer(&symbols, previous)));
            queue.extend(self.offer(&symbols, at));
        }
        symbols.into_iter().filter(|symbol| !symbol.is_gone).map(|symbol| symbol.id)
    }

    /// The merge of a symbol with the next one: its rank, where it is, what it makes.
    fn offer(&self, symbols: &[Symbol], at: usize) -> Option<Reverse<(u32, usize, u32)>> {
        let left = symbols.get(at).filter(|left| !left.is_gone)?;
        let right = symbols.get(left.next?)?;
        let merge = self.merges.get(&(left.id, right.id))?;
        Some(Reverse((merge.rank, at, merge.id)))
    }
}

impl Model for Bpe<'_> {
    fn encode(&self, word: &str, ids: &mut Vec<u32>) -> Option<()> {
        match self.ids.get(word).filter(|_| self.file.ignore_merges == Some(true)) {
            Some(id) => ids.push(*id),
            None => ids.extend(self.merged(self.symbols(word)?)),
        }
        Some(())
    }
}
