//! From text to tokens.

use std::{borrow::Cow, collections::BTreeSet};

use gguf_io::{
    message::Quoted,
    metadata::{Metadata, Value},
};

use super::{
    byte_pair::BytePair,
    kind::Kind,
    others::{Greedy, Plamo},
    partition::{Fragment, Partition},
    pre::{self, PreTokenizer, Style},
    sentence_piece::SentencePiece,
    special::{SpecialTokens, strip},
    tokens::{Tokens, wrong},
    unicode::characters,
    unigram::Unigram,
    word_piece::WordPiece,
};
use crate::{Problem, ProblemKind};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";

/// What [`Tokenizer::encode`] does besides tokenizing plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Whether the tokens that the file asks for are put around the text, such as one for its
    /// beginning. Default: `true`.
    pub add_special: bool,
    /// Whether the names of control tokens in the text become those tokens; not for text of others.
    /// Tokens that users defined always do. Default: `false`.
    pub parse_special: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self { add_special: true, parse_special: false }
    }
}

/// The tokenizer of a GGUF file.
#[derive(Debug)]
pub struct Tokenizer {
    pub(super) kind: Kind,
    pub(super) tokens: Tokens,
    pub(super) special: SpecialTokens,
    ends: BTreeSet<u32>,
    partition: Partition,
    algorithm: Algorithm,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
    add_sep: bool,
    pub(super) add_space_prefix: bool,
    merge_spaces: bool,
    pub(super) clean_spaces: bool,
}

#[derive(Debug)]
enum Algorithm {
    SentencePiece(SentencePiece),
    BytePair(Box<BytePair>),
    WordPiece(WordPiece),
    Unigram(Unigram),
    Greedy(Greedy),
    Plamo(Plamo),
    None,
}

impl Tokenizer {
    /// Reads the tokenizer from a file's metadata.
    ///
    /// # Errors
    /// The key that is missing, has another type than loaders take, or names a kind or a
    /// pre-tokenizer that is not known.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Problem> {
        let (kind, name) = match metadata.get(MODEL).map(|value| (value, value.as_str())) {
            Some((_, Some(name))) => (kind(name, metadata)?, name),
            Some((value, None)) => return Err(wrong(MODEL, Some(value), "a STRING")),
            None => return Err(wrong(MODEL, None, "the kind of the tokenizer")),
        };
        if kind == Kind::None {
            return Ok(Self::nameless(metadata));
        }
        let pre = matches!(kind, Kind::BytePair | Kind::Gemma4)
            .then(|| pre_tokenizer(metadata, kind))
            .transpose()?;
        let mut tokens = Tokens::read(metadata)?;
        let mut algorithm = match &pre {
            Some(pre) => {
                let mut algorithm = BytePair::new(metadata, &tokens, pre)?;
                algorithm.drops_space = name == "whitespace";
                Algorithm::BytePair(Box::new(algorithm))
            }
            None => match kind {
                Kind::WordPiece => Algorithm::WordPiece(WordPiece::new(&tokens)),
                Kind::Unigram => Algorithm::Unigram(Unigram::new(metadata, &tokens)?),
                Kind::Rwkv => Algorithm::Greedy(Greedy::new(&tokens)),
                Kind::Plamo2 => Algorithm::Plamo(Plamo::new(&tokens)),
                _ => Algorithm::SentencePiece(SentencePiece::new(&tokens)),
            },
        };
        let flag = |name: &str, default: bool| {
            let key = format!("tokenizer.ggml.{name}");
            match metadata.get(&key) {
                None => Ok(default),
                Some(Value::Bool(value)) => Ok(*value),
                found => Err(wrong(&key, found, "a BOOL")),
            }
        };
        match &mut algorithm {
            Algorithm::WordPiece(own) => {
                own.lowercase = flag("normalizer.lowercase", true)?;
                own.strip_accents = flag("normalizer.strip_accents", own.lowercase)?;
            }
            Algorithm::BytePair(own) => own.lowercase = flag("normalizer.lowercase", false)?,
            _ => {}
        }
        let has_bos = pre.is_none_or(|pre| pre.has_bos);
        let special = SpecialTokens::read(metadata, kind, has_bos, &mut tokens)?;
        let ends = special.ends(&mut tokens);
        let partition = Partition::new(&tokens);
        strip(metadata, &mut tokens);
        let is = |one| kind == one;
        let add_bos = pre.map_or(is(Kind::SentencePiece) || is(Kind::WordPiece), |pre| pre.add_bos);
        // Gemma 4 needs its beginning, and files were published that say otherwise
        // (ggml-org/llama.cpp#21500).
        let always = pre.is_some_and(|pre| pre.style == Style::Gemma);
        Ok(Self {
            kind,
            special,
            ends,
            partition,
            algorithm,
            add_bos: flag("add_bos_token", add_bos)? || always,
            add_eos: flag("add_eos_token", is(Kind::Unigram))?,
            add_sep: flag("add_sep_token", pre.map_or(is(Kind::WordPiece), |pre| pre.add_sep))?,
            add_space_prefix: flag("add_space_prefix", is(Kind::SentencePiece))?,
            merge_spaces: flag("remove_extra_whitespaces", false)?,
            clean_spaces: pre.map_or(is(Kind::WordPiece), |pre| pre.clean_spaces),
            tokens,
        })
    }

    /// Of a file that says how many tokens there are, and no more.
    fn nameless(metadata: &Metadata) -> Self {
        let architecture = metadata.get_str("general.architecture").unwrap_or_default();
        let count = metadata.get_u64(&format!("{architecture}.vocab_size")).unwrap_or(0);
        // Each costs a byte here: no model has more than this.
        let count = count.min(1 << 24) as u32;
        Self {
            kind: Kind::None,
            tokens: Tokens::nameless(count),
            special: SpecialTokens::default(),
            ends: BTreeSet::new(),
            partition: Partition::default(),
            algorithm: Algorithm::None,
            add_bos: false,
            add_eos: false,
            add_sep: false,
            add_space_prefix: false,
            merge_spaces: false,
            clean_spaces: false,
        }
    }

    /// The tokens of a text. With [`Kind::None`] there are none.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let text = text.as_bytes();
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        // BERT's texts begin and end with tokens whatever the keys say; RWKV's and PLaMo's never do.
        let around = options.add_special && !matches!(self.kind, Kind::Rwkv | Kind::Plamo2);
        let is_bert = self.kind == Kind::WordPiece;
        if around && (self.add_bos || is_bert) {
            ids.extend(self.special.bos);
        }
        let mut after_special = true;
        for fragment in self.partition.split(&self.tokens, text, options.parse_special) {
            match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    after_special = true;
                }
                Fragment::Text(range) => {
                    self.encode_plain(&text[range], after_special, &mut ids);
                    after_special = false;
                }
            }
        }
        if around && is_bert {
            ids.extend(self.special.separator);
        } else if around && self.add_eos {
            ids.extend(self.special.eos);
        }
        ids
    }

    fn encode_plain(&self, text: &[u8], after_special: bool, ids: &mut Vec<u32>) {
        let unknown = self.special.unknown;
        match &self.algorithm {
            Algorithm::SentencePiece(algorithm) => {
                let text = marked(text, self.add_space_prefix && after_special);
                algorithm.encode(&self.tokens, &text, unknown, ids);
            }
            Algorithm::BytePair(algorithm) => {
                let text = if self.marks_spaces() {
                    marked(text, false).into()
                } else {
                    Cow::Borrowed(text)
                };
                algorithm.encode(&self.tokens, &characters(&text), ids);
            }
            Algorithm::WordPiece(algorithm) => algorithm.encode(&characters(text), unknown, ids),
            Algorithm::Unigram(algorithm) => {
                let spaces = (self.add_space_prefix, self.merge_spaces);
                algorithm.encode(&self.tokens, text, unknown, spaces, ids);
            }
            Algorithm::Greedy(algorithm) => algorithm.encode(text, unknown, ids),
            Algorithm::Plamo(algorithm) => algorithm.encode(&self.tokens, &characters(text), ids),
            Algorithm::None => {}
        }
    }

    /// Whether tokens are written with SentencePiece's mark for a space.
    pub(super) fn marks_spaces(&self) -> bool {
        match &self.algorithm {
            Algorithm::BytePair(algorithm) => algorithm.marks_spaces(),
            _ => true,
        }
    }

    /// How the tokenizer works.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of a token as the file has it, in bytes; empty if there is no such token.
    pub fn token(&self, id: u32) -> &[u8] {
        self.tokens.text(id)
    }

    /// The token that the file has under this text.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.tokens.find(text.as_bytes())
    }

    /// Tokens with a part to play.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// The token for the beginning of a text, if texts begin with one.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos.filter(|_| self.add_bos)
    }

    /// The token for the end of a text, if texts end with one.
    pub fn eos(&self) -> Option<u32> {
        self.special.eos.filter(|_| self.add_eos)
    }

    /// Whether two texts are joined with a separator.
    pub fn adds_separator(&self) -> bool {
        self.add_sep
    }

    /// Whether nothing more is generated behind a token: the end of a text, a turn or a message.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }
}

