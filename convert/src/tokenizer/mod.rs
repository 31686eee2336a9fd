//! Tokenizers: the files of a checkpoint to GGUF's `tokenizer.*` keys.

mod byte_fallback;
mod byte_level;
mod fairseq;
mod gemma4;
mod hash;
mod hashes;
pub(crate) mod of_gguf;
pub mod pre;
mod scores;
mod sentencepiece;
mod special;
mod template;
mod tokenizer_json;
mod unigram;
mod vocab_merges;
mod word_piece;

use std::path::{Path, PathBuf};

use gguf_io::metadata::Metadata;
use serde_json::Value;

use crate::{
    Config, Error, Result,
    json::{self, Object},
};

use tokenizer_json::TokenizerJson;

/// A kind of tokenizer, by the files it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// SentencePiece's BPE: `tokenizer.model`, else `tokenizer.json` with byte fallback.
    SentencePiece,
    /// Byte-level BPE, GPT-2's kind: `tokenizer.json`, else `vocab.json` and `merges.txt`.
    ByteLevel,
    /// WordPiece, BERT's kind: `tokenizer.json` or `vocab.txt`.
    WordPiece,
    /// SentencePiece's unigram model, T5's kind: `tokenizer.model`, `spiece.model` or
    /// `tokenizer.json`.
    Unigram,
    /// SentencePiece's unigram model with the ids of fairseq, XLM-RoBERTa's kind:
    /// `sentencepiece.bpe.model` or `tokenizer.json`.
    Fairseq,
    /// Gemma 4's kind: `tokenizer.json` with byte fallback, split by its merges.
    Gemma4,
}

