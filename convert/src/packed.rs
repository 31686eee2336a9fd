//! How the weights of a checkpoint are stored, by its JSON files.

use std::path::Path;

use gguf_io::{Checkpoint, Limits, SourceFile, safetensors::Preference};
use quant_weights::{Quantization, Settings, Weights};

use crate::{Config, Result, json, mistral_format};

/// What config.json says of it.
///
/// # Errors
/// If that is a way that is not read.
pub(crate) fn quantization(config: &Config) -> Result<Quantization> {
    let settings = Settings {
        path: config.path(),
        quantization_config: config.get("quantization_config"),
        quantization: config.get("quantization"),
    };
    Quantization::read(&settings, json::read_optional)
}

/// Opens the weights of a checkpoint.
///
/// # Errors
/// As [`Checkpoint::open`], [`quantization`] and [`Weights::new`].
pub(crate) fn open(
    dir: &Path,
    elsewhere: &[SourceFile],
    config: &Config,
    preference: Preference,
    limits: &Limits,
) -> Result<Weights> {
    let quantization = quantization(config)?;
    let checkpoint = match config.is_mistral_format() {
        true => mistral_format::open(dir, limits)?,
        false => Checkpoint::open_elsewhere(dir, elsewhere, preference, limits)?,
    };
    quantization.check_parts(config.path(), &checkpoint)?;
    let quantization = quantization.or_older(dir, &checkpoint, json::read_optional)?;
    Ok(Weights::new(checkpoint, quantization)?)
}
