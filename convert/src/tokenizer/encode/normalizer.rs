//! What is done to a text before it is split.

use serde::Deserialize;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use super::{
    in_bytes,
    pattern::{NONSPACING_MARK, OTHER, Pattern},
    product,
};

/// A normalizer with the settings that the library needs.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Normalizer {
    #[serde(rename = "BertNormalizer")]
    Bert {
        clean_text: bool,
        handle_chinese_chars: bool,
        strip_accents: Option<bool>,
        lowercase: bool,
    },
    ByteLevel,
    Lowercase,
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(rename = "NFD")]
    Nfd,
    #[serde(rename = "NFKC")]
    Nfkc,
    #[serde(rename = "NFKD")]
    Nfkd,
    Prepend {
        prepend: String,
    },
    Replace {
        pattern: Pattern,
        content: String,
    },
    Sequence {
        normalizers: Vec<Self>,
    },
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
    StripAccents,
}

impl Normalizer {
    /// How many times as many bytes this may make of a text, at most.
    pub(super) fn growth(&self) -> usize {
        match self {
            Self::Sequence { normalizers } => product(normalizers.iter().map(Self::growth)),
            // A pattern may match nothing, between any two characters.
            Self::Replace { content, .. } => content.len().saturating_add(1),
            Self::Prepend { prepend } => prepend.len().saturating_add(1),
            // U+FDFA becomes eighteen letters.
            Self::Nfkc | Self::Nfkd => 12,
            Self::Nfc | Self::Nfd | Self::Bert { .. } => 3,
            Self::ByteLevel | Self::Lowercase => 2,
            Self::Strip { .. } | Self::StripAccents => 1,
        }
    }

    /// The text normalized; `None` if a search takes too long, or for characters before the first one.
    ///
    /// The library records where each character comes from. One that is put before the first by an empty match or an
    /// empty prefix comes from nowhere there, and the next normalizer repeats it.
    pub(super) fn normalize(&self, text: &str) -> Option<String> {
        Some(match self {
            Self::Bert { clean_text, handle_chinese_chars, strip_accents, lowercase } => {
                let mut text = text.to_owned();
                if *clean_text {
                    text = cleaned(&text);
                }
                if *handle_chinese_chars {
                    text = with_spaces_around_chinese(&text);
                }
                if strip_accents.unwrap_or(*lowercase) {
                    text = text.nfd().filter(|c| !NONSPACING_MARK.has(*c)).collect();
                }
                if *lowercase { lower(&text) } else { text }
            }
            Self::ByteLevel => in_bytes(text),
            Self::Lowercase => lower(text),
            Self::Nfc => text.nfc().collect(),
            Self::Nfd => text.nfd().collect(),
            Self::Nfkc => text.nfkc().collect(),
            Self::Nfkd => text.nfkd().collect(),
            Self::Prepend { .. } if text.is_empty() => String::new(),
            Self::Prepend { prepend } if prepend.is_empty() => return None,
            Self::Prepend { prepend } => format!("{prepend}{text}"),
            Self::Replace { pattern, content } => replaced(text, pattern, content)?,
            Self::Sequence { normalizers } => {
                let mut text = text.to_owned();
                for normalizer in normalizers {
                    text = normalizer.normalize(&text)?;
                }
                text
            }
            Self::Strip { strip_left, strip_right } => {
                let text = if *strip_left { text.trim_start() } else { text };
                let text = if *strip_right { text.trim_end() } else { text };
                text.to_owned()
            }
            Self::StripAccents => text.chars().filter(|c| !is_combining_mark(*c)).collect(),
        })
    }
}

/// Without characters that show nothing, and with one kind of space.
fn cleaned(text: &str) -> String {
    let dropped = |c: char| {
        matches!(c, '\0' | char::REPLACEMENT_CHARACTER)
            || !matches!(c, '\t' | '\n' | '\r') && OTHER.has(c)
    };
    let kept = text.chars().filter(|c| !dropped(*c));
    kept.map(|c| if c.is_whitespace() { ' ' } else { c }).collect()
}

fn with_spaces_around_chinese(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    for c in text.chars() {
        if is_chinese(c) {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced
}

/// Chinese characters as BERT's tokenizer counts them.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

/// Character by character: a sigma at the end of a word is one as any other.
fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

fn replaced(text: &str, pattern: &Pattern, content: &str) -> Option<String> {
    let mut new = String::with_capacity(text.len());
    for (range, matches) in pattern.stretches(text)? {
        match matches {
            true if range.end == 0 && !content.is_empty() => return None,
            true => new.push_str(content),
            false => new.push_str(text.get(range)?),
        }
    }
    Some(new)
}
