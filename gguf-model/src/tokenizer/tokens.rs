//! The tokens of a vocabulary.

use std::collections::HashMap;

use gguf_io::{
    message::Quoted,
    metadata::{Array, Metadata, Value},
};

use crate::{Problem, ProblemKind, problem::described};

const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";

/// What a token is, as bits: some are two things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(u8);

impl Attributes {
    pub(super) const UNKNOWN: Self = Self(1);
    pub(super) const UNUSED: Self = Self(2);
    pub(super) const NORMAL: Self = Self(4);
    pub(super) const CONTROL: Self = Self(8);
    pub(super) const USER_DEFINED: Self = Self(16);
    pub(super) const BYTE: Self = Self(32);
    /// White space before the token belongs to it.
    pub(super) const STRIPS_LEFT: Self = Self(64);
    /// White space behind the token belongs to it.
    pub(super) const STRIPS_RIGHT: Self = Self(128);

    /// By the value of `token_type`.
    fn of_type(ty: i32) -> Self {
        match ty {
            1 => Self::NORMAL,
            2 => Self::UNKNOWN,
            3 => Self::CONTROL,
            4 => Self::USER_DEFINED,
            5 => Self::UNUSED,
            6 => Self::BYTE,
            _ => Self(0),
        }
    }

    /// Whether the two share a bit.
    pub(super) fn is(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Texts, scores and attributes, and the way from a text to its token.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    texts: Vec<Box<[u8]>>,
    scores: Vec<f32>,
    pub(super) attributes: Vec<Attributes>,
    by_text: HashMap<Box<[u8]>, u32>,
}

impl Tokens {
    pub(super) fn read(metadata: &Metadata) -> Result<Self, Problem> {
        let stored = match metadata.get(TOKENS) {
            Some(Value::Array(Array::String(stored))) if u32::try_from(stored.len()).is_ok() => {
                stored
            }
            found => return Err(wrong(TOKENS, found, "an array of strings")),
        };
        let count = stored.len();
        let scores = match metadata.get(SCORES) {
            None => vec![0.0; count],
            Some(Value::Array(Array::Float32(scores))) if scores.len() >= count => {
                scores[..count].to_vec()
            }
            Some(Value::Array(Array::Int32(scores))) if scores.len() >= count => {
                scores[..count].iter().map(|&score| score as f32).collect()
            }
            found => return Err(wrong(SCORES, found, "a FLOAT32 for each token")),
        };
        let attributes = match metadata.get(TYPES) {
            None => vec![Attributes::NORMAL; count],
            Some(Value::Array(Array::Int32(types))) if types.len() >= count => {
                types[..count].iter().map(|&ty| Attributes::of_type(ty)).collect()
            }
            found => return Err(wrong(TYPES, found, "an INT32 for each token")),
        };
        let texts: Vec<Box<[u8]>> = stored
            .iter()
            .enumerate()
            .map(|(id, text)| match text.as_bytes() {
                [] => format!("[EMPTY_{id}]").into_bytes().into(),
                text => text.into(),
            })
            .collect();
        // Of tokens with the same text the last is found.
        let by_text = texts.iter().cloned().zip(0u32..).collect();
        Ok(Self { texts, scores, attributes, by_text })
    }

    /// A vocabulary without texts, of which only the size is known.
    pub(super) fn nameless(count: u32) -> Self {
        let count = count as usize;
        Self { attributes: vec![Attributes::default(); count], ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.attributes.len()
    }

    /// Texts with their ids, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0u32..).zip(self.texts.iter().map(|text| &text[..]))
    }

    pub(super) fn text(&self, id: u32) -> &[u8] {
        self.texts.get(id as usize).map_or(&[], |text| text)
    }

    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        self.by_text.get(text).copied()
    }

    pub(super) fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or(0.0)
    }

    pub(super) fn is(&self, id: u32, attributes: Attributes) -> bool {
        self.attributes.get(id as usize).is_some_and(|own| own.is(attributes))
    }

    pub(super) fn add(&mut self, id: u32, attributes: Attributes) {
        if let Some(own) = self.attributes.get_mut(id as usize) {
            *own = own.or(attributes);
        }
    }

    pub(super) fn set(&mut self, id: u32, attributes: Attributes) {
        if let Some(own) = self.attributes.get_mut(id as usize) {
            *own = attributes;
        }
    }
}

/// The problem of a key whose value is not what loaders take, or that is missing.
pub(super) fn wrong(key: &str, found: Option<&Value>, expected: &str) -> Problem {
    let (kind, found) = match found {
        Some(value) => (ProblemKind::WrongKey, format!("is {}", described(value))),
        None => (ProblemKind::MissingKey, "is missing".to_owned()),
    };
    let message = format!("key {} {found}, expected {expected}", Quoted(key));
    Problem { kind, subject: key.to_owned(), message }
}