/// A key that depends on the model as well as on the tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Whether a space is put before the text is written even if it is, as llama.cpp assumes anyway.
    SpacePrefix,
    /// config.json's `eod_token_id` ends a text, and the first of several in generation_config.json a
    /// turn.
    EndsByConfig,
    /// A token is put before the text, whatever the tokenizer says.
    Bos,
    /// llama.cpp's converter reads the added tokens of tokenizer.json for this model, beside
    /// tokenizer.model; of others it does not.
    AddedTokensOfJson,
    /// These added tokens have these roles, where no file gives the role to another.
    Roles(&'static [(&'static str, &'static str)]),
    /// The chat template is this one, whatever the files say.
    Template(&'static str),
    /// A text begins and ends with this added token of tokenizer_config.json.
    TurnEnds(&'static str),
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
    options: &'a Options<'a>,
}

impl<'a> Sources<'a> {
    fn read(dir: &'a Path, config: &'a Config, options: &'a Options<'a>) -> Result<Self> {
        let tokenizer = dir.join("tokenizer.json");
        let vocab_size = match config.require("vocab_size")? {
            absurd if absurd > MOST_TOKENS => {
                let expected = format!("at most {MOST_TOKENS}");
                return Err(config.wrong("vocab_size", &absurd.to_string(), &expected));
            }
            size => usize::try_from(size).unwrap_or(usize::MAX),
        };
        let mut sources = Self {
            dir,
            config,
            tokenizer: tokenizer.is_file().then(|| TokenizerJson::read(&tokenizer)).transpose()?,
            tokenizer_config: json::read_optional(&dir.join("tokenizer_config.json"))?,
            special_tokens_map: json::read_optional(&dir.join("special_tokens_map.json"))?,
            vocab_size,
            options,
        };
        if sources.tokenizer.is_none() && !sources.model().is_file() {
            sources.tokenizer = vocab_merges::read(&sources)?;
        }
        Ok(sources)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn model(&self) -> PathBuf {
        self.file("tokenizer.model")
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

    /// The tokens that have a role or a name, which transformers makes special when it loads the
    /// tokenizer; in the order in which it gives ids to those that have none.
    fn named(&self) -> Vec<&str> {
        let mut named: Vec<&str> =
            ROLES.iter().filter_map(|role| text(self.special(role)?)).collect();
        // Roles that only some models know, such as `image_token`.
        let settings = self.tokenizer_config.iter().flatten();
        let more =
            settings.filter(|(key, _)| key.ends_with("_token") && !ROLES.contains(&key.as_str()));
        named.extend(more.filter_map(|(_, token)| text(token)));
        // Each of these has been a list in some versions of transformers and an object in others.
        for key in
            ["model_specific_special_tokens", "extra_special_tokens", "additional_special_tokens"]
        {
            match self.special(key) {
                Some(Value::Array(list)) => named.extend(list.iter().filter_map(text)),
                Some(Value::Object(list)) => named.extend(list.values().filter_map(text)),
                _ => {}
            }
        }
        named
    }
}

/// The roles of special tokens, as tokenizer_config.json calls them.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token, given as text or as an object.
fn text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// Writes the `tokenizer.*` keys of the checkpoint in `dir`.
///
/// # Errors
/// If no tokenizer of the kinds asked for is there, one of its files is damaged, its pre-tokenizer
/// has no known name, or one is named for a tokenizer that has none.
pub fn write(
    dir: &Path,
    config: &Config,
    options: &Options<'_>,
    metadata: &mut Metadata,
) -> Result<()> {
    if let Some(name) = options.pre_tokenizer {
        pre::check_name(name)?;
    }
    let sources = Sources::read(dir, config, options)?;
    let add_prefix_space = |metadata: &mut Metadata| {
        if let Some(&Value::Bool(flag)) = sources.setting("add_prefix_space") {
            metadata.insert("tokenizer.ggml.add_space_prefix", flag);
        }
    };
    if options.adjustments.iter().any(|one| matches!(one, Adjustment::AddPrefixSpace)) {
        add_prefix_space(metadata);
    }
    let kind = sources.kind()?;
    if let (Some(name), true) = (options.pre_tokenizer, kind != Kind::ByteLevel) {
        return Err(sources.no_pre_tokenizer(name, kind));
    }
    sources.warn();
    match kind {
        Kind::SentencePiece if sources.has_model(&sources.model()) => {
            sentencepiece::write(&sources, metadata)?
        }
        Kind::SentencePiece => byte_fallback::write(&sources, metadata)?,
        Kind::ByteLevel => byte_level::write(&sources, options.pre_tokenizer, metadata)?,
        Kind::WordPiece => word_piece::write(&sources, metadata)?,
        Kind::Unigram => unigram::write(&sources, metadata)?,
        Kind::Fairseq => fairseq::write(&sources, metadata)?,
        Kind::Gemma4 => gemma4::write(&sources, metadata)?,
    }
    // BERT's class with a tokenizer of another kind.
    if kind == Kind::ByteLevel && options.kinds.contains(&Kind::WordPiece) {
        sources.write_segments(metadata)?;
    }
    for adjustment in options.adjustments {
        match *adjustment {
            Adjustment::EndOfTurn { vocab_size, id } if sources.vocab_size as u64 == vocab_size => {
                metadata.insert("tokenizer.ggml.eot_token_id", id);
            }
            Adjustment::NoBos { vocab_size } if sources.vocab_size as u64 == vocab_size => {
                metadata.insert("tokenizer.ggml.add_bos_token", false);
            }
            Adjustment::EndsByConfig => sources.write_ends(metadata)?,
            Adjustment::Bos => {
                metadata.insert("tokenizer.ggml.add_bos_token", true);
            }
            Adjustment::AddPrefixSpaceLast => add_prefix_space(metadata),
            Adjustment::Template(template) => {
                metadata.insert("tokenizer.chat_template", template);
            }
            Adjustment::TurnEnds(token) => {
                let added = sources.setting("added_tokens_decoder").and_then(Value::as_object);
                let id = added.and_then(|added| {
                    let mut ids = added.iter().filter(|(_, entry)| text(entry) == Some(token));
                    ids.next()?.0.parse::<u32>().ok()
                });
                if let Some(id) = id {
                    metadata.insert("tokenizer.ggml.bos_token_id", id);
                    metadata.insert("tokenizer.ggml.eos_token_id", id);
                }
            }
            Adjustment::Segments => sources.write_segments(metadata)?,
            _ => {}
        }
    }
    Ok(())
}

impl Sources<'_> {
    /// The kind of the tokenizer: the first of those asked for that is there, else what is there if
    /// the model can have it. A class says little about the tokenizer beside it: there are BERTs
    /// with XLM-RoBERTa's tokenizer and RoBERTas with BERT's.
    fn kind(&self) -> Result<Kind> {
        let kinds = self.options.kinds;
        if let Some(kind) = kinds.iter().find(|kind| self.offers(**kind)) {
            return Ok(*kind);
        }
        let encoder = !kinds.contains(&Kind::SentencePiece);
        let others = [Kind::ByteLevel, Kind::Fairseq, Kind::WordPiece];
        let other = others.into_iter().find(|kind| {
            let suits = encoder || *kind == Kind::ByteLevel;
            suits && !kinds.contains(kind) && self.offers(*kind)
        });
        match (other, &self.tokenizer) {
            (Some(kind), _) => Ok(kind),
            (None, Some(tokenizer)) => Err(tokenizer.unsuited()),
            (None, None) => Err(self.none()),
        }
    }

    fn offers(&self, kind: Kind) -> bool {
        let json = |is: fn(&TokenizerJson) -> bool| self.tokenizer.as_ref().is_some_and(is);
        match kind {
            Kind::SentencePiece => {
                self.has_model(&self.model()) || json(TokenizerJson::is_byte_fallback)
            }
            Kind::Gemma4 => json(TokenizerJson::is_byte_fallback),
            Kind::ByteLevel => json(|json| json.is_bpe() && !json.is_byte_fallback()),
            Kind::WordPiece => match &self.tokenizer {
                Some(tokenizer) => tokenizer.is_word_piece(),
                None => word_piece::path(self).is_file(),
            },
            Kind::Unigram => unigram::path(self).is_some() || json(TokenizerJson::is_unigram),
            Kind::Fairseq => fairseq::path(self).is_some() || json(TokenizerJson::is_unigram),
        }
    }

    /// Whether a SentencePiece model is there to be read. Where tokenizer.json is beside it, a file
    /// that is something else is passed over: a vocabulary for tiktoken, a Git-LFS pointer.
    fn has_model(&self, path: &Path) -> bool {
        let passed_over =
            || self.tokenizer.is_some() && sentencepiece::something_else(path).is_some();
        path.is_file() && !passed_over()
    }

    /// Says which files are passed over, unless they are what they should be.
    fn warn(&self) {
        for name in ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"] {
            let what = self
                .tokenizer
                .as_ref()
                .and_then(|_| sentencepiece::something_else(&self.file(name)));
            if let Some(what) = what.filter(|what| *what != sentencepiece::TIKTOKEN) {
                tracing::warn!(
                    kind = "tokenizer-model",
                    "{name} is {what} and is passed over: the tokenizer is that of tokenizer.json"
                );
            }
        }
    }

    /// The tokens that end a text and a turn, where they are not what their names say.
    fn write_ends(&self, metadata: &mut Metadata) -> Result<()> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        if let Some(id) = self.config.get("eod_token_id").and_then(id) {
            metadata.insert("tokenizer.ggml.eos_token_id", id);
        }
        let generation = json::read_optional(&self.file("generation_config.json"))?;
        let ends =
            generation.as_ref().and_then(|settings| settings.get("eos_token_id")?.as_array());
        if let Some(first) = ends.filter(|ends| ends.len() > 1).and_then(|ends| id(ends.first()?)) {
            metadata.insert("tokenizer.ggml.eot_token_id", first);
        }
        Ok(())
    }

    /// How many kinds of text segments the model tells apart.
    fn write_segments(&self, metadata: &mut Metadata) -> Result<()> {
        let count = self.config.positive("type_vocab_size")?.unwrap_or(1);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        metadata.insert("tokenizer.ggml.token_type_count", count);
        Ok(())
    }

    fn none(&self) -> Error {
        let other = [
            "tekken.json",
            "vocab.json",
            "tokenizer.tiktoken",
            "qwen.tiktoken",
            "tiktoken.model",
            "vocab.txt",
        ]
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

    /// Of these only byte-level BPE is split before it is merged.
    fn no_pre_tokenizer(&self, name: &str, kind: Kind) -> Error {
        let found = match kind {
            Kind::SentencePiece | Kind::Gemma4 => "a SentencePiece vocabulary",
            Kind::WordPiece => "a WordPiece vocabulary",
            _ => "a unigram vocabulary",
        };
        Error::Tokenizer {
            path: self.dir.to_path_buf(),
            place: "tokenizer".into(),
            found: found.into(),
            expected: format!("byte-level BPE for the pre-tokenizer {name}"),
            help: "llama.cpp has pre-tokenizers for byte-level BPE alone; leave out --pre-tokenizer",
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
    write_columns(metadata, tokens, scores, types);
}

/// As [`write_tokens`], of a kind that has no pre-tokenizer.
fn write_merged(
    metadata: &mut Metadata,
    model: &str,
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: &[TokenType],
) {
    metadata.insert("tokenizer.ggml.model", model);
    write_columns(metadata, tokens, Some(scores), types);
}

fn write_columns(
    metadata: &mut Metadata,
    tokens: Vec<String>,
    scores: Option<Vec<f32>>,
    types: &[TokenType],
) {
    let tokens: Vec<gguf_io::GgufString> = tokens.into_iter().map(Into::into).collect();
    metadata.insert("tokenizer.ggml.tokens", tokens);
    if let Some(scores) = scores {
        metadata.insert("tokenizer.ggml.scores", scores);
    }
    let types: Vec<i32> = types.iter().map(|&ty| ty as i32).collect();
    metadata.insert("tokenizer.ggml.token_type", types);
}
