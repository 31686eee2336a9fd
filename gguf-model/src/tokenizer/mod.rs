//! The tokenizer that a GGUF file carries: text to tokens and back, as llama.cpp does it.
//!
//! A file names the kind of its tokenizer and lists the tokens with scores, types and merges; the rest
//! is the engine's. Which of two neighbours are merged first, where text is split before, what a
//! special token takes with it and what goes around a text: a model that is fed other tokens than in
//! training is worse, and nothing says so. [`Tokenizer`] makes llama.cpp's tokens, which a test
//! compares for the vocabularies that llama.cpp is tested with.
//!
//! # Examples
//!
//! ```
//! use gguf_io::Metadata;
//! use gguf_model::tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
//!
//! let mut metadata = Metadata::new();
//! metadata.insert("tokenizer.ggml.model", "llama");
//! let tokens = ["<unk>", "<s>", "</s>", "▁", "h", "i", "hi", "▁hi"];
//! metadata.insert("tokenizer.ggml.tokens", tokens.map(gguf_io::GgufString::from).to_vec());
//! metadata.insert("tokenizer.ggml.scores", vec![0.0f32, 0.0, 0.0, -9.0, -9.0, -9.0, -1.0, -2.0]);
//! metadata.insert("tokenizer.ggml.token_type", vec![2i32, 3, 3, 1, 1, 1, 1, 1]);
//!
//! let tokenizer = Tokenizer::from_metadata(&metadata)?;
//! let ids = tokenizer.encode("hi", EncodeOptions::default());
//! assert_eq!(ids, [1, 7]);
//! assert_eq!(tokenizer.decode(&ids, DecodeOptions::default()), b" hi");
//! let options = DecodeOptions { remove_special: true, ..DecodeOptions::default() };
//! assert_eq!(tokenizer.decode(&ids[1..], options), b"hi");
//! # Ok::<(), gguf_model::Problem>(())
//! ```
//!
//! # What is promised
//!
//! Whatever the vocabulary and the text, encoding and decoding return, and no regular expression
//! backtracks. A token that cannot be had is left out or unknown, as the kind has it. Not promised:
//! that a vocabulary made for it takes less than the square of a text's length.

mod byte_pair;
mod categories;
mod decode;
mod encode;
mod kind;
mod neighbours;
mod others;
mod partition;
mod pre;
mod prefixes;
mod sentence_piece;
mod special;
mod split;
mod tokens;
mod unicode;
mod unigram;
mod word_piece;

pub use self::{
    decode::DecodeOptions,
    encode::{EncodeOptions, Tokenizer},
    kind::Kind,
    neighbours::{Part, merge_neighbours},
    special::SpecialTokens,
};

/// The names of pre-tokenizers, the values of `tokenizer.ggml.pre`.
pub const PRE_TOKENIZERS: &[&str] = &pre::NAMES;
