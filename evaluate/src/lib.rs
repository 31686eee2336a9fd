//! Runs language models, to say how good their files are.
//!
//! Whoever makes a four-bit file wants to know what it lost: in perplexity, in KL divergence, in the
//! text it writes; and wants the importance matrix that makes it lose less. All of these need the model
//! to be run. This crate does: it is an evaluator, prefill first, not a server.
//!
//! ```no_run
//! use quant_evaluate::{Model, Options, Session};
//!
//! let model = Model::open("model.gguf", &Options::default())?;
//! let mut session = Session::new(&model, 512)?;
//! let tokens = [1, 450, 4996, 17354];
//! // The logits after the last token.
//! session.forward(&tokens, 3..4, |position, logits| {
//!     assert_eq!((position, logits.len()), (3, model.vocabulary()));
//! })?;
//! # Ok::<(), quant_evaluate::Error>(())
//! ```
//!
//! # How it works
//!
//! [`gguf_model::Forward`] says how the models of an architecture are run; one interpreter follows it.
//! Weights are packed once for the matrix products of `quant-kernels` and stay as they are in the file;
//! activations are quantized to meet them as ggml's are. Keys and values are kept in half precision.
//! Attention goes over them in blocks, with running sums: there is no matrix of scores. Logits are made
//! for some rows at a time, so that a large vocabulary takes no gigabytes. Vectors of tokens are read
//! from the file as they are needed.
//!
//! Memory: the weights as in the file, the cache ([`Session::cache_bytes`]), and working space of at
//! most some 100 MiB, most of it [the activations of a chunk](Options::working_space).
//!
//! The result does not depend on the number of threads. It does depend on the instruction set and on
//! how a text is cut into calls, by rounding.

#![forbid(unsafe_code)]

pub mod chat;
mod error;
mod footprint;
pub mod generate;
pub mod importance;
pub mod kl;
pub mod kld;
pub mod layered;
mod load;
mod logits;
pub mod measure;
mod model;
mod options;
pub mod perplexity;
mod run;
pub mod sample;
pub mod sensitivity;
mod squares;

pub use error::{Error, Result};
pub use footprint::{Footprint, LayerFootprint};
pub use model::Model;
pub use options::{Options, Threads};
pub use run::{CachePrecision, Observer, Pooling, Session};

/// The examples of the README are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
