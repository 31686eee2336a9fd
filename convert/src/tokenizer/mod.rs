//! Tokenizers: the files of a checkpoint to GGUF's `tokenizer.*` keys.

mod byte_fallback;
mod byte_level;
mod fairseq;
mod hash;
mod hashes;
pub(crate) mod of_gguf;
pub mod pre;
mod sentencepiece;
mod special;
mod tokenizer_json;
mod unigram;
mod word_piece;

use std::path::{Path, PathBuf};

use gguf_io::metadata::Metadata;
use serde_json::Value;

use crate::{
    Config, Error, Result,
    json::{self, Object},
};

use special::Special;
use tokenizer_json::TokenizerJson;

/// A kind of tokenizer, by the files it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// SentencePiece: `tokenizer.model`.
    SentencePiece,
    /// SentencePiece's BPE with byte fallback, written as `tokenizer.json`.
    ByteFallback,
    /// Byte-level BPE, GPT-2's kind: `tokenizer.json`.
    ByteLevel,
    /// WordPiece, BERT's kind: `tokenizer.json` or `vocab.txt`.
    WordPiece,
    /// SentencePiece's unigram model, T5's kind: `tokenizer.model` or `spiece.model`.
    Unigram,
    /// SentencePiece's unigram model with the ids of fairseq, XLM-RoBERTa's kind:
    /// `sentencepiece.bpe.model` or `tokenizer.json`.
    Fairseq,
}

/// A key that depends on the model as well as on the tokenizer.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Adjustment {
    /// `add_prefix_space` of tokenizer_config.json is written, before everything else.
    AddPrefixSpace,
    /// As [`AddPrefixSpace`](Self::AddPrefixSpace), after everything else.
    AddPrefixSpaceLast,
    /// At this vocabulary size the end of a turn is this token.
    EndOfTurn {
        /// The vocabulary size that tells the model.
        vocab_size: u64,
        /// The token.
        id: u32,
    },
    /// At this vocabulary size no token is put before the text.
    NoBos {
        /// The vocabulary size that tells the model.
        vocab_size: u64,
    },
    /// The number of kinds of text segments is written, for tokenizers that do not always have it.
    Segments,
}

/// How to read a tokenizer.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Kinds to look for, in this order.
    pub kinds: &'a [Kind],
    /// Keys that depend on the model.
    pub adjustments: &'a [Adjustment],
    /// llama.cpp's name for the BPE pre-tokenizer, instead of finding it out.
    pub pre_tokenizer: Option<&'a str>,
    /// Write what llama.cpp's converter writes even where its file splits text otherwise than the
    /// checkpoint's own tokenizer.
    pub like_reference: bool,
}

/// Token types of GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// Tokens beyond any vocabulary: config.json must not make us pad billions of them.
const MOST_TOKENS: u64 = 1 << 24;

/// What the files hold, each read once.
pub(crate) struct Sources<'a> {
    dir: &'a Path,
    config: &'a Config,
    tokenizer: Option<TokenizerJson>,
    tokenizer_config: Option<Object>,
    special_tokens_map: Option<Object>,
    vocab_size: usize,
}

