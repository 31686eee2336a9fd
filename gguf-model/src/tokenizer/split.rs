//! Splits text into the words that byte-level BPE works on.
//!
//! Models have regular expressions for it. llama.cpp matches those that name general categories
//! against text in which each character outside ASCII is replaced by one byte for its category; so do
//! we, and not only because the words are the same then: expressions on bytes are small, and the
//! automata of `regex-automata` go over a text in linear time, whatever is in it. The look-ahead that
//! nearly all expressions end with, for white space, is done here; see [`SPACES`].

use std::{fmt, ops::Range};

use regex_automata::{
    Input,
    meta::{Config, Regex},
    util::syntax,
};

use super::{categories::Category, unicode::is_han};

/// One way to split each word further. Matches are words, and so is what is between them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Split {
    /// At the matches of an expression with categories.
    Categories(&'static str),
    /// At the matches of an expression without.
    Text(&'static str),
    /// Behind every third digit of a number, counted from its end. What is before a number belongs to
    /// its first digits.
    DigitGroups,
    /// Before every third ASCII digit of a number, counted from its end.
    Thousands,
}

/// What expressions end with: white space goes to one word, but for its last character where
/// something follows.
const SPACES: [&str; 2] = [r"|\s+(?!\S)|\s+", r"|\s+(?!\S)"];

/// The same by powers of two: Jais 2 has tokens of that many spaces.
const POWERS: &str = r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";

/// The bytes that stand for characters outside ASCII, with the ASCII characters that expressions mean
/// too. Han characters have bytes of their own where an expression names them: letters 0xD6, others 0xD7.
const CATEGORIES: [(&str, &str); 6] = [
    (r"\p{L}", r"\xD2A-Za-z"),
    (r"\p{N}", r"\xD10-9"),
    (r"\p{P}", r"\xD3!-#%-*,-/:;?@\[\\\]_{}"),
    (r"\p{M}", r"\xD4"),
    (r"\p{S}", r"\xD5$+<->^`|~"),
    (r"\p{Han}", r"\xD6\xD7"),
];

/// Splits compiled.
#[derive(Debug)]
pub(super) struct Splitter {
    steps: Vec<Step>,
    /// Whether Han characters are not letters.
    has_han: bool,
}

enum Step {
    Categories(Expression),
    Text(Expression),
    DigitGroups,
    Thousands,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Categories(_) => "Categories",
            Self::Text(_) => "Text",
            Self::DigitGroups => "DigitGroups",
            Self::Thousands => "Thousands",
        })
    }
}

/// An expression of which a second pattern matches white space that is looked at afterwards.
struct Expression {
    regex: Regex,
    by_powers: bool,
}

impl Splitter {
    pub(super) fn new(splits: &[Split]) -> Self {
        let has_han =
            splits.iter().any(|split| matches!(split, Split::Categories(it) if it.contains("Han")));
        let steps = splits
            .iter()
            .map(|split| match split {
                Split::Categories(expression) => {
                    Step::Categories(Expression::new(&in_bytes(expression), false))
                }
                Split::Text(expression) => Step::Text(Expression::new(expression, true)),
                Split::DigitGroups => Step::DigitGroups,
                Split::Thousands => Step::Thousands,
            })
            .collect();
        Self { steps, has_han }
    }

    /// The words of a text, as ranges of its characters that cover it.
    pub(super) fn words(&self, text: &[char]) -> Vec<Range<usize>> {
        let bytes: Vec<u8> = text.iter().map(|&character| self.byte(character)).collect();
        let mut words: Vec<_> = std::iter::once(0..text.len()).collect();
        let mut last = Vec::new();
        for step in &self.steps {
            std::mem::swap(&mut words, &mut last);
            words.clear();
            for word in last.iter().filter(|word| !word.is_empty()).cloned() {
                match step {
                    Step::Categories(expression) => expression.categories(&bytes, word, &mut words),
                    Step::Text(expression) => expression.text(text, word, &mut words),
                    Step::DigitGroups => digit_groups(&bytes, word, &mut words),
                    Step::Thousands => thousands(text, word, &mut words),
                }
            }
        }
        words
    }

