//! How a text is split into words.

use std::{ops::Range, sync::LazyLock};

use fancy_regex::Regex;
use serde::Deserialize;

use super::{
    Piece, in_bytes,
    pattern::{Behavior, PUNCTUATION, Pattern, Stretch, characters, stretches},
    product,
};

/// A pre-tokenizer with the settings that the library needs.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum PreTokenizer {
    #[serde(rename = "BertPreTokenizer")]
    Bert,
    ByteLevel {
        add_prefix_space: bool,
        /// Of no effect on ids, but the library needs it.
        #[serde(rename = "trim_offsets")]
        _trim_offsets: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
    Digits {
        individual_digits: bool,
    },
    Punctuation {
        #[serde(default = "isolated")]
        behavior: Behavior,
    },
    Sequence {
        pretokenizers: Vec<Self>,
    },
    Split {
        pattern: Pattern,
        behavior: Behavior,
        invert: bool,
    },
    Whitespace,
    WhitespaceSplit,
}

fn yes() -> bool {
    true
}

fn isolated() -> Behavior {
    Behavior::Isolated
}

/// An expression that is known to be sound.
macro_rules! sound {
    ($name:ident, $regex:literal) => {
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($regex).expect("the expression is sound, as a test shows"));
    };
}

// GPT-2's.
sound!(BYTE_LEVEL, r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+");
sound!(WORDS, r"\w+|[^\w\s]+");

impl PreTokenizer {
    /// How many times as many bytes this may make of a text, at most.
    pub(super) fn growth(&self) -> usize {
        match self {
            Self::Sequence { pretokenizers } => product(pretokenizers.iter().map(Self::growth)),
            Self::ByteLevel { .. } => 2,
            _ => 1,
        }
    }

    /// Splits the pieces that are no tokens; `None` if a search takes too long.
    pub(super) fn split(&self, pieces: Vec<Piece>) -> Option<Vec<Piece>> {
        match self {
            Self::Bert => {
                let pieces = split(pieces, spaces)?;
                split(pieces, punctuation(Behavior::Isolated))
            }
            Self::ByteLevel { add_prefix_space, use_regex, .. } => {
                let mut pieces = pieces;
                if *add_prefix_space {
                    each(&mut pieces, |text| match text.starts_with(' ') {
                        true => text,
                        false => format!(" {text}"),
                    });
                }
                if *use_regex {
                    pieces = split(pieces, |text| {
                        Some(Behavior::Isolated.parts(stretches(&BYTE_LEVEL, text)?))
                    })?;
                }
                each(&mut pieces, |text| in_bytes(&text));
                Some(pieces)
            }
            Self::Digits { individual_digits } => {
                let behavior =
                    if *individual_digits { Behavior::Isolated } else { Behavior::Contiguous };
                split(pieces, |text| Some(behavior.parts(characters(text, char::is_numeric))))
            }
            Self::Punctuation { behavior } => split(pieces, punctuation(*behavior)),
            Self::Sequence { pretokenizers } => {
                pretokenizers.iter().try_fold(pieces, |pieces, step| step.split(pieces))
            }
            Self::Split { pattern, behavior, invert } => split(pieces, |text| {
                let stretches = pattern.stretches(text)?;
                Some(behavior.parts(if *invert { inverted(stretches) } else { stretches }))
            }),
            Self::Whitespace => split(pieces, |text| {
                Some(Behavior::Removed.parts(inverted(stretches(&WORDS, text)?)))
            }),
            Self::WhitespaceSplit => split(pieces, spaces),
        }
    }
}

/// Changes the pieces that are no tokens.
fn each(pieces: &mut [Piece], change: impl Fn(String) -> String) {
    for piece in pieces {
        if let Piece::Text(text) = piece {
            *text = change(std::mem::take(text));
        }
    }
}

/// Splits the pieces that are no tokens into the parts that are not empty.
fn split(
    pieces: Vec<Piece>,
    parts: impl Fn(&str) -> Option<Vec<Range<usize>>>,
) -> Option<Vec<Piece>> {
    let mut split = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece {
            Piece::Token(_) => split.push(piece),
            Piece::Text(text) => {
                for range in parts(&text)?.into_iter().filter(|range| !range.is_empty()) {
                    split.push(Piece::Text(text.get(range)?.to_owned()));
                }
            }
        }
    }
    Some(split)
}

/// The parts between white space.
fn spaces(text: &str) -> Option<Vec<Range<usize>>> {
    Some(Behavior::Removed.parts(characters(text, char::is_whitespace)))
}

/// The parts that punctuation, with ASCII's symbols, splits a text into.
fn punctuation(behavior: Behavior) -> impl Fn(&str) -> Option<Vec<Range<usize>>> {
    let matches = |c: char| c.is_ascii_punctuation() || PUNCTUATION.has(c);
    move |text| Some(behavior.parts(characters(text, matches)))
}

fn inverted(stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.into_iter().map(|(range, matches)| (range, !matches)).collect()
}
