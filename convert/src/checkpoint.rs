//! A Hugging Face checkpoint as a [`Model`].

use std::path::{Path, PathBuf};

use gguf_io::{Checkpoint, Limits, metadata::Metadata};
use serde_json::Value;

use crate::{
    Config, Model, Options, Result, architectures, general, model::Origin, model_card, tokenizer,
};

/// How to read a checkpoint.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckpointOptions {
    /// llama.cpp's name for the BPE pre-tokenizer, instead of finding it out.
    pub pre_tokenizer: Option<String>,
    /// A JSON file with keys of GGUF that replace those of the model card and the like.
    pub metadata: Option<PathBuf>,
    /// Limits on what the headers of the weights may allocate.
    pub limits: Limits,
}

impl From<&Options> for CheckpointOptions {
    fn from(options: &Options) -> Self {
        Self {
            pre_tokenizer: options.pre_tokenizer.clone(),
            metadata: options.metadata.clone(),
            limits: options.limits,
        }
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
    let overrides = model_card::read_overrides(options.metadata.as_deref())?;
    let mut config = Config::read(dir)?;
    let architecture = architectures::find(&config)?;
    refuse_quantized(&config)?;
    architecture.complete(&mut config)?;
    // An absurd number of layers is refused before anything is done with it.
    architectures::tensors::layers(&config)?;
    let checkpoint = Checkpoint::open(dir, &options.limits)?;
    let stored = architectures::tensors::map(architecture, &config, &checkpoint, dir)?;
    let mut tensors = (architecture.computed)(&config)?;
    tensors.extend(stored);

    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture.name);
    general::write(dir, &config, &tensors, &overrides, &mut metadata);
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

/// Refuses checkpoints whose weights are codes of another quantization.
fn refuse_quantized(config: &Config) -> Result<()> {
    const KEY: &str = "quantization_config";
    let Some(quantization) = config.get(KEY) else {
        return Ok(());
    };
    let method = quantization.get("quant_method").and_then(Value::as_str);
    let method = method.unwrap_or("an unnamed method");
    Err(config.wrong(
        KEY,
        &format!("{:?}", method.chars().take(40).collect::<String>()),
        "an unquantized checkpoint (F32, F16 or BF16), which the model's authors usually publish too",
    ))
}