    fn byte(&self, character: char) -> u8 {
        if let Ok(ascii) = u8::try_from(character)
            && ascii.is_ascii()
        {
            return ascii;
        }
        if character.is_whitespace() {
            return 0x0B;
        }
        match Category::of(character) {
            // Of the ranges of Han characters some are not assigned.
            Category::Letter if self.has_han && is_han(character) => 0xD6,
            _ if self.has_han && is_han(character) => 0xD7,
            Category::Number => 0xD1,
            Category::Letter => 0xD2,
            Category::Punctuation => 0xD3,
            Category::Mark => 0xD4,
            Category::Symbol => 0xD5,
            Category::Unassigned | Category::Separator | Category::Control => 0xD0,
        }
    }
}

impl Expression {
    fn new(expression: &str, unicode: bool) -> Self {
        let main = expression.strip_suffix(POWERS);
        let by_powers = main.is_some();
        let ending = |ending: &&str| expression.strip_suffix(ending);
        let main = main.or_else(|| SPACES.iter().find_map(ending));
        let patterns = match main {
            Some(main) => vec![main, r"\s+"],
            None => vec![expression],
        };
        let regex = Regex::builder()
            .configure(Config::new().utf8_empty(unicode))
            .syntax(syntax::Config::new().unicode(unicode).utf8(unicode))
            .build_many(&patterns)
            .expect("the expressions of the table are sound, as a test shows");
        Self { regex, by_powers }
    }

    fn categories(&self, bytes: &[u8], word: Range<usize>, words: &mut Vec<Range<usize>>) {
        let (begin, bytes) = (word.start, &bytes[word]);
        let mut done = 0;
        while let Some(found) = self.regex.find(Input::new(bytes).range(done..)) {
            let (start, mut end) = (found.start(), found.end());
            if found.pattern().as_usize() == 1 {
                // Something that is not white space follows, unless this is the end.
                let len = end - start;
                let free = if end < bytes.len() { len - 1 } else { len };
                let taken = if self.by_powers { power_of_two(free) } else { free };
                end = start + taken.max(1);
            }
            if end == start {
                break;
            }
            push(words, begin + done..begin + start);
            push(words, begin + start..begin + end);
            done = end;
        }
        push(words, begin + done..begin + bytes.len());
    }

    fn text(&self, text: &[char], word: Range<usize>, words: &mut Vec<Range<usize>>) {
        // As in text of categories, white space outside ASCII is a vertical tab.
        let is_space = |character: char| !character.is_ascii() && character.is_whitespace();
        let ascii = |&character: &char| if is_space(character) { '\x0B' } else { character };
        let haystack: String = text[word.clone()].iter().map(ascii).collect();
        let (mut at, mut byte) = (word.start, 0);
        for found in self.regex.find_iter(&haystack) {
            let start = at + haystack[byte..found.start()].chars().count();
            let end = start + haystack[found.range()].chars().count();
            push(words, at..start);
            push(words, start..end);
            (at, byte) = (end, found.end());
        }
        push(words, at..word.end);
    }
}

fn push(words: &mut Vec<Range<usize>>, word: Range<usize>) {
    if !word.is_empty() {
        words.push(word);
    }
}

/// The greatest power of two up to `len` and 512.
fn power_of_two(len: usize) -> usize {
    1 << len.min(512).checked_ilog2().unwrap_or(0)
}

