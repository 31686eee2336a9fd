//! A Hugging Face checkpoint as a [`Model`].

use std::path::Path;

use gguf_io::metadata::Metadata;

use crate::{
    CheckpointOptions, Config, Model, Result,
    architectures::{self, tensors::Mapped},
    general, json,
    model::{Origin, QUANTIZATION_VERSION},
    model_card, nvfp4,
    options::preference,
    packed, projectors, tokenizer,
};

/// Opens the checkpoint in `dir`: its configuration, tokenizer and the headers of its weights.
/// None of the weights is read, but for a few rows of an output that is both stored and tied.
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
    match absent_head {
        Some(head) => architectures::head::tie(architecture, &config, head, &mut stored)?,
        None => {
            let files = &weights.checkpoint().files;
            architectures::head::warn_of_two(&config, &stored, files)?;
        }
    }
    architectures::rerank::apply(architecture, &config, &mut stored)?;
    architectures::gemma3n::pad(architecture, &config, &mut stored)?;
    let files = &weights.checkpoint().files;
    architectures::minimax01::mark_empty(architecture, &mut config, (dir, files), &stored)?;
    let weight_only = nvfp4::settle(&mut stored)?;
    warn(&left_out);
    if config.is_wrapper() && projectors::of(&json::read_object(config.path())?).is_some() {
        tracing::warn!(
            kind = "projector",
            "the encoder of images or sound is no part of this file; `mmproj` makes another one of it"
        );
    }
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

/// Says what of the checkpoint is not in the output, a line for each reason.
pub(crate) fn warn(left_out: &[(String, &'static str)]) {
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
