//! A Hugging Face checkpoint as a [`Model`].

use std::path::Path;

use gguf_io::{Limits, metadata::Metadata};

use crate::{
    Config, Model, Options, Result, architectures, general, model::Origin, packed, tokenizer,
};

/// How to read a checkpoint.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckpointOptions {
    /// llama.cpp's name for the BPE pre-tokenizer, instead of finding it out.
    pub pre_tokenizer: Option<String>,
    /// Limits on what the headers of the weights may allocate.
    pub limits: Limits,
}

impl From<&Options> for CheckpointOptions {
    fn from(options: &Options) -> Self {
        Self { pre_tokenizer: options.pre_tokenizer.clone(), limits: options.limits }
    }
}

/// The version of GGUF's block formats.
const QUANTIZATION_VERSION: u32 = 2;

/// Opens the checkpoint in `dir`: its configuration, tokenizer and the headers of its weights.
/// None of the weights is read.
///
/// Metadata is in the order in which the reference converter writes it; `general.file_type` is 0
/// (all F32) until a recipe is chosen.
///
/// # Errors
/// All that can be wrong with a checkpoint is found here: see [`Error`](crate::Error).
pub fn open(dir: &Path, options: &CheckpointOptions) -> Result<Model> {
    let mut config = Config::read(dir)?;
    let architecture = architectures::find(&config)?;
    architecture.complete(&mut config)?;
    // An absurd number of layers is refused before anything is done with it.
    architectures::tensors::layers(&config)?;
    let checkpoint = packed::open(dir, &config, &options.limits)?;
    let stored = architectures::tensors::map(architecture, &config, &checkpoint, dir)?;
    let mut tensors = (architecture.computed)(&config)?;
    tensors.extend(stored);

    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture.name);
    general::write(dir, &config, &tensors, &mut metadata);
    architectures::parameters::write(architecture, &config, &mut metadata)?;
    metadata.insert("general.quantization_version", QUANTIZATION_VERSION);
    let reading = tokenizer::Options {
        kinds: architecture.tokenizers,
        adjustments: architecture.special,
        pre_tokenizer: options.pre_tokenizer.as_deref(),
    };
    tokenizer::write(dir, &config, &reading, &mut metadata)?;
    Ok(Model { metadata, tensors, files: checkpoint.files, origin: Origin::Checkpoint })
}
