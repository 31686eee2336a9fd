//! Reads and writes GGUF, safetensors and importance matrix files.
//!
//! Models are files from people you do not know, of any size, and half of them come in parts. A reader
//! must not panic, run out of memory or believe an offset; a writer must not leave half a file under a
//! final name. These do neither.
//!
//! - [`GgufFile`] reads the header of a GGUF file or of all shards of a split one: metadata and a
//!   list of tensors. [`GgufFile::tensor`] finds one by its name; [`StoredTensor`] reads or borrows
//!   its bytes.
//! - [`Layout`] is the header of a file to be written, and the offset of each tensor in it.
//!   [`GgufWriter`] and [`GgufStream`] put tensors there, and refuse to finish without all of them.
//! - [`Checkpoint`] reads a folder of safetensors files, with or without an index, or one file.
//! - [`Imatrix`] reads importance matrices, in GGUF files and in the older `.dat` format.
//! - [`AtomicFile`] writes an output that is complete or absent, from many threads; [`AtomicSet`]
//!   the shards of a model, which [`Split`] distributes its tensors over; [`AtomicFolder`] a folder
//!   of files.
//!
//! None of these touches the values of a weight, and none loads tensor data (an importance matrix
//! excepted, which is small): data is read with [`SourceFile::read_exact_at`], by position, so that
//! any number of threads can share a file and memory use does not depend on its size.
//!
//! # What is promised
//!
//! Whatever the bytes, readers return a value or an [`Error`]: there is no `unsafe` code here, no
//! index or sum is unchecked, and nothing recurses on what a file says. Before anything is
//! allocated its size is compared with the bytes left in the file and charged to a [`Budget`]: at
//! most eight times the size of the file plus 1 MiB, and no more than [`Limits::heap`]. Files are
//! never mapped into memory, unless the caller does and passes the map in, so a file that shrinks
//! under a run is an error ([`SourceFile::check_unchanged`]) and not a signal.
//!
//! Not promised: that the time taken is small, or that a model that is well-formed is any good.
//!
//! # Example
//!
//! A file with one tensor, written to memory and read back:
//!
//! ```
//! use gguf_io::{GgmlType, GgufFile, Layout, Limits, Metadata, QTensor, SourceFile, TensorSpec};
//!
//! let norm = QTensor::quantize(GgmlType::F32, &[4], &[1.0, 2.0, 3.0, 4.0])?;
//! let metadata = Metadata::from_iter([("general.architecture", "llama")]);
//! let layout = Layout::new(&metadata, &[TensorSpec::of("output_norm.weight", &norm)])?;
//! let mut stream = layout.write_to(Vec::new())?;
//! stream.write("output_norm.weight", norm.bytes())?;
//! let bytes = stream.finish()?;
//!
//! let cut = SourceFile::from_bytes("cut.gguf", bytes[..bytes.len() - 32].to_vec());
//! let model = GgufFile::read(SourceFile::from_bytes("model.gguf", bytes), &Limits::default())?;
//! assert_eq!(model.metadata.get_str("general.architecture"), Some("llama"));
//! assert_eq!(model.tensor("output_norm.weight")?.read()?.dequantize()?, [1.0, 2.0, 3.0, 4.0]);
//!
//! // Cut short, it is refused before anyone reads a weight.
//! let error = GgufFile::read(cut, &Limits::default())?.check_data().unwrap_err();
//! assert!(error.to_string().contains("needs 16 bytes, found 0"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! The first three are on by default. GGUF files are read without any.
//!
//! - `write`: files on disk that are complete or absent, [`GgufWriter`], [`gguf::edit`],
//!   [`gguf::regroup`].
//! - `safetensors`: [`Checkpoint`].
//! - `imatrix`: [`Imatrix`].
//! - `remote`: `remote::Model` opens models on the Hugging Face Hub and on web servers, whose weights
//!   are then read by ranges. The cryptography is written for x86-64 and 64-bit ARM; elsewhere https
//!   addresses are refused.
//!
//! - `serde`: `Serialize` for [`Metadata`], a map of plain values, and for tensor lists.
//!
//! Nothing builds C or C++, with any of them.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(all(feature = "write", feature = "safetensors", feature = "imatrix")),
    allow(dead_code, unused_imports, reason = "what only a feature uses")
)]

mod cursor;
mod error;
pub mod gguf;
#[cfg(feature = "imatrix")]
pub mod imatrix;
pub mod io;
#[cfg(feature = "safetensors")]
pub mod json;
mod limits;
pub mod message;
pub mod metadata;
mod names;
mod open_files;
#[cfg(feature = "write")]
pub mod output;
#[cfg(feature = "write")]
mod output_folder;
#[cfg(feature = "write")]
mod ranges;
#[cfg(feature = "remote")]
pub mod remote;
#[cfg(feature = "safetensors")]
pub mod safetensors;
mod sniff;
mod stored;

pub use error::{Error, Place, Problems, Result};
pub use gguf::{AnyGguf, AnyTensor, GgufFile, Layout, PlacedTensor, Split, TensorInfo, TensorSpec};
#[cfg(feature = "write")]
pub use gguf::{GgufStream, GgufWriter};
#[cfg(feature = "imatrix")]
pub use imatrix::{BrokenEntry, Imatrix, ImatrixEntry};
pub use io::{ReadAt, SourceFile};
pub use limits::{Budget, Limits};
pub use metadata::{Array, GgufString, Metadata, Value, ValueType};
pub use open_files::raise_open_file_limit;
#[cfg(feature = "write")]
pub use output::{AtomicFile, AtomicSet, FileSystem, OutputOptions, WriteAt};
#[cfg(feature = "write")]
pub use output_folder::AtomicFolder;
#[cfg(feature = "safetensors")]
pub use safetensors::{Checkpoint, CheckpointTensor, Dtype};
pub use stored::StoredTensor;

/// What is read and written: the types of tensors, and a tensor.
pub use quant_core::{GgmlType, QTensor};

/// The examples of the README are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
