//! The memory that running a model takes, found without reading a weight.

use quant_weights::Source;

use crate::{Model, Options, Result, load::Read, run::chunk_len};

/// What a model takes of memory, for a text of so many tokens, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footprint {
    /// Tokens there is room for.
    pub context: usize,
    /// Weights. The vectors of tokens are not among them where the output has a matrix of its own: they
    /// are read from the file as they are needed.
    pub weights: u64,
    /// Keys and values, and the states of recurrent layers.
    pub cache: u64,
    /// The activations of a chunk of the text, while it goes through the widest layer.
    pub activations: u64,
    /// Logits, as many as are made at a time.
    pub logits: u64,
    /// The layers.
    pub layers: Vec<LayerFootprint>,
}

/// What a layer takes, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerFootprint {
    /// Its weights.
    pub weights: u64,
    /// Its keys and values.
    pub keys: u64,
    /// Its state, which does not grow with the text.
    pub state: u64,
    /// How many tokens it sees, if not all. Its keys and values are kept for all of them.
    pub window: Option<usize>,
    /// The layer whose keys and values it uses.
    pub lender: Option<usize>,
}

impl Footprint {
    /// Of a model that runs a text of so many tokens; headers alone are read.
    ///
    /// # Errors
    /// As [`Model::from_source`], but for weights that cannot be read.
    pub fn of(
        source: impl Source + Send + 'static,
        options: &Options,
        context: usize,
    ) -> Result<Self> {
        let model = Model::read(source, options, Read::Nothing)?;
        let weights = &model.weights;
        let layers = weights.layers.iter().zip(&weights.layer_bytes).map(|(layer, bytes)| {
            let all = layer.cache_bytes(options.cache, context);
            let state = layer.state_bytes();
            LayerFootprint {
                weights: *bytes,
                keys: all - state,
                state,
                window: layer.window().filter(|window| *window < context),
                lender: layer.lender(),
            }
        });
        let layers: Vec<_> = layers.collect();
        let chunk = if weights.is_causal { chunk_len(&model).min(context) } else { context };
        Ok(Self {
            context,
            weights: weights.bytes,
            cache: model.cache_bytes(context),
            activations: 4 * (chunk as u64).saturating_mul(weights.widest_layer as u64),
            logits: weights.output.as_ref().map_or(0, |output| output.logits_bytes()),
            layers,
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        [self.weights, self.cache, self.activations, self.logits]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}
