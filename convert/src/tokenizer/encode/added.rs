//! Added tokens: found in a text before a model sees it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, hash_map::Entry},
};

use super::{super::tokenizer_json::AddedToken, Ids, Piece, normalizer::Normalizer, pattern::WORD};

/// The added tokens of a tokenizer.
pub(super) struct Added<'t> {
    /// Those found in the text as it is.
    raw: Finder<'t>,
    /// Those found in the normalized text.
    normalized: Finder<'t>,
}

/// Tokens by their text, sorted.
struct Finder<'t>(Vec<Sought<'t>>);

struct Sought<'t> {
    text: Cow<'t, str>,
    id: u32,
    token: &'t AddedToken,
    /// Normalized, another one has this text too: which of them the library finds is left to chance.
    is_ambiguous: bool,
}

/// How many bytes tokens may become when they are normalized, all together.
const MOST_BYTES: usize = 1 << 28;

impl<'t> Added<'t> {
    /// `None` if nothing is left of a token when it is normalized: the library finds it between any two bytes, and
    /// stops where these are of one character.
    ///
    /// The library does not heed the ids of a file: a token that the model does not have comes after all that it has.
    pub(super) fn new(
        tokens: &'t [AddedToken],
        own: &Ids<'_>,
        normalizer: Option<&Normalizer>,
    ) -> Option<Self> {
        let growth = normalizer.map_or(1, Normalizer::growth);
        let bytes = tokens.iter().filter(|token| token.normalized).map(|token| token.content.len());
        if bytes.sum::<usize>().saturating_mul(growth) > MOST_BYTES {
            return None;
        }
        let mut next = u32::try_from(own.len()).ok()?;
        // By their ids: of several with one id the last counts, though the others may have left their normalized
        // texts behind.
        let (mut ids, mut last, mut normal) = (HashMap::new(), BTreeMap::new(), HashMap::new());
        for token in tokens.iter().filter(|token| !token.content.is_empty()) {
            let id = match ids.entry(token.content.as_str()) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    let found = own.get(token.content.as_str()).copied();
                    let id = *entry.insert(found.unwrap_or(next));
                    next = if found.is_none() { next.checked_add(1)? } else { next };
                    id
                }
            };
            if let Some(normalizer) = normalizer.filter(|_| token.normalized) {
                let text = normalizer.normalize(&token.content)?;
                if text != token.content {
                    normal.insert(id, text);
                }
            }
            last.insert(id, token);
        }
        let (mut raw, mut normalized) = (Vec::new(), Vec::new());
        for (id, token) in last {
            let text = normal.remove(&id).filter(|_| token.normalized);
            let text = text.map_or(Cow::Borrowed(token.content.as_str()), Cow::Owned);
            let list = if token.normalized { &mut normalized } else { &mut raw };
            list.push(Sought { text, id, token, is_ambiguous: false });
        }
        Some(Self { raw: Finder::new(raw)?, normalized: Finder::new(normalized)? })
    }

    /// The text, normalized, without the tokens that are found in it, and these.
    pub(super) fn pieces(&self, text: &str, normalizer: Option<&Normalizer>) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
        for piece in self.raw.pieces(text)? {
            match piece {
                Piece::Token(_) => pieces.push(piece),
                Piece::Text(text) => {
                    let text = match normalizer {
                        Some(normalizer) => normalizer.normalize(&text)?,
                        None => text,
                    };
                    pieces.extend(self.normalized.pieces(&text)?);
                }
            }
        }
        Some(pieces)
    }
}

impl<'t> Finder<'t> {
    fn new(mut tokens: Vec<Sought<'t>>) -> Option<Self> {
        tokens.sort_by(|a, b| a.text.cmp(&b.text));
        tokens.dedup_by(|token, first| {
            let is_same = token.text == first.text;
            first.is_ambiguous |= is_same;
            is_same
        });
        tokens.first().is_none_or(|first| !first.text.is_empty()).then_some(Self(tokens))
    }

    /// The longest token that a text begins with.
    fn longest(&self, text: &str) -> Option<&Sought<'t>> {
        let (mut tokens, mut found) = (&self.0[..], None);
        for (at, byte) in text.bytes().enumerate() {
            // All of these begin alike up to here, the shorter before the longer.
            let own = |token: &Sought<'_>| token.text.as_bytes().get(at).copied();
            let first = tokens.partition_point(|token| own(token) < Some(byte));
            let end = tokens.partition_point(|token| own(token) <= Some(byte));
            tokens = tokens.get(first..end)?;
            match tokens.first() {
                Some(token) if token.text.len() == at + 1 => found = Some(token),
                Some(_) => {}
                None => break,
            }
        }
        found
    }

    /// The tokens in a text, from the left the longest, and what is around them.
    fn pieces(&self, text: &str) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut push = |start, end, id: Option<u32>| {
            // A token may have taken white space that the next one begins with, of which nothing is left then.
            let part = text.get(start..end)?;
            if !part.is_empty() {
                pieces.push(id.map_or_else(|| Piece::Text(part.to_owned()), Piece::Token));
            }
            Some(())
        };
        let (mut at, mut done) = (0, 0);
        while let Some(first) = text.get(at..)?.chars().next() {
            let Some(found) = self.longest(text.get(at..)?) else {
                at += first.len_utf8();
                continue;
            };
            if found.is_ambiguous {
                return None;
            }
            let (mut start, mut end) = (at, at + found.text.len());
            at = end;
            let (before, after) = (text.get(..start)?, text.get(end..)?);
            let is_word = |c: Option<char>| c.is_some_and(|c| WORD.has(c));
            if found.token.single_word
                && (is_word(before.chars().next_back()) || is_word(after.chars().next()))
            {
                continue;
            }
            if found.token.lstrip {
                start = before.trim_end().len().max(done);
            }
            if found.token.rstrip {
                end = text.len() - after.trim_start().len();
            }
            if done < start {
                push(done, start, None)?;
            }
            push(start, end, Some(found.id))?;
            done = end;
        }
        push(done, text.len(), None)?;
        Some(pieces)
    }
}
