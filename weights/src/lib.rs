//! Tensors of any source as rows of `f32`, or as the blocks that they are stored in.
//!
//! Whoever works on the weights of a model wants rows of numbers. A model has them in shards, in
//! half precision or blocks, as codes with scales in another tensor, in the order of another
//! program's matrices. This crate stands in between: a [`Source`] shows a model as the GGUF file that
//! it is or would become, and a [`TensorReader`] reads its tensors, a range at a time, in memory that
//! depends on the range and not on the model.
//!
//! - [`Tensor`] is a name, a shape and where the values come from: [pieces](Piece) of files, each with
//!   an [`Encoding`] (how a value is stored) and a [`View`] (which values are taken, in which order).
//! - [`Source`] is metadata, tensors and files; [`Gguf`] is that of a GGUF file.
//! - [`Weights`] are those of a checkpoint: which of its tensors are weights, and how each is stored, by
//!   what its [`Quantization`] says and what the tensors show. Packed layers appear as the weights that
//!   they stand for.
//! - [`CodeBlock`]s are codes as they are stored, for whoever writes them on.
//! - [`TensorReader`] holds the buffers of one thread. [`Cut`] says how a tensor is cut into ranges.
//! - [`finite`] tells from the bits of stored values whether they are finite.
//!
//! | to add | where |
//! |---|---|
//! | a way to store values | [`Encoding`]: a variant, its name, and how a run of units is read |
//! | a packed layout | a file in `packed/`: which parts it has, and how rows are restored from them |
#![forbid(unsafe_code)]

mod checkpoint;
mod chunks;
mod codes;
mod element_map;
mod encoding;
mod error;
pub mod finite;
mod gather;
mod nvfp4;
mod packed;
mod quantization;
mod reader;
mod scaled;
mod source;
mod tensor;
mod view;

pub use checkpoint::Weights;
pub use chunks::Cut;
pub use codes::{CodeBlock, Codes, Offset};
pub use element_map::ElementMap;
pub use encoding::{Code, Encoding, Scales};
pub use error::{Error, Result};
pub use nvfp4::Nvfp4;
pub use packed::Packed;
pub use quantization::{Quantization, Settings};
pub use reader::TensorReader;
pub use scaled::{Problem, Purpose, mxfp4_shape};
pub use source::{Gguf, Source};
pub use tensor::{Piece, Tensor, TensorData};
pub use view::View;
