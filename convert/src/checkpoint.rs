//! A Hugging Face checkpoint as a [`Model`].

use std::path::{Path, PathBuf};

use gguf_io::{Limits, SourceFile, metadata::Metadata, safetensors::Preference};

use crate::{
    Config, Model, Options, Result,
    architectures::{self, tensors::Mapped},
    general,
    model::Origin,
    model_card, nvfp4, packed, tokenizer,
};

/// How to read a checkpoint.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckpointOptions {
    /// llama.cpp's name for the BPE pre-tokenizer, instead of finding it out.
    pub pre_tokenizer: Option<String>,
    /// A JSON file with keys of GGUF that replace those of the model card and the like.
    pub metadata: Option<PathBuf>,
    /// Do as llama.cpp's converter does even where its result is wrong for the user.
    pub like_reference: bool,
    /// Limits on what the headers of the weights may allocate.
    pub limits: Limits,
    /// Weights that were opened before, known by the names of their files: they come before those in
    /// the folder.
    pub elsewhere: Vec<SourceFile>,
}

impl From<&Options> for CheckpointOptions {
    fn from(options: &Options) -> Self {
        Self {
            pre_tokenizer: options.pre_tokenizer.clone(),
            metadata: options.metadata.clone(),
            like_reference: options.like_reference,
            limits: options.limits,
            elsewhere: options.elsewhere.clone(),
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
    config.follow_reference(options.like_reference);
    let architecture = architectures::find(&config)?;
    // What cannot be read at all is refused for that first.
    packed::quantization(&config)?;
    architecture.complete(&mut config)?;
    // An absurd number of layers is refused before anything is done with it.
    architectures::tensors::layers(&config)?;
    let preference = preference(options.like_reference);
    let weights = packed::open(dir, &options.elsewhere, &config, preference, &options.limits)?;
    architectures::nextn::count(architecture, &mut config, weights.checkpoint())?;
    let Mapped { tensors: mut stored, left_out, values, absent_head, .. } =
        architectures::tensors::map(architecture, &config, &weights, dir)?;
    if let Some(head) = absent_head {
        architectures::head::tie(architecture, &config, head, &mut stored)?;
    }
    architectures::rerank::apply(architecture, &config, &mut stored)?;
    let weight_only = nvfp4::settle(&mut stored)?;
    warn(&left_out);
    let mut computed_keys = Metadata::new();
    let mut tensors = (architecture.computed)(&config, &mut architecture.keys(&mut computed_keys))?;
    tensors.extend(stored);

    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture.name);
    // The reference converter computes these tensors, with what they set, before all other keys.
    for (key, value) in computed_keys.iter() {
        metadata.insert(key, value.clone());
    }
    for (key, values) in values {
        metadata.insert(key, values);
    }
    let folder = general::folder(dir, options.like_reference);
    general::write(dir, folder, &config, &tensors, &overrides, &mut metadata);
    architecture.write(&config, &mut metadata)?;
    architectures::finish(architecture, &config, &tensors, &mut metadata)?;
    metadata.insert("general.quantization_version", QUANTIZATION_VERSION);
    nvfp4::describe(&weight_only, &mut metadata);
    let reading = tokenizer::Options {
        kinds: architecture.tokenizers,
        adjustments: architecture.special,
        pre_tokenizer: options.pre_tokenizer.as_deref(),
        like_reference: options.like_reference,
    };
    tokenizer::write(dir, &config, &reading, &mut metadata)?;
    if metadata.get_str("tokenizer.ggml.model") == Some("llama") {
        for (key, value) in architecture.last {
            metadata.insert(*key, *value);
        }
    }
    let left_out = left_out.into_iter().map(|(name, _)| name).collect();
    let origin = Origin::Checkpoint;
    Ok(Model { metadata, tensors, files: weights.into_checkpoint().files, origin, left_out })
}

/// Which of two sets of weights counts: the reference goes by the index, transformers does not.
pub(crate) fn preference(like_reference: bool) -> Preference {
    if like_reference { Preference::Index } else { Preference::SingleFile }
}

/// Says what of the checkpoint is not in the output, a line for each reason.
fn warn(left_out: &[(String, &'static str)]) {
    const SHOWN: usize = 4;
    let mut reasons: Vec<&str> = left_out.iter().map(|(_, reason)| *reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        let names: Vec<_> = left_out.iter().filter(|(_, r)| *r == reason).collect();
        let shown: Vec<_> = names.iter().take(SHOWN).map(|(name, _)| format!("{name:?}")).collect();
        let more = if names.len() > SHOWN { ", …" } else { "" };
        tracing::warn!(
            "{} tensors of the checkpoint are left out: {reason} ({}{more})",
            names.len(),
            shown.join(", ")
        );
    }
}
