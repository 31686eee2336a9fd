//! Patterns: which stretches of a text they match, and what a text is split into by them.

use std::{ops::Range, sync::LazyLock};

use fancy_regex::Regex;
use serde::Deserialize;

/// A pattern of a file, a literal one too: the library searches for both with regular expressions.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Written")]
pub(super) struct Pattern(Regex);

#[derive(Deserialize)]
enum Written {
    String(String),
    Regex(String),
}

impl TryFrom<Written> for Pattern {
    type Error = Box<fancy_regex::Error>;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let regex = match written {
            Written::String(text) => Regex::new(&regex::escape(&text)),
            Written::Regex(regex) => Regex::new(&regex),
        };
        regex.map(Self).map_err(Box::new)
    }
}

/// A stretch of a text and whether it matches.
pub(super) type Stretch = (Range<usize>, bool);

impl Pattern {
    /// The stretches of a text, one after the other; `None` if the search takes too long.
    pub(super) fn stretches(&self, text: &str) -> Option<Vec<Stretch>> {
        stretches(&self.0, text)
    }
}

/// The stretches that match an expression and those between them. A stretch that matches may be empty.
pub(super) fn stretches(regex: &Regex, text: &str) -> Option<Vec<Stretch>> {
    let (mut stretches, mut done) = (Vec::new(), 0);
    if text.is_empty() {
        return Some(vec![(0..0, false)]);
    }
    for found in regex.find_iter(text) {
        let found = found.ok()?;
        // `\K` in a look-around can put the start of a match anywhere.
        if found.start() < done || found.end() < found.start() {
            return None;
        }
        if done < found.start() {
            stretches.push((done..found.start(), false));
        }
        stretches.push((found.start()..found.end(), true));
        done = found.end();
    }
    if done < text.len() {
        stretches.push((done..text.len(), false));
    }
    Some(stretches)
}

/// The characters that match and the stretches between them.
pub(super) fn characters(text: &str, matches: impl Fn(char) -> bool) -> Vec<Stretch> {
    let (mut stretches, mut done) = (Vec::new(), 0);
    for (start, c) in text.char_indices().filter(|(_, c)| matches(*c)) {
        if done < start {
            stretches.push((done..start, false));
        }
        done = start + c.len_utf8();
        stretches.push((start..done, true));
    }
    if done < text.len() {
        stretches.push((done..text.len(), false));
    }
    stretches
}

/// What becomes of the stretches that match where a text is split.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) enum Behavior {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

impl Behavior {
    /// The parts that a text of these stretches is split into; some may be empty.
    pub(super) fn parts(self, stretches: Vec<Stretch>) -> Vec<Range<usize>> {
        let all = stretches.into_iter();
        match self {
            Self::Removed => all.filter(|(_, matches)| !matches).map(|(range, _)| range).collect(),
            Self::Isolated => all.map(|(range, _)| range).collect(),
            Self::Contiguous => joined(all, |matches, before| matches == before),
            Self::MergedWithPrevious => joined(all, |matches, before| matches && !before),
            Self::MergedWithNext => {
                let mut parts = joined(all.rev(), |matches, before| matches && !before);
                parts.reverse();
                parts
            }
        }
    }
}

/// Neighbours as one where `joins` says so of whether they match, the later one first.
fn joined(
    stretches: impl Iterator<Item = Stretch>,
    joins: impl Fn(bool, bool) -> bool,
) -> Vec<Range<usize>> {
    let (mut parts, mut before) = (Vec::<Range<usize>>::new(), false);
    for (range, matches) in stretches {
        match parts.last_mut() {
            Some(part) if joins(matches, before) => {
                *part = part.start.min(range.start)..part.end.max(range.end);
            }
            _ => parts.push(range),
        }
        before = matches;
    }
    parts
}

/// A class of characters, compiled when it is first needed.
pub(super) struct Class(LazyLock<regex::Regex>);

macro_rules! class {
    ($(#[$doc:meta])* $name:ident, $class:literal) => {
        $(#[$doc])*
        pub(super) static $name: Class = Class(LazyLock::new(|| {
            regex::Regex::new($class).expect("the class is sound, as a test shows")
        }));
    };
}

class!(/// Marks that take no room.
    NONSPACING_MARK, r"^\p{Mn}");
class!(/// Control characters, formats and private use, which BERT drops.
    OTHER, r"^[\p{Cc}\p{Cf}\p{Co}]");
class!(PUNCTUATION, r"^\p{P}");
class!(/// What words consist of.
    WORD, r"^\w");

impl Class {
    pub(super) fn has(&self, c: char) -> bool {
        self.0.is_match(c.encode_utf8(&mut [0; 4]))
    }
}
