//! WordPiece: from the left, the longest tokens that make up a word.

use super::{super::tokenizer_json::Model as File, Ids, Model, given};

/// A WordPiece model.
pub(super) struct WordPiece<'m> {
    ids: &'m Ids<'m>,
    /// The length of the longest token in bytes.
    longest: usize,
    unknown: &'m str,
    /// What tokens inside a word begin with.
    prefix: &'m str,
    /// The characters that a word may have and not be unknown.
    most_characters: usize,
}

impl<'m> WordPiece<'m> {
    pub(super) fn new(file: &'m File, ids: &'m Ids<'m>) -> Self {
        Self {
            longest: ids.keys().map(|token| token.len()).max().unwrap_or(0),
            ids,
            unknown: given(&file.unk_token).unwrap_or("[UNK]"),
            prefix: given(&file.continuing_subword_prefix).unwrap_or("##"),
            most_characters: file.max_input_chars_per_word.unwrap_or(100),
        }
    }

    /// The length and the id of the longest token that the rest of a word begins with.
    fn first(&self, rest: &str, is_inside: bool) -> Option<(usize, u32)> {
        let mut token = String::new();
        let mut found = None;
        token.extend(is_inside.then_some(self.prefix));
        let marked = token.len();
        for c in rest.chars() {
            token.push(c);
            if token.len() > self.longest {
                break;
            }
            if let Some(&id) = self.ids.get(&*token) {
                found = Some((token.len() - marked, id));
            }
        }
        found
    }
}

impl Model for WordPiece<'_> {
    fn encode(&self, word: &str, ids: &mut Vec<u32>) -> Option<()> {
        let begin = ids.len();
        let mut rest = word;
        if word.chars().count() > self.most_characters {
            rest = "";
            ids.push(*self.ids.get(self.unknown)?);
        }
        while !rest.is_empty() {
            let Some((len, id)) = self.first(rest, rest.len() < word.len()) else {
                ids.truncate(begin);
                ids.push(*self.ids.get(self.unknown)?);
                break;
            };
            ids.push(id);
            rest = rest.get(len..)?;
        }
        Some(())
    }
}