impl<'a> Sources<'a> {
    fn read(dir: &'a Path, config: &'a Config) -> Result<Self> {
        let tokenizer = dir.join("tokenizer.json");
        let vocab_size = match config.require("vocab_size")? {
            absurd if absurd > MOST_TOKENS => {
                let expected = format!("at most {MOST_TOKENS}");
                return Err(config.wrong("vocab_size", &absurd.to_string(), &expected));
            }
            size => usize::try_from(size).unwrap_or(usize::MAX),
        };
        Ok(Self {
            dir,
            config,
            tokenizer: tokenizer.is_file().then(|| TokenizerJson::read(&tokenizer)).transpose()?,
            tokenizer_config: json::read_optional(&dir.join("tokenizer_config.json"))?,
            special_tokens_map: json::read_optional(&dir.join("special_tokens_map.json"))?,
            vocab_size,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A key of tokenizer_config.json that is not `null`.
    fn setting(&self, key: &str) -> Option<&Value> {
        self.tokenizer_config.as_ref()?.get(key).filter(|value| !value.is_null())
    }

    /// A key of tokenizer_config.json, else of special_tokens_map.json.
    fn special(&self, key: &str) -> Option<&Value> {
        let map = || self.special_tokens_map.as_ref()?.get(key);
        self.setting(key).or_else(map).filter(|value| !value.is_null())
    }
}

/// Writes the `tokenizer.*` keys of the checkpoint in `dir`.
///
/// # Errors
/// If no tokenizer of the kinds asked for is there, one of its files is damaged, or its
/// pre-tokenizer has no known name.
pub fn write(
    dir: &Path,
    config: &Config,
    options: &Options<'_>,
    metadata: &mut Metadata,
) -> Result<()> {
    if let Some(name) = options.pre_tokenizer {
        pre::check_name(name)?;
    }
    let sources = Sources::read(dir, config)?;
    let add_prefix_space = |metadata: &mut Metadata| {
        if let Some(&Value::Bool(flag)) = sources.setting("add_prefix_space") {
            metadata.insert("tokenizer.ggml.add_space_prefix", flag);
        }
    };
    if options.adjustments.iter().any(|one| matches!(one, Adjustment::AddPrefixSpace)) {
        add_prefix_space(metadata);
    }
    let Some(kind) = options.kinds.iter().find(|kind| sources.offers(**kind)) else {
        return Err(sources.none());
    };
    match kind {
        Kind::SentencePiece => sentencepiece::write(&sources, metadata)?,
        Kind::ByteFallback => byte_fallback::write(&sources, metadata)?,
        Kind::ByteLevel => byte_level::write(&sources, options.pre_tokenizer, metadata)?,
        Kind::WordPiece => word_piece::write(&sources, options.pre_tokenizer, metadata)?,
        Kind::Unigram => unigram::write(&sources, metadata)?,
        Kind::Fairseq => fairseq::write(&sources, metadata)?,
    }
    for adjustment in options.adjustments {
        match *adjustment {
            Adjustment::EndOfTurn { vocab_size, id } if sources.vocab_size as u64 == vocab_size => {
                metadata.insert("tokenizer.ggml.eot_token_id", id);
            }
            Adjustment::NoBos { vocab_size } if sources.vocab_size as u64 == vocab_size => {
                metadata.insert("tokenizer.ggml.add_bos_token", false);
            }
            Adjustment::AddPrefixSpaceLast => add_prefix_space(metadata),
            Adjustment::Segments => sources.write_segments(metadata)?,
            _ => {}
        }
    }
    Ok(())
}

impl Sources<'_> {
    fn offers(&self, kind: Kind) -> bool {
        match kind {
            Kind::SentencePiece => self.file("tokenizer.model").is_file(),
            Kind::ByteFallback => {
                self.tokenizer.as_ref().is_some_and(TokenizerJson::is_byte_fallback)
            }
            Kind::ByteLevel => self.tokenizer.is_some(),
            Kind::WordPiece => match &self.tokenizer {
                Some(tokenizer) => tokenizer.is_word_piece(),
                None => word_piece::path(self).is_file(),
            },
            Kind::Unigram => unigram::path(self).is_some(),
            Kind::Fairseq => {
                fairseq::path(self).is_file()
                    || self.tokenizer.as_ref().is_some_and(TokenizerJson::is_unigram)
            }
        }
    }

    /// How many kinds of text segments the model tells apart.
    fn write_segments(&self, metadata: &mut Metadata) -> Result<()> {
        let count = self.config.positive("type_vocab_size")?.unwrap_or(1);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        metadata.insert("tokenizer.ggml.token_type_count", count);
        Ok(())
    }

    fn none(&self) -> Error {
        let other =
            ["tekken.json", "vocab.json", "tokenizer.tiktoken", "qwen.tiktoken", "vocab.txt"]
                .into_iter()
                .find(|name| self.file(name).is_file());
        Error::Tokenizer {
            path: self.dir.to_path_buf(),
            place: "tokenizer".into(),
            found: other.map_or("no tokenizer file".into(), |name| format!("only {name}")),
            expected: "tokenizer.model or tokenizer.json".into(),
            help: match other {
                Some(_) => {
                    "load and save the tokenizer with transformers (use_fast=True) to get tokenizer.json"
                }
                None => "download the tokenizer files that belong to the weights",
            },
        }
    }
}

/// Whether a token that its file does not call special is one all the same: some models mark
/// theirs wrongly (DeepSeek Coder, Command R, Gemma).
fn looks_special(token: &str) -> bool {
    let between = |start, end| token.starts_with(start) && token.ends_with(end);
    matches!(token, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}

/// Tokens, scores and types as they are written.
fn write_tokens(
    metadata: &mut Metadata,
    model: &str,
    pre: &str,
    tokens: Vec<String>,
    scores: Option<Vec<f32>>,
    types: &[TokenType],
) {
    metadata.insert("tokenizer.ggml.model", model);
    metadata.insert("tokenizer.ggml.pre", pre);
    let tokens: Vec<gguf_io::GgufString> = tokens.into_iter().map(Into::into).collect();
    metadata.insert("tokenizer.ggml.tokens", tokens);
    if let Some(scores) = scores {
        metadata.insert("tokenizer.ggml.scores", scores);
    }
    let types: Vec<i32> = types.iter().map(|&ty| ty as i32).collect();
    metadata.insert("tokenizer.ggml.token_type", types);
}
