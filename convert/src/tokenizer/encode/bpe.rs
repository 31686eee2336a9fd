//! Byte-pair encoding: the pair of neighbours whose merge stands first in the file is merged first, of equals the
//! leftmost.

use ahash::AHashMap;
use gguf_model::tokenizer::{Part, merge_neighbours};

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
        let parts = ids.into_iter().enumerate().map(|(at, id)| Part::new(id, at, 1));
        let mut parts = parts.collect();
        merge_neighbours(&mut parts, |left, right| {
            self.merges.get(&(left.token, right.token)).map(|merge| (merge.rank, merge.id))
        });
        parts.into_iter().map(|part| part.token)
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