fn kind(name: &str, metadata: &Metadata) -> Result<Kind, Problem> {
    Ok(match name {
        "llama" => Kind::SentencePiece,
        "gpt2" | "whitespace" => Kind::BytePair,
        "gemma4" => Kind::Gemma4,
        "bert" => Kind::WordPiece,
        "t5" => Kind::Unigram,
        "rwkv" => Kind::Rwkv,
        "plamo2" => Kind::Plamo2,
        "none" | "no_vocab" => Kind::None,
        _ => {
            let kinds =
                "one of llama, gpt2, whitespace, gemma4, bert, t5, rwkv, plamo2, none, no_vocab";
            return Err(wrong(MODEL, metadata.get(MODEL), kinds));
        }
    })
}

fn pre_tokenizer(metadata: &Metadata, kind: Kind) -> Result<PreTokenizer, Problem> {
    let name = match metadata.get(PRE).map(|value| (value, value.as_str())) {
        _ if kind == Kind::Gemma4 => "gemma4",
        None | Some((_, Some(""))) => "default",
        Some((_, Some(name))) => name,
        Some((value, None)) => return Err(wrong(PRE, Some(value), "a STRING")),
    };
    PreTokenizer::find(name).ok_or_else(|| Problem {
        kind: ProblemKind::WrongKey,
        subject: PRE.to_owned(),
        message: format!(
            "key {} is {}, expected a known pre-tokenizer: {}",
            Quoted(PRE),
            Quoted(name),
            pre::NAMES.join(", ")
        ),
    })
}

/// A text with SentencePiece's marks for spaces, with one more in front or not.
fn marked(text: &[u8], space_first: bool) -> Vec<u8> {
    const MARK: &[u8] = "\u{2581}".as_bytes();
    let mut marked = Vec::with_capacity(text.len() + text.len() / 2 + MARK.len());
    if space_first {
        marked.extend_from_slice(MARK);
    }
    for &byte in text {
        match byte {
            b' ' => marked.extend_from_slice(MARK),
            byte => marked.push(byte),
        }
    }
    marked
}
