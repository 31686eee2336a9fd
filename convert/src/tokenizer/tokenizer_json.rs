//! tokenizer.json, the file of Hugging Face's `tokenizers` library.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::{
    Error, Result,
    error::{DOWNLOAD, Quoted},
    json,
};

/// The parts of tokenizer.json that a conversion needs.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenizerJson {
    #[serde(skip)]
    path: PathBuf,
    #[serde(default, deserialize_with = "or_empty")]
    pub(crate) added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub(crate) normalizer: Option<Value>,
    #[serde(default)]
    pub(crate) pre_tokenizer: Option<Value>,
    #[serde(default)]
    pub(crate) post_processor: Option<Value>,
    #[serde(default)]
    pub(crate) decoder: Option<Value>,
    pub(crate) model: Model,
}

/// A token that is found in the text before anything else is done to it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) special: bool,
    #[serde(default)]
    pub(crate) normalized: bool,
    #[serde(default)]
    pub(crate) lstrip: bool,
    #[serde(default)]
    pub(crate) rstrip: bool,
    #[serde(default)]
    pub(crate) single_word: bool,
}

/// The vocabulary and how its tokens are found.
#[derive(Debug, Deserialize)]
pub(crate) struct Model {
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) vocab: Vocabulary,
    #[serde(default)]
    pub(crate) merges: Option<Vec<Merge>>,
    #[serde(default)]
    pub(crate) byte_fallback: Option<bool>,
    #[serde(default)]
    pub(crate) ignore_merges: Option<bool>,
    #[serde(default)]
    pub(crate) fuse_unk: Option<bool>,
    #[serde(default)]
    pub(crate) unk_token: Option<String>,
    #[serde(default)]
    pub(crate) unk_id: Option<u64>,
    #[serde(default)]
    pub(crate) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(crate) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(crate) max_input_chars_per_word: Option<usize>,
}

/// Tokens and their ids.
#[derive(Debug)]
pub(crate) enum Vocabulary {
    Ids(Vec<(String, u32)>),
    /// Unigram models list tokens with scores, in the order of their ids.
    Scored(Vec<(String, f64)>),
}

/// Two tokens that become one, as they are written to GGUF.
#[derive(Debug)]
pub(crate) struct Merge(pub(crate) String);

