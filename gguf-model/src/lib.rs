//! What a GGUF model is, architecture by architecture.
//!
//! A GGUF file says which architecture it holds and leaves the rest to the reader: which keys there
//! have to be, which tensors, of which shapes. Programs that load models know that in code, and say no
//! more than "wrong number of tensors" when something does not fit; programs that write them find out
//! too late. Here it is data: an [`Architecture`] lists the keys that loaders read and the
//! [slots](Slot) for tensors, with shapes in terms of hyper-parameters, so that a file can be checked
//! before anyone runs it, its faults named, and a program that handles models asks one place.
//!
//! The descriptions follow what llama.cpp loads and what its graphs assert: small models made from
//! them were run there, in each variant, and with tensors and keys missing in turn.
//!
//! # Examples
//!
//! What keeps a model from loading:
//!
//! ```
//! use gguf_io::Metadata;
//! use gguf_model::{ProblemKind, check};
//!
//! let mut metadata = Metadata::new();
//! metadata.insert("general.architecture", "llama");
//! metadata.insert("llama.block_count", 1u32);
//! metadata.insert("llama.embedding_length", 64u32);
//! metadata.insert("llama.attention.head_count", 4u32);
//! metadata.insert("llama.feed_forward_length", 96u32);
//! // Names and shapes, innermost first.
//! let tensors = [("blk.0.ffn_down.weight", &[64u64, 96][..])];
//! let report = check(&metadata, tensors);
//! let says = |part: &str| report.problems.iter().any(|p| p.message.contains(part));
//! assert!(says(r#"key "llama.context_length" is missing, expected a positive UINT32"#));
//! assert!(says("tensor token_embd.weight is missing"));
//! assert!(says(
//!     r#"tensor "blk.0.ffn_down.weight" has shape [64, 96], expected [96, 64] (feed_forward_length, embedding_length)"#
//! ));
//! assert!(report.problems.iter().any(|p| p.kind == ProblemKind::MissingKey));
//! ```
//!
//! The tensors of a model, from its hyper-parameters alone:
//!
//! ```
//! use gguf_io::Metadata;
//! use gguf_model::{Architecture, HyperParameters, Need};
//!
//! let qwen3 = Architecture::find("qwen3").unwrap();
//! let mut metadata = Metadata::new();
//! for (key, value) in [
//!     ("block_count", 2u32),
//!     ("context_length", 4096),
//!     ("embedding_length", 64),
//!     ("feed_forward_length", 96),
//!     ("attention.head_count", 4),
//!     ("attention.key_length", 32),
//!     ("attention.value_length", 32),
//! ] {
//!     metadata.insert(format!("qwen3.{key}"), value);
//! }
//! metadata.insert("qwen3.attention.layer_norm_rms_epsilon", 1e-6f32);
//! let parameters = HyperParameters::read(&metadata, qwen3).unwrap();
//! let output = qwen3.tensors(&parameters).find(|t| t.name() == "blk.1.attn_output.weight").unwrap();
//! assert_eq!(output.shape, [Some(128), Some(64)]);
//! assert_eq!(output.slot.need, Need::Required);
//! ```
//!
//! # What is here
//!
//! - [`Architecture::find`] and [`ALL`]: the descriptions; adding one is a file in
//!   `src/architectures/`, and the book has a page on it.
//! - [`check`] and [`check_file`]: a [`Report`] of problems, which keep loaders from using a file, and
//!   notes on faults that they tolerate. Files that hold no language model (adapters, projectors, image
//!   models) and architectures that are not described pass with a note.
//! - [`HyperParameters`]: the sizes of a model, read with all that may be wrong with them.
//! - [`TensorName`]: what a tensor is, as far as its name tells.
//! - [`OfLayers`], [`layer_period`], [`attention_period`]: what metadata says of layers by their number.
//! - [`Tokenizer`]: the tokenizer that a file carries, from text to tokens and back.
//! - [`Forward::find`] and [`FORWARDS`]: how models of an architecture are run, as data for an
//!   interpreter.
//!
//! Not here: values of weights, and what runs a model.
//!
//! # What is promised
//!
//! Whatever the metadata and tensors, [`check`] returns: sums and products are checked, `block_count`
//! is held to [`MAX_LAYERS`] before anything depends on it, and a few hundred problems are kept of
//! any number.

#![forbid(unsafe_code)]

mod architecture;
mod architectures;
mod check;
mod expected;
mod forward;
mod forward_bases;
mod forwards;
mod graph;
mod keys;
mod layered;
mod names;
mod parameters;
mod problem;
mod relations;
mod size;
mod slot;
pub mod tokenizer;
mod vocabulary;

pub use architecture::Architecture;
pub use architectures::ALL;
pub use check::{Content, Report, check, check_file};
pub use expected::Expected;
pub use forward::{
    Alibi, Attention, AttentionKind, Block, Factor, Forward, FurtherActivation, Gate, HeadNorm,
    Norming, Outcome, Residual, Routing, ScoreScale, Temperature, TurnedLayers, Windows,
};
pub use forwards::FORWARDS;
pub use graph::{Activation, Graph, Norm, Rope, Turned};
pub use keys::{COMMON, Key, Kind, MAX_EXPERTS, MAX_LAYERS};
pub use layered::{LAYER_PERIODS, OfLayers, attention_period, layer_period};
pub use names::{Place, TensorName};
pub use parameters::HyperParameters;
pub use problem::{Problem, ProblemKind};
pub use size::{Dimension, Size};
pub use slot::{Need, Slot, When};
pub use tokenizer::Tokenizer;

/// The examples of the README are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