/// An expression on bytes for one with categories.
fn in_bytes(expression: &str) -> String {
    let mut bytes = String::with_capacity(2 * expression.len());
    let mut in_class = false;
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let named = CATEGORIES.iter().find(|(name, _)| rest.starts_with(name));
        let taken = match (named, first) {
            (Some((name, class)), _) if in_class => {
                bytes.push_str(class);
                name.len()
            }
            (Some((name, class)), _) => {
                bytes.extend(["[", class, "]"]);
                name.len()
            }
            (None, '\\') => {
                // With what it escapes.
                let len = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                bytes.push_str(&rest[..len]);
                len
            }
            (None, _) => {
                in_class = first == '[' || in_class && first != ']';
                bytes.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    bytes
}

fn digit_groups(bytes: &[u8], word: Range<usize>, words: &mut Vec<Range<usize>>) {
    let is_number = |at: usize| matches!(bytes.get(at), Some(b'0'..=b'9' | 0xD1));
    let (mut at, mut done) = (word.start, word.start);
    while at < word.end {
        if !is_number(at) {
            at += 1;
            continue;
        }
        let end = (at..word.end).find(|&at| !is_number(at)).unwrap_or(word.end);
        let first = match (end - at) % 3 {
            0 => 3,
            rest => rest,
        };
        for cut in (at + first..=end).step_by(3) {
            words.push(done..cut);
            done = cut;
        }
        at = end;
    }
    push(words, done..word.end);
}

fn thousands(text: &[char], word: Range<usize>, words: &mut Vec<Range<usize>>) {
    let is_digit = |at: usize| text.get(at).is_some_and(char::is_ascii_digit);
    let (mut at, mut done) = (word.start, word.start);
    while at < word.end {
        if !is_digit(at) {
            at += 1;
            continue;
        }
        let end = (at..word.end).find(|&at| !is_digit(at)).unwrap_or(word.end);
        for cut in (at + (end - at) % 3..end).step_by(3) {
            push(words, done..cut);
            done = cut;
        }
        at = end;
    }
    push(words, done..word.end);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'a>(splits: &[Split], text: &'a str) -> Vec<&'a str> {
        let characters: Vec<char> = text.chars().collect();
        let at = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
        let words = Splitter::new(splits).words(&characters);
        assert!(words.windows(2).all(|pair| pair[0].end == pair[1].start));
        words.into_iter().map(|word| &text[at(word.start)..at(word.end)]).collect()
    }

    #[test]
    fn white_space_keeps_its_last_character_for_what_follows() {
        let splits = [Split::Categories(r" ?\p{L}+|\s+(?!\S)|\s+")];
        assert_eq!(
            words(&splits, "a   b\t c \u{3000}\u{3000}é  "),
            ["a", "  ", " b", "\t", " c", " \u{3000}", "\u{3000}", "é", "  "]
        );
        assert_eq!(words(&splits, " "), [" "]);
        assert!(words(&splits, "").is_empty());
    }

    #[test]
    fn white_space_by_powers_of_two() {
        let splits = [Split::Categories(concat!(
            r"\p{L}+|\s*[\r\n]+",
            r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"
        ))];
        let lens = |spaces: usize, after: &str| {
            let text = " ".repeat(spaces) + after;
            words(&splits, &text).iter().map(|word| word.len()).collect::<Vec<_>>()
        };
        assert_eq!(lens(1300, ""), [512, 512, 256, 16, 4]);
        assert_eq!(lens(8, "a"), [4, 2, 1, 1, 1]);
        assert_eq!(lens(3, ""), [2, 1]);
    }

    #[test]
    fn digits_in_groups() {
        assert_eq!(
            words(&[Split::DigitGroups], "ab1234567, 12٣456 7x"),
            ["ab1", "234", "567", ", 12٣", "456", " 7", "x"]
        );
        assert_eq!(words(&[Split::Thousands], "ab1234567,123x"), ["ab1", "234", "567,", "123x"]);
    }

    #[test]
    fn categories_become_bytes() {
        assert_eq!(in_bytes(r"\p{N}{1,3}|[^\p{L}\]x]"), r"[\xD10-9]{1,3}|[^\xD2A-Za-z\]x]");
    }

    #[test]
    fn no_text_takes_more_than_linear_time() {
        let splits = [Split::Categories(
            r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|\s*[\r\n]|\s+(?!\S)|\s+",
        )];
        let text = "a \u{300}".repeat(20_000) + "!";
        assert!(words_count(&splits, &text) > 1);
    }

    fn words_count(splits: &[Split], text: &str) -> usize {
        Splitter::new(splits).words(&text.chars().collect::<Vec<_>>()).len()
    }
}
