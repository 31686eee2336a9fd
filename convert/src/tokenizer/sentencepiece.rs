//! SentencePiece: `tokenizer.model`.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use gguf_io::metadata::Metadata;
use prost::Message;
use serde_json::Value;

use crate::{
    Error, Result,
    error::{DOWNLOAD, Quoted},
    json,
};

use super::{
    options::Adjustment,
    sources::Sources,
    special,
    tokenizer_json::MARK,
    tokens::{TokenType, looks_special, write_tokens},
};

/// Bytes a tokenizer.model may be long; the largest known (Gemma's) have 5 MB.
const LONGEST: u64 = 16 << 20;

/// The score of tokens that are not in the model.
const ADDED: f32 = -1000.0;

/// The part of SentencePiece's `ModelProto` that a conversion needs.
#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    /// Written after the pieces: where it is missing, pieces may be.
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<NormalizerSpec>,
}

/// How the model was trained.
#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3", default = "1")]
    kind: Option<i32>,
}

/// What is done to text before it is split.
#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3", default = "true")]
    add_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4", default = "true")]
    remove_whitespace: Option<bool>,
}

/// `TrainerSpec.kind` of a unigram model.
const UNIGRAM: i32 = 1;

/// A SentencePiece model.
pub(super) struct Model {
    /// Pieces by id: text, score, type.
    pub(super) pieces: Vec<(String, f32, TokenType)>,
    /// Whether pieces are chosen by their scores; else they are merged.
    pub(super) is_unigram: bool,
    /// Whether the file says so; a file that does not say how it was trained is a unigram model.
    pub(super) says_unigram: bool,
    /// Whether a space is put before the text.
    pub(super) add_prefix: bool,
    /// Whether spaces are joined and cut off.
    pub(super) remove_whitespace: bool,
    /// Replacements of characters, compiled.
    pub(super) charsmap: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(enumeration = "PieceType", optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum PieceType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

impl From<PieceType> for TokenType {
    fn from(kind: PieceType) -> Self {
        match kind {
            PieceType::Normal => Self::Normal,
            PieceType::UserDefined => Self::UserDefined,
            PieceType::Unknown => Self::Unknown,
            PieceType::Control => Self::Control,
            PieceType::Unused => Self::Unused,
            PieceType::Byte => Self::Byte,
        }
    }
}

/// What a file is that is there but plainly no SentencePiece model; one that cannot be read is for
/// [`read`] to name.
pub(super) fn something_else(path: &Path) -> Option<&'static str> {
    other(&json::read_bytes(path, LONGEST).ok()?)
}

/// What beside Llama 3 is named like a SentencePiece model.
pub(super) const TIKTOKEN: &str = "a vocabulary for tiktoken";

/// What a file is that is no SentencePiece model, by its first bytes.
fn other(bytes: &[u8]) -> Option<&'static str> {
    if let Some((found, _)) = json::pretender(bytes) {
        return Some(found);
    }
    match bytes {
        text if text.trim_ascii_start().starts_with(b"{") => Some("JSON"),
        text if is_tiktoken(text) => Some(TIKTOKEN),
        _ => None,
    }
}

/// Whether the first line is a token in base64 and its rank.
fn is_tiktoken(text: &[u8]) -> bool {
    let Some(line) =
        text.split(|&byte| byte == b'\n').next().filter(|line| line.len() < text.len())
    else {
        return false;
    };
    let mut words = line.trim_ascii_end().split(|&byte| byte == b' ');
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let token = words.next().is_some_and(|word| word.len() >= 4 && word.iter().all(base64));
    let rank = words.next().is_some_and(|word| {
        !word.is_empty() && word.len() < 10 && word.iter().all(u8::is_ascii_digit)
    });
    token && rank && words.next().is_none()
}

