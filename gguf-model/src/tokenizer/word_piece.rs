//! BERT's WordPiece: words, normalized, and the longest tokens that make each up.

use super::{
    categories::Category,
    prefixes::Prefixes,
    tokens::Tokens,
    unicode::{base, is_bert_chinese, lower},
};

#[derive(Debug)]
pub(super) struct WordPiece {
    prefixes: Prefixes,
    pub(super) lowercase: bool,
    pub(super) strip_accents: bool,
}

impl WordPiece {
    pub(super) fn new(tokens: &Tokens) -> Self {
        let prefixes = Prefixes::new(tokens.iter().map(|(id, text)| (text.into(), id)));
        Self { prefixes, lowercase: true, strip_accents: true }
    }

    pub(super) fn encode(&self, text: &[char], unknown: Option<u32>, output: &mut Vec<u32>) {
        for word in self.words(text) {
            // Tokens that begin a word have this mark, where BERT marks those that do not.
            let word = format!("\u{2581}{word}");
            let begin = output.len();
            let mut rest = word.as_bytes();
            while !rest.is_empty() {
                let Some((len, id)) = self.prefixes.of(rest).last() else {
                    output.truncate(begin);
                    break;
                };
                output.push(id);
                rest = &rest[len..];
            }
            if output.len() == begin {
                output.extend(unknown);
            }
        }
    }

    fn words(&self, text: &[char]) -> Vec<String> {
        let mut words = vec![String::new()];
        let end_word = |words: &mut Vec<String>| {
            if words.last().is_some_and(|word| !word.is_empty()) {
                words.push(String::new());
            }
        };
        for &character in text {
            let character = if self.strip_accents { base(character) } else { character };
            let category = Category::of(character);
            if character.is_whitespace() {
                end_word(&mut words);
                continue;
            }
            if matches!(character, '\0' | char::REPLACEMENT_CHARACTER)
                || category == Category::Control
                || self.strip_accents && category == Category::Mark
            {
                continue;
            }
            let alone = category == Category::Punctuation
                || character < '\x7F' && category == Category::Symbol
                || is_bert_chinese(character);
            if alone {
                end_word(&mut words);
            }
            if let Some(word) = words.last_mut() {
                word.push(if self.lowercase { lower(character) } else { character });
            }
            if alone {
                end_word(&mut words);
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }
}
