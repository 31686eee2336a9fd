//! The model of a tokenizer as the library builds it, of the tokens that a text can have: a short one has a thousand
//! of 128,000.

use std::collections::{HashMap, hash_map::Entry};

use ahash::AHashMap;
use tokenizers::{
    ModelWrapper,
    models::{bpe::BPE, wordpiece::WordPiece},
    pre_tokenizers::byte_level::ByteLevel,
};

use super::tokenizer_json::{Model, TokenizerJson, Vocabulary};

/// A setting that is there and not empty.
fn given(text: &Option<String>) -> Option<&String> {
    text.as_ref().filter(|text| !text.is_empty())
}

/// The model of a WordPiece tokenizer.
pub(super) fn word_piece(file: &Model) -> Option<ModelWrapper> {
    let Vocabulary::Ids(vocabulary) = &file.vocab else { return None };
    let mut model =
        WordPiece::builder().vocab(vocabulary.iter().cloned().collect::<AHashMap<_, _>>());
    if let Some(token) = given(&file.unk_token) {
        model = model.unk_token(token.clone());
    }
    if let Some(prefix) = given(&file.continuing_subword_prefix) {
        model = model.continuing_subword_prefix(prefix.clone());
    }
    if let Some(most) = file.max_input_chars_per_word {
        model = model.max_input_chars_per_word(most);
    }
    model.build().ok().map(Into::into)
}

/// The tokens and merges of a BPE tokenizer.
pub(super) struct Bpe<'m> {
    file: &'m Model,
    ids: HashMap<&'m str, u32>,
    merges: Vec<(&'m str, &'m str)>,
    /// Those found before anything else is done to a text.
    added: HashMap<&'m str, u32>,
    /// Whether tokens may be found that are not made of the symbols of a text: nothing is left out then.
    whole: bool,
}

impl<'m> Bpe<'m> {
    /// The library takes merges and prefixes on trust, so they are looked at first.
    pub(super) fn new(
        tokenizer: &'m TokenizerJson,
        merges: impl Iterator<Item = &'m str>,
    ) -> Option<Self> {
        let file = &tokenizer.model;
        let Vocabulary::Ids(vocabulary) = &file.vocab else { return None };
        let ids: HashMap<&str, u32> = vocabulary.iter().map(|(t, id)| (t.as_str(), *id)).collect();
        if given(&file.continuing_subword_prefix).is_some() || ids.len() != vocabulary.len() {
            return None;
        }
        let (mut pairs, mut merged) = (Vec::new(), String::new());
        for merge in merges {
            let (a, b) = merge.split_once(' ')?;
            merged.clear();
            merged.extend([a, b]);
            if ![a, b, &merged].iter().all(|token| ids.contains_key(*token)) {
                return None;
            }
            pairs.push((a, b));
        }
        // Whole words are looked up as they are written, characters that are no tokens too.
        let has_bytes = || {
            let mut bytes = ByteLevel::alphabet().into_iter();
            bytes.all(|c| ids.contains_key(&*c.encode_utf8(&mut [0; 4])))
        };
        let looks_up = file.ignore_merges == Some(true);
        let whole = given(&file.end_of_word_suffix).is_some()
            || looks_up && !(tokenizer.splits_bytes() && has_bytes());
        // As the library counts: those that are no tokens of the model come after all that are.
        let (mut added, mut next) = (HashMap::new(), u32::try_from(ids.len()).ok()?);
        for token in tokenizer.added_tokens.iter().filter(|token| !token.content.is_empty()) {
            if let Entry::Vacant(entry) = added.entry(token.content.as_str()) {
                let own = ids.get(entry.key()).copied();
                entry.insert(own.unwrap_or(next));
                next = if own.is_none() { next.checked_add(1)? } else { next };
            }
        }
        Some(Self { file, ids, merges: pairs, added, whole })
    }

    /// The model without merges but with added tokens, which get their ids from it: what it makes of a text are the
    /// symbols that merges begin with.
    pub(super) fn symbols(&self) -> Option<ModelWrapper> {
        let unknown = given(&self.file.unk_token);
        let symbols = self.ids.iter().filter(|(token, _)| {
            // `<0x0A>` is a byte.
            token.chars().nth(1).is_none()
                || token.starts_with("<0x")
                || unknown.is_some_and(|unknown| unknown == *token)
        });
        self.build(symbols.chain(&self.added), &[])
    }

    /// The model with all tokens that can come of these symbols, one after the other.
    pub(super) fn merging(&self, symbols: &str) -> Option<ModelWrapper> {
        let text = Parts::of(symbols);
        let tokens = self.ids.iter().filter(|(token, _)| self.whole || text.has(token));
        self.build(tokens, &self.merges)
    }

    /// The model of some tokens, and of the merges that need no others.
    fn build<'i>(
        &self,
        tokens: impl Iterator<Item = (&'i &'m str, &'i u32)>,
        merges: &[(&str, &str)],
    ) -> Option<ModelWrapper>
    where
        'm: 'i,
    {
        let vocabulary: AHashMap<String, u32> =
            tokens.map(|(token, id)| ((*token).to_owned(), *id)).collect();
        let mut merged = String::new();
        let merges = merges.iter().filter(|(a, b)| {
            merged.clear();
            merged.extend([*a, *b]);
            [*a, *b, &merged].iter().all(|token| vocabulary.contains_key(*token))
        });
        let merges = merges.map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let mut model = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .cache_capacity(0)
            .fuse_unk(self.file.fuse_unk.unwrap_or(false))
            .byte_fallback(self.file.byte_fallback.unwrap_or(false))
            .ignore_merges(self.file.ignore_merges.unwrap_or(false));
        if let Some(token) = given(&self.file.unk_token) {
            model = model.unk_token(token.clone());
        }
        if let Some(suffix) = given(&self.file.end_of_word_suffix) {
            model = model.end_of_word_suffix(suffix.clone());
        }
        model.build().ok().map(Into::into)
    }
}

/// The parts of a text, found by their first two characters.
struct Parts<'t> {
    text: &'t str,
    pairs: HashMap<[char; 2], Vec<usize>>,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Self {
        let mut pairs: HashMap<_, Vec<usize>> = HashMap::new();
        let chars = text.char_indices();
        for ((at, first), second) in chars.zip(text.chars().skip(1)) {
            pairs.entry([first, second]).or_default().push(at);
        }
        Self { text, pairs }
    }

    /// Whether the text has this part; single characters are taken to be there.
    fn has(&self, part: &str) -> bool {
        let mut chars = part.chars();
        let (Some(first), Some(second)) = (chars.next(), chars.next()) else { return true };
        let places = self.pairs.get(&[first, second]);
        places.is_some_and(|places| {
            places.iter().any(|at| self.text.get(*at..).is_some_and(|rest| rest.starts_with(part)))
        })
    }
}