/// Reads the pieces and checks them as the SentencePiece library does. A file with less than
/// `expected` pieces may have been cut off between two of them, which is no error to the format.
pub(super) fn read(path: &Path, expected: usize) -> Result<Model> {
    let wrong = |place: String, found: String, expected: &str| Error::Tokenizer {
        path: path.to_path_buf(),
        place,
        found,
        expected: expected.into(),
        help: DOWNLOAD,
    };
    let bytes = json::read_bytes(path, LONGEST)?;
    let model = "a SentencePiece model";
    match other(&bytes) {
        Some(TIKTOKEN) => {
            return Err(Error::Tokenizer {
                path: path.to_path_buf(),
                place: "file".into(),
                found: TIKTOKEN.into(),
                expected: model.into(),
                help: "load and save the tokenizer with transformers to get tokenizer.json, and put it \
                       beside this file",
            });
        }
        Some(what) => return Err(wrong("file".into(), what.into(), model)),
        None => {}
    }
    let proto = ModelProto::decode(bytes.as_slice()).map_err(|error| {
        wrong("file".into(), format!("bytes that cannot be decoded ({error})"), model)
    })?;
    drop(bytes);
    if proto.trainer.is_none() && proto.pieces.len() < expected {
        let found = format!("{} pieces and nothing after them", proto.pieces.len());
        return Err(wrong(
            "end of file".into(),
            found,
            &format!("{expected} pieces and how they were trained"),
        ));
    }
    let is_unigram = proto.trainer.as_ref().map_or(UNIGRAM, TrainerSpec::kind) == UNIGRAM;
    let says_unigram = proto.trainer.as_ref().and_then(|trainer| trainer.kind) == Some(UNIGRAM);
    let normalizer = proto.normalizer.unwrap_or_default();
    let mut seen = HashMap::with_capacity(proto.pieces.len());
    let mut unknown = None;
    let mut pieces = Vec::with_capacity(proto.pieces.len());
    for (id, piece) in proto.pieces.into_iter().enumerate() {
        let place = || format!("piece {id}");
        let kind = TokenType::from(piece.kind());
        let score = piece.score.unwrap_or_default();
        let text = piece.piece.unwrap_or_default();
        if text.is_empty() {
            return Err(wrong(place(), "no text".into(), "a piece of text"));
        }
        if score.is_nan() {
            return Err(wrong(place(), "the score NaN".into(), "a number"));
        }
        if let Some(first) = seen.insert(text.clone(), id) {
            let found = format!("{}, which is piece {first} as well", Quoted(&text));
            return Err(wrong(place(), found, "each piece once"));
        }
        if kind == TokenType::Unknown && unknown.replace(id).is_some() {
            return Err(wrong(place(), "a second unknown piece".into(), "one"));
        }
        pieces.push((text, score, kind));
    }
    if unknown.is_none() {
        return Err(wrong(
            "pieces".into(),
            format!("no unknown piece among {}", pieces.len()),
            "one",
        ));
    }
    Ok(Model {
        pieces,
        is_unigram,
        says_unigram,
        add_prefix: normalizer.add_prefix(),
        remove_whitespace: normalizer.remove_whitespace(),
        charsmap: normalizer.charsmap.unwrap_or_default(),
    })
}

/// Fills the ids up to the size of the vocabulary.
pub(super) fn pad(pieces: &mut Vec<(String, f32, TokenType)>, size: usize) {
    pieces.extend(
        (pieces.len()..size).map(|id| (format!("[PAD{id}]"), -10_000.0, TokenType::Unused)),
    );
}

pub(super) fn write(sources: &Sources<'_>, metadata: &mut Metadata) -> Result<()> {
    let size = sources.vocab_size;
    let model = read(&sources.model(), size)?;
    if model.says_unigram {
        tracing::warn!(
            kind = "unigram",
            "tokenizer.model is a unigram model, which chooses tokens by their scores; llama.cpp \
             merges them for this architecture and will split some texts otherwise"
        );
    }
    let mut pieces = model.pieces;
    if pieces.len() > size {
        tracing::warn!(
            kind = "tokens",
            "tokenizer.model has {} tokens, {} more than vocab_size in config.json; the last ones are \
             left out",
            pieces.len(),
            pieces.len() - size
        );
        pieces.truncate(size);
    }
    pad(&mut pieces, size);
    own_pieces(sources, &mut pieces);
    place_added(sources, &mut pieces)?;
    let mut tokens = Vec::with_capacity(size);
    let (mut scores, mut types) = (Vec::with_capacity(size), Vec::with_capacity(size));
    for (token, score, ty) in pieces {
        tokens.push(token);
        scores.push(score);
        types.push(ty);
    }
    write_tokens(metadata, "llama", "default", tokens, Some(scores), &types);
    let key = "tokenizer.ggml.add_space_prefix";
    if sources.options.adjustments.contains(&Adjustment::SpacePrefix) {
        metadata.insert(key, model.add_prefix);
    } else if !sources.options.like_reference && !model.add_prefix && metadata.get(key).is_none() {
        metadata.insert(key, false);
    }
    special::write(sources, Some(size), metadata)
}

/// The model's user-defined pieces, which are found in the text before others are merged. The
/// reference converter makes normal ones of them, which added_tokens_decoder then sets right; but
/// transformers 5 does not write that.
pub(super) fn own_pieces(sources: &Sources<'_>, pieces: &mut [(String, f32, TokenType)]) {
    for (text, _, ty) in pieces.iter_mut().filter(|(.., ty)| *ty == TokenType::UserDefined) {
        let marks = text.chars().filter(|c| MARK.contains(*c)).count();
        *ty = match marks {
            _ if sources.options.like_reference => TokenType::Normal,
            _ if looks_special(text) => TokenType::Control,
            0 => TokenType::UserDefined,
            // A run of spaces, as llama.cpp looks for it.
            _ if marks == text.chars().count() => {
                *text = " ".repeat(marks);
                TokenType::UserDefined
            }
            // CodeLlama's, which llama.cpp knows by their marks.
            _ => TokenType::Normal,
        };
    }
}

