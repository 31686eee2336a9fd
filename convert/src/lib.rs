//! From a Hugging Face checkpoint, or a GGUF file, to a quantized GGUF file in one pass.
//!
//! To run a model from the Hub in llama.cpp or anything that reads its files, the usual way is a Python
//! environment, an F16 file as large as the checkpoint, and a second program that quantizes it. Here it
//! is a function call: any Rust program can convert, sees first what it will get, and needs a few MiB of
//! memory whatever the model's size. Tensors have the bytes that llama.cpp would write.
//!
//! ```no_run
//! use quant_convert::{Conversion, recipe::FileType};
//!
//! let plan = Conversion::new("checkpoint").file_type(FileType::Q4_K_M).plan()?;
//! println!("{} bytes, {:.2} bits per weight", plan.total_bytes(), plan.bits_per_weight());
//! plan.write("model.gguf")?;
//! # Ok::<(), quant_convert::Error>(())
//! ```
//!
//! The way of a tensor: [`open`] finds names, shapes and byte ranges and refuses what is damaged;
//! [`Plan::new`] gives each tensor its type and its place in the output; [`Plan::run`] streams the
//! weights through in a fixed memory window and lets the output appear under its name when it is
//! complete.
//!
//! # Memory
//!
//! A run takes 1 MiB for each thread and 1 MiB more, if rows have at most 65536 values; 3 MiB for each
//! thread where packed layers are restored. On top of that come the metadata, the
//! importance matrix and a list of 24 bytes for each 65536 values. Opening takes at most eight times the
//! size of the headers and 1 MiB. `tests/memory.rs` counts all of it at the allocator.
//!
//! [`verify`](verify::verify) checks a model to its last value, [`compare`](compare::compare)
//! measures how far two are apart.
//!
//! | to add | where |
//! |---|---|
//! | an architecture | one file in `architectures/` |
//! | a pre-tokenizer | a row in `tokenizer/pre.rs` |
//! | a mix of types | rows in `recipe/mixes.rs` |
#![forbid(unsafe_code)]

pub mod architectures;
mod carry;
pub mod checkpoint;
mod chunks;
pub mod compare;
mod config;
mod control;
mod conversion;
mod error;
mod general;
pub mod gguf_input;
pub mod grouped;
mod importance;
mod inputs;
mod job;
mod json;
mod loadable;
pub mod lora;
mod lost;
mod mend;
mod mistral_format;
pub mod mix;
pub mod model;
mod model_card;
mod model_name;
mod neighbours;
mod nvfp4;
mod options;
mod own_names;
mod packed;
mod plan;
pub mod projectors;
pub mod provenance;
pub mod recipe;
mod stream;
pub mod tokenizer;
mod turns;
mod unused;
pub mod verify;
mod workers;

use std::path::{Path, PathBuf};

pub use config::Config;
pub use control::{Control, Progress};
pub use conversion::{Conversion, OutputTensor, Planned};
pub use error::{Error, Result};
pub use model::Model;
pub use options::{CheckpointOptions, Options, Search, Split};
pub use plan::{InexactScales, Ladder, Plan, PlannedShard, PlannedTensor};

/// Opens a model: a checkpoint's folder, that of a [LoRA adapter](lora), or a GGUF file (the first
/// shard, if it is split). A path
/// that only leads to a checkpoint, such as that of its config.json, stands for it: see
/// [`gguf_io::safetensors::locate`].
///
/// Where the options name an [architecture](Options::architecture), safetensors keep the names of their
/// tensors.
///
/// # Errors
/// Whatever is wrong with the files, as [`checkpoint::open`] and [`gguf_input::open`] find it.
pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Model> {
    open_path(path.as_ref(), options)
}

fn open_path(path: &Path, options: &Options) -> Result<Model> {
    if let Some(name) = &options.architecture {
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "safetensors") {
            return own_names::open(path, name, options);
        }
        unused::no_effect("`architecture`", "a GGUF file names its architecture itself");
    }
    if lora::is_adapter(path) {
        return lora::open(path, &options.into());
    }
    let path = &match mistral_format::is_here(path) {
        true => path.to_owned(),
        false => locate(path, options)?,
    };
    if options.mmproj && path.is_dir() {
        return projectors::open(path, &options.into());
    }
    if options.mmproj {
        tracing::warn!(
            kind = "unused-option",
            "`mmproj` has no effect: a GGUF file is one model, from which no encoder is taken"
        );
    }
    if path.is_dir() {
        checkpoint::open(path, &options.into()).map_err(|error| neighbours::explain(path, error))
    } else {
        let overrides = model_card::read_overrides(options.metadata.as_deref())?;
        let mut model = match options.elsewhere.as_slice() {
            [] => gguf_input::open(path, &options.limits)?,
            files => gguf_input::open_files(path, files, &options.limits)?,
        };
        general::replace(&overrides, &mut model.metadata);
        if let Some(name) = &options.pre_tokenizer {
            tokenizer::of_gguf::set_pre_tokenizer(path, name, &mut model.metadata)?;
        }
        Ok(model)
    }
}

/// What a path stands for, which is known where files were opened before.
fn locate(path: &Path, options: &Options) -> Result<PathBuf> {
    match options.elsewhere.is_empty() {
        true => Ok(gguf_io::safetensors::locate(path)?),
        false => Ok(path.to_owned()),
    }
}

/// The examples of the README are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
