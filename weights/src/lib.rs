//! Tensors of any source as rows of `f32`, or as the blocks that they are stored in.
//!
//! Whoever works on the weights of a model wants rows of numbers. A model has them in shards, in
//! half precision or blocks, as codes with scales in another tensor, in the order of another
//! program's matrices. This crate stands in between: a [`Source`] shows a model as the GGUF file that
//! it is or would become, and a [`TensorReader`] reads its tensors, a range at a time, in memory that
//! depends on the range and not on the model.
//!
//! ```
//! use gguf_io::{GgmlType, GgufFile, Layout, Limits, Metadata, QTensor, SourceFile, TensorSpec};
//! use quant_kernels::Kernels;
//! use quant_weights::{Gguf, Source};
//!
//! # let values: Vec<f32> = (0..4 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
//! # let up = QTensor::quantize(GgmlType::Q8_0, &[4, 64], &values)?;
//! # let spec = TensorSpec::of("blk.0.ffn_up.weight", &up);
//! # let mut stream = Layout::new(&Metadata::new(), &[spec])?.write_to(Vec::new())?;
//! # stream.write("blk.0.ffn_up.weight", up.bytes())?;
//! # let file = SourceFile::from_bytes("model.gguf", stream.finish()?);
//! // A file, or `Gguf::open` of a path; `quant_convert::open` for a checkpoint.
//! let model = Gguf::try_from(GgufFile::read(file, &Limits::default())?)?;
//! let mut reader = model.reader(Kernels::best());
//! for tensor in model.tensors() {
//!     let row = reader.values(tensor, 0..tensor.row_len())?;
//!     println!("{} {:?} begins with {}", tensor.name, tensor.shape, row[0]);
//! #   assert!(row.iter().zip(&values).all(|(a, b)| (a - b).abs() < 0.01));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
mod code_block;
mod coded;
mod codes;
mod distortion;
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
mod stored;
mod tensor;
mod view;

pub use checkpoint::Weights;
pub use chunks::Cut;
pub use code_block::{CodeBlock, Offset};
pub use coded::{Code, Scales};
pub use codes::Codes;
pub use distortion::Distortion;
pub use element_map::ElementMap;
pub use encoding::Encoding;
pub use error::{Error, Result};
pub use nvfp4::Nvfp4;
pub use packed::Packed;
pub use quantization::{Quantization, Settings};
pub use reader::TensorReader;
pub use scaled::{MXFP4_BYTES, Problem, Purpose, mxfp4_shape, numbers};
pub use source::{Gguf, Source};
pub use tensor::{Piece, Tensor, TensorData};
pub use view::View;

/// The examples of the README are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