/// Places the tokens that are not in the model, from each of the files that name them.
pub(super) fn place_added(
    sources: &Sources<'_>,
    pieces: &mut [(String, f32, TokenType)],
) -> Result<()> {
    let like_reference = sources.options.like_reference;
    let list = sources.named();
    let named: HashSet<&str> = list.iter().copied().collect();
    for (id, token) in added_tokens(sources)? {
        let special = named.contains(token.as_str()) || looks_special(&token);
        let control = special && !like_reference;
        let ty = if control { TokenType::Control } else { TokenType::UserDefined };
        place(pieces, id, token, ty);
    }
    let decoder = decoder_tokens(sources)?;
    for (id, token, special) in &decoder {
        let special = *special || !like_reference && named.contains(token.as_str());
        place_one(pieces, *id, token, special);
    }
    // transformers 5 writes no added_tokens_decoder.
    let always = sources.options.adjustments.contains(&Adjustment::AddedTokensOfJson);
    if let Some(tokenizer) = sources.tokenizer.as_ref().filter(|_| always || !like_reference) {
        let listed: HashSet<u64> = decoder.iter().map(|(id, ..)| *id).collect();
        for token in &tokenizer.added_tokens {
            let id = u64::from(token.id);
            let known = pieces.get(token.id as usize).is_some_and(|(text, _, ty)| {
                *text == token.content && matches!(ty, TokenType::Control | TokenType::Unknown)
            });
            if always || !known && !listed.contains(&id) {
                let special = token.special || named.contains(token.content.as_str());
                place_one(pieces, id, &token.content, special);
            }
        }
    }
    if !like_reference {
        place_named(&list, pieces);
    }
    Ok(())
}

/// Makes tokens with a role or a name special, and puts those that are nowhere behind the others.
pub(super) fn place_named(named: &[&str], pieces: &mut [(String, f32, TokenType)]) {
    let mut places: HashMap<String, usize> =
        pieces.iter().enumerate().map(|(id, (text, ..))| (text.clone(), id)).collect();
    for &token in named {
        match places.get(token).and_then(|id| pieces.get_mut(*id)) {
            // CodeLlama's have marks, which a user does not type.
            Some((text, _, ty @ (TokenType::Normal | TokenType::UserDefined)))
                if !text.contains(MARK) =>
            {
                *ty = TokenType::Control;
            }
            Some(_) => {}
            None => {
                let used = |piece: &(String, f32, TokenType)| piece.2 != TokenType::Unused;
                let next = pieces.iter().rposition(used).map_or(0, |last| last + 1);
                place(pieces, next as u64, token.to_owned(), TokenType::Control);
                places.insert(token.to_owned(), next);
            }
        }
    }
}

fn place_one(pieces: &mut [(String, f32, TokenType)], id: u64, token: &str, special: bool) {
    if special || looks_special(token) {
        place(pieces, id, token.to_owned(), TokenType::Control);
    } else {
        // llama.cpp looks for these in text whose spaces have not been replaced.
        place(pieces, id, token.replace(MARK, " "), TokenType::UserDefined);
    }
}

pub(super) fn place(
    pieces: &mut [(String, f32, TokenType)],
    id: u64,
    token: String,
    ty: TokenType,
) {
    let index = usize::try_from(id).unwrap_or(usize::MAX);
    match pieces.get_mut(index) {
        Some(piece) => {
            if piece.2 != TokenType::Unused && piece.0 != token {
                tracing::debug!(id, old = piece.0, new = token, "token replaced");
            }
            *piece = (token, ADDED, ty);
        }
        None => tracing::warn!(
            kind = "tokens",
            "the token {} has the id {id}, beyond vocab_size in config.json, and is left out",
            Quoted(&token)
        ),
    }
}

/// added_tokens.json: tokens and ids.
pub(super) fn added_tokens(sources: &Sources<'_>) -> Result<Vec<(u64, String)>> {
    let path = sources.file("added_tokens.json");
    let tokens = json::read_optional(&path)?.unwrap_or_default();
    tokens
        .into_iter()
        .map(|(token, id)| match id.as_u64() {
            Some(id) => Ok((id, token)),
            None => Err(Error::Tokenizer {
                path: path.clone(),
                place: format!("token {}", Quoted(&token)),
                found: json::describe(&id),
                expected: "the number of the token".into(),
                help: DOWNLOAD,
            }),
        })
        .collect()
}

/// `added_tokens_decoder` of tokenizer_config.json: ids, tokens and whether they are special.
pub(super) fn decoder_tokens(sources: &Sources<'_>) -> Result<Vec<(u64, String, bool)>> {
    let Some(tokens) = sources.setting("added_tokens_decoder").and_then(Value::as_object) else {
        return Ok(Vec::new());
    };
    tokens
        .iter()
        .map(|(id, token)| {
            let content = token.get("content").and_then(Value::as_str);
            let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
            match (id.parse(), content) {
                (Ok(id), Some(content)) => Ok((id, content.to_owned(), special)),
                _ => Err(Error::Tokenizer {
                    path: sources.file("tokenizer_config.json"),
                    place: format!("added_tokens_decoder {}", Quoted(id)),
                    found: json::describe(token),
                    expected: "a token's number with its content".into(),
                    help: DOWNLOAD,
                }),
            }
        })
        .collect()
}