impl TokenizerJson {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = json::read_bytes(path, json::TOKENIZER)?;
        json::object_begins(path, &bytes)?;
        let mut tokenizer: Self = json::parse(path, &bytes)?;
        tokenizer.path = path.to_path_buf();
        Ok(tokenizer)
    }

    /// One of this content, as if read from `path`.
    pub(crate) fn made(path: &Path, content: Value) -> Result<Self> {
        let mut tokenizer: Self = json::parse(path, content.to_string().as_bytes())?;
        tokenizer.path = path.to_path_buf();
        Ok(tokenizer)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the model is BPE; files older than the key have no other.
    pub(crate) fn is_bpe(&self) -> bool {
        match self.model.kind.as_deref() {
            Some(kind) => kind == "BPE",
            None => self.model.merges.is_some(),
        }
    }

    /// Whether the model is WordPiece, BERT's kind.
    pub(crate) fn is_word_piece(&self) -> bool {
        self.model.kind.as_deref() == Some("WordPiece")
    }

    /// Whether the model chooses tokens by their scores.
    pub(crate) fn is_unigram(&self) -> bool {
        self.model.kind.as_deref() == Some("Unigram")
    }

    /// Whether this is SentencePiece's BPE: unknown bytes are tokens or spaces are marked, and text
    /// is not mapped to bytes.
    pub(crate) fn is_byte_fallback(&self) -> bool {
        self.is_bpe()
            && !self.splits_bytes()
            && !self.decodes_bytes()
            && (self.model.byte_fallback == Some(true) || self.marks_spaces() || self.adds_space())
    }

    /// Warns of what BPE may add to the tokens of a word, which llama.cpp does not.
    pub(crate) fn warn_of_affixes(&self) {
        let model = &self.model;
        for (name, affix) in [
            ("continuing_subword_prefix", &model.continuing_subword_prefix),
            ("end_of_word_suffix", &model.end_of_word_suffix),
        ] {
            if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
                tracing::warn!(
                    kind = "tokenizer-steps",
                    "tokenizer.json marks parts of words with {} ({name}), which llama.cpp does not do with \
                     BPE: texts will be split otherwise than by transformers",
                    Quoted(affix)
                );
            }
        }
    }

    /// Whether text is mapped to bytes before it is split.
    pub(crate) fn splits_bytes(&self) -> bool {
        self.pre_tokenizer.iter().flat_map(parts).any(|part| is(part, "ByteLevel"))
    }

    /// Whether tokens are turned back into text byte by byte.
    pub(crate) fn decodes_bytes(&self) -> bool {
        self.decoder.iter().flat_map(parts).any(|part| is(part, "ByteLevel"))
    }

    /// Whether the normalizer makes marks of spaces, as SentencePiece does.
    pub(crate) fn marks_spaces(&self) -> bool {
        self.normalizer.iter().flat_map(parts).any(marks)
    }

    /// Whether a space is put before the text: by the normalizer or by the pre-tokenizer.
    pub(crate) fn adds_space(&self) -> bool {
        let prepends =
            |part: &Value| is(part, "Prepend") && part.get("prepend") == Some(&MARK.into());
        let metaspace = |part: &Value| {
            let scheme = part.get("prepend_scheme").and_then(Value::as_str);
            let older = part.get("add_prefix_space").and_then(Value::as_bool);
            is(part, "Metaspace")
                && scheme.map_or(older.unwrap_or(true), |scheme| scheme != "never")
        };
        self.normalizer.iter().flat_map(parts).any(prepends)
            || self.pre_tokenizer.iter().flat_map(parts).any(metaspace)
    }

    /// Whether several spaces become one.
    pub(crate) fn joins_spaces(&self) -> bool {
        let runs = |part: &Value| {
            let regex = part.pointer("/pattern/Regex").and_then(Value::as_str);
            is(part, "Replace") && regex == Some(" {2,}")
        };
        self.normalizer.iter().flat_map(parts).any(runs)
            || self.pre_tokenizer.iter().flat_map(parts).any(|part| is(part, "WhitespaceSplit"))
    }

    /// The steps before the model that llama.cpp has no part for with SentencePiece's vocabularies.
    pub(crate) fn other_steps(&self) -> Vec<&str> {
        let plain = |part: &&Value| {
            marks(part)
                || is(part, "Prepend")
                || is(part, "Metaspace")
                // Gemma's: no space is left there to split at.
                || is(part, "Split") && part.pointer("/pattern/String") == Some(&" ".into())
        };
        let steps = self.normalizer.iter().chain(&self.pre_tokenizer).flat_map(parts);
        steps.filter(|part| !plain(part)).filter_map(|part| part.get("type")?.as_str()).collect()
    }

    pub(crate) fn wrong(&self, place: &str, found: String, expected: impl Into<String>) -> Error {
        Error::Tokenizer {
            path: self.path.clone(),
            place: place.into(),
            found,
            expected: expected.into(),
            help: DOWNLOAD,
        }
    }

    /// Tokens and ids of a BPE or WordPiece model.
    pub(crate) fn ids(&self) -> Result<&[(String, u32)]> {
        match &self.model.vocab {
            Vocabulary::Ids(ids) if self.is_bpe() || self.is_word_piece() => Ok(ids),
            _ => Err(self.unsuited()),
        }
    }

    /// A model of a kind that the architecture cannot have.
    pub(crate) fn unsuited(&self) -> Error {
        let found = match self.model.kind.as_deref() {
            Some("Unigram") => "a unigram model, which chooses tokens by their scores".to_owned(),
            Some(kind) => Quoted(kind).to_string(),
            None => "none".to_owned(),
        };
        Error::Tokenizer {
            path: self.path.clone(),
            place: "model.type".into(),
            found,
            expected: "BPE, which merges tokens, as llama.cpp does for this architecture".into(),
            help: "if the model was published with a BPE tokenizer (tokenizer.model or \
                   tokenizer.json), put its files here; a text would be split otherwise with this one",
        }
    }
}

/// The mark that SentencePiece puts in place of a space.
pub(crate) const MARK: &str = "▁";

/// A normalizer, pre-tokenizer or decoder without the sequences it is in. The JSON reader bounds
/// how deep they are.
fn parts(part: &Value) -> Vec<&Value> {
    let lists = ["normalizers", "pretokenizers", "decoders"];
    match lists.into_iter().find_map(|key| part.get(key)?.as_array()) {
        Some(list) => list.iter().flat_map(parts).collect(),
        None => vec![part],
    }
}

fn is(part: &Value, kind: &str) -> bool {
    part.get("type").and_then(Value::as_str) == Some(kind)
}

/// Whether a part replaces spaces by marks.
fn marks(part: &Value) -> bool {
    is(part, "Replace")
        && part.pointer("/pattern/String") == Some(&" ".into())
        && part.get("content") == Some(&MARK.into())
}

/// `null` as an empty list.
fn or_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<AddedToken>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocabulary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
                let mut ids = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    ids.push(entry);
                }
                Ok(Vocabulary::Ids(ids))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocabulary, A::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = list.next_element()? {
                    tokens.push(token);
                }
                Ok(Vocabulary::Scored(tokens))
            }
        }
        from.deserialize_any(Tokens)
    }
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two tokens, in one text or in a list")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge, E> {
                Ok(Merge(text.to_owned()))
            }

            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Merge, E> {
                Ok(Merge(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merge, A::Error> {
                let (a, b, end) = (
                    list.next_element::<String>()?,
                    list.next_element::<String>()?,
                    list.next_element::<IgnoredAny>()?,
                );
                match (a, b, end) {
                    // GGUF separates the two by a space, so one inside is written the way
                    // byte-level BPE writes it.
                    (Some(a), Some(b), None) => {
                        Ok(Merge(format!("{} {}", a.replace(' ', "Ġ"), b.replace(' ', "Ġ"))))
                    }
                    _ => Err(A::Error::invalid_length(0, &self)),
                }
            }
        }
        from.deserialize_any(Pair)
    }
}
