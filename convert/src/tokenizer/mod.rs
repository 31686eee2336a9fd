//! Tokenizers: the files of a checkpoint to GGUF's `tokenizer.*` keys.

mod base64;
mod byte_fallback;
mod byte_level;
mod encode;
mod fairseq;
mod gemma4;
mod hash;
mod hashes;
pub(crate) mod of_gguf;
mod options;
pub mod pre;
mod scores;
mod sentencepiece;
mod sources;
mod special;
mod tekken;
mod template;
mod tokenizer_json;
mod tokens;
mod unigram;
mod vocab_merges;
mod word_piece;

use std::path::Path;

use gguf_io::metadata::{self, Array, GgufString, Metadata};
use serde_json::Value;

use crate::{Config, Error, Result, json};

pub use options::{Adjustment, Kind, Options};

use sources::{Sources, text};
use tokenizer_json::TokenizerJson;

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
    let mut sources = Sources::read(dir, config, options)?;
    if sources.tokenizer.is_none() && !sources.model().is_file() {
        sources.tokenizer = vocab_merges::read(&sources)?;
    }
    // As Mistral publishes its own format, and some models as transformers has them.
    let is_tekken = sources.tokenizer.is_none() && sources.file(tekken::FILE).is_file();
    if is_tekken && options.kinds.contains(&Kind::SentencePiece) {
        return tekken::write(&sources, metadata);
    }
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
    sources.warn_of_fillers(metadata);
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
            Adjustment::SecondEnd(token) => sources.write_second_end(token, metadata),
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

    /// Warns if many ids have no token: models round their vocabulary up, none known by more than two in
    /// a hundred. What is missing then is the rest of a file, or the tokenizer is another model's.
    fn warn_of_fillers(&self, metadata: &Metadata) {
        let (
            Some(metadata::Value::Array(Array::String(tokens))),
            Some(metadata::Value::Array(Array::Int32(types))),
        ) = (metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.token_type"))
        else {
            return;
        };
        let is_filler = |(token, ty): (&GgufString, &i32)| {
            let text = token.as_str().map(|text| text.trim_start_matches('▁'));
            *ty == tokens::TokenType::Unused as i32 && text.is_some_and(|t| t.starts_with("[PAD"))
        };
        let mut fillers = tokens.iter().zip(types).enumerate().filter(|(_, pair)| is_filler(*pair));
        if let Some((first, _)) = fillers.next()
            && let count = fillers.count() + 1
            && count.saturating_mul(16) > tokens.len()
        {
            tracing::warn!(
                kind = "missing-tokens",
                "{}: the tokenizer's files have no token for {count} of the {} ids of the model, the first \
                 is {first}; these get fillers such as [PAD{first}]. Check that the files are whole and \
                 the model's own",
                self.dir.display(),
                tokens.len()
            );
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

    /// Of several ends in config.json the first that is not the beginning as well, and the type of a
    /// token that is none of the text.
    fn write_second_end(&self, token: &str, metadata: &mut Metadata) {
        let begins = self.config.get("bos_token_id");
        let ends = self.config.get("eos_token_id").and_then(Value::as_array);
        let second = ends.and_then(|ends| ends.iter().find(|end| Some(*end) != begins));
        let id = second.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        if let Some(id) = id {
            metadata.insert("tokenizer.ggml.eot_token_id", id);
        }
        const TYPES: &str = "tokenizer.ggml.token_type";
        if let (
            Some(metadata::Value::Array(Array::String(tokens))),
            Some(metadata::Value::Array(Array::Int32(types))),
        ) = (metadata.get("tokenizer.ggml.tokens"), metadata.get(TYPES))
        {
            let is_it = |text: &GgufString| text.as_bytes() == token.as_bytes();
            let types = tokens.iter().zip(types);
            let types =
                types.map(
                    |(text, ty)| if is_it(text) { tokens::TokenType::Control as i32 } else { *ty },
                );
            let types: Vec<i32> = types.collect();
            metadata.insert(TYPES, types);
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
            ["vocab.json", "tokenizer.tiktoken", "qwen.tiktoken", "tiktoken.model", "vocab.txt"]
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
            help: "llama.cpp has pre-tokenizers for byte-level BPE alone; leave out `pre_tokenizer`",
        }
    }
}
