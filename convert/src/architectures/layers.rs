//! How many layers a model has.

use crate::{Config, Result};

/// Layers beyond any model: a damaged config.json must not make us list a billion tensors.
const MOST_LAYERS: u64 = 10_000;

/// Keys of config.json that count the layers, as families count them.
pub(super) const LAYERS: &[&str] = &["n_layers", "num_hidden_layers", "n_layer", "num_layers"];

/// Where a family's configuration counts its layers that predict further tokens.
#[derive(Clone, Copy, Debug)]
pub enum Further {
    /// The family has none, or they are left out.
    None,
    /// Under this key; they are numbered on after the last layer.
    Counted(&'static str),
    /// Under this key where config.json has it, otherwise by the names of the tensors.
    CountedOrNamed(&'static str),
}

/// The number of layers that predict the next token.
///
/// # Errors
/// If config.json has none or more than any model has.
pub(crate) fn layers(config: &Config) -> Result<u64> {
    let key = config.alias(LAYERS).unwrap_or("num_hidden_layers");
    match config.require(key)? {
        layers if layers <= MOST_LAYERS => Ok(layers),
        absurd => Err(config.wrong(key, &absurd.to_string(), &format!("at most {MOST_LAYERS}"))),
    }
}

/// The number of layers of the output, with those that predict further tokens.
///
/// # Errors
/// As [`layers`].
pub(super) fn all_layers(config: &Config) -> Result<u64> {
    let further = config.further_layers();
    Ok(layers(config)?.saturating_add(further.min(MOST_LAYERS)))
}
