//! The hyper-parameters of a model.

use gguf_io::metadata::{Array, Metadata, Value};

use crate::{
    Architecture, Dimension, Size,
    keys::{ATTENDING, MAX_LAYERS},
    problem::Problems,
};

/// What a model's metadata says about its sizes. Of a key with a number for each layer the first
/// positive one stands for the model where no layer is asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HyperParameters {
    /// All layers, those that predict further tokens included; those of the encoder, if there is one.
    pub layers: u32,
    /// How many of them predict further tokens.
    pub further_layers: u32,
    /// Layers of a decoder beside an encoder.
    pub decoder_layers: u32,
    /// Layers at the beginning that have no experts, in a model whose other layers have.
    pub leading_layers: u32,
    pub(crate) has_shared_experts: bool,
    moe_step: u32,
    pub(crate) is_latent: bool,
    pub(crate) is_long_rope: bool,
    dimensions: Dimensions,
    /// How many of the last layers use the keys and values of others.
    pub(crate) shared_keys: u32,
    recurrent: Vec<bool>,
    sliding: Vec<bool>,
    /// Dimensions with a number for each layer.
    by_layer: Vec<(Dimension, Vec<u64>)>,
}

/// Numbers in the order of [`Dimension::ALL`].
#[derive(Clone, Debug)]
struct Dimensions([Option<u64>; Dimension::ALL.len()]);

impl Dimensions {
    fn get(&self, dimension: Dimension) -> Option<u64> {
        self.0.get(dimension as usize).copied().flatten()
    }

    /// Sets a number.
    fn set(&mut self, dimension: Dimension, number: Option<u64>) {
        if let Some(known) = self.0.get_mut(dimension as usize) {
            *known = number;
        }
    }

    /// Sets what the metadata does not tell.
    fn fill(&mut self, dimension: Dimension, derived: Option<u64>) {
        if let Some(known) = self.0.get_mut(dimension as usize) {
            *known = known.or(derived);
        }
    }
}

impl HyperParameters {
    /// Reads what there is to read, and says what is wrong with each key by itself.
    pub(crate) fn gather(
        metadata: &Metadata,
        architecture: &Architecture,
        problems: &mut Problems,
    ) -> Self {
        let at = |name: &str| metadata.get(&format!("{}.{name}", architecture.name));
        let number = |name: &str| at(name).and_then(number_of);
        let small = |name: &str| number(name).and_then(|n| u32::try_from(n).ok());
        let layers = small("block_count").filter(|n| (1..=MAX_LAYERS).contains(n));
        for key in architecture.keys() {
            key.check(architecture.name, at(key.name), layers, problems);
        }
        let layers = layers.unwrap_or(0);
        let dimensions = Dimension::ALL.map(|(dimension, key)| match dimension {
            Dimension::Vocabulary => vocabulary(metadata, number("vocab_size")),
            Dimension::Labels => Some(match at(key) {
                Some(Value::Array(labels)) if !labels.is_empty() => labels.len() as u64,
                _ => 1,
            }),
            // Here 0 stands for what is said elsewhere.
            Dimension::ExpertFeedForward
            | Dimension::SharedFeedForward
            | Dimension::LatentKey
            | Dimension::LatentValue => number(key).filter(|n| *n > 0),
            _ if key.starts_with("tokenizer.") => metadata.get(key).and_then(number_of),
            _ => number(key),
        });
        let mut dimensions = Dimensions(dimensions);
        use Dimension as D;
        let ratio = |whole: Option<u64>, part: Option<u64>| whole?.checked_div(part?);
        let head = ratio(dimensions.get(D::Embedding), dimensions.get(D::Heads));
        let of_expert = ratio(dimensions.get(D::FeedForward), number("expert_used_count"));
        if dimensions.get(D::ExpertLatent).is_none_or(|n| n == 0) {
            dimensions.set(D::ExpertLatent, dimensions.get(D::Embedding));
        }
        dimensions.fill(D::KvHeads, dimensions.get(D::Heads));
        dimensions.fill(D::Key, head);
        dimensions.fill(D::Value, head);
        dimensions.fill(D::Rotary, dimensions.get(D::Key));
        dimensions.fill(D::ExpertFeedForward, of_expert);
        dimensions.fill(D::SharedFeedForward, dimensions.get(D::FeedForward));
        let is_latent = number("attention.key_length_mla").is_some_and(|n| n > 0);
        if !is_latent {
            dimensions.fill(D::LatentKey, dimensions.get(D::Key));
            dimensions.fill(D::LatentValue, dimensions.get(D::Value));
        }
        let by_layer = [D::Heads, D::KvHeads, D::FeedForward]
            .into_iter()
            .filter_map(|dimension| Some((dimension, numbers_of(at(dimension.key())?)?)))
            .collect();
        let further_layers = small("nextn_predict_layers").unwrap_or(0).min(layers);
        let flags = |name: &str| at(name).and_then(flags_of);
        let has_key = |name: &str| architecture.keys().any(|key| key.name == name);
        let recurrent = match flags("attention.recurrent_layers") {
            Some(flags) => flags,
            None if has_key("full_attention_interval") => {
                let interval = small("full_attention_interval").unwrap_or(ATTENDING).max(1);
                let trunk = layers.saturating_sub(further_layers);
                (0..trunk).map(|layer| (layer + 1) % interval != 0).collect()
            }
            None => Vec::new(),
        };
        let parameters = Self {
            layers,
            further_layers,
            shared_keys: small("attention.shared_kv_layers").unwrap_or(0),
            recurrent,
            sliding: flags("attention.sliding_window_pattern").unwrap_or_default(),
            decoder_layers: small("decoder_block_count").unwrap_or(layers).min(MAX_LAYERS),
            leading_layers: small("leading_dense_block_count").unwrap_or(0),
            moe_step: small("interleave_moe_layer_step").unwrap_or(0),
            has_shared_experts: number("expert_shared_feed_forward_length").is_some_and(|n| n > 0),
            is_latent,
            is_long_rope: at("rope.scaling.type").and_then(Value::as_str) == Some("longrope"),
            dimensions,
            by_layer,
        };
        if architecture.slots().any(|slot| slot.name == "token_types")
            && parameters.dimension(D::TokenTypes).is_none_or(|n| n == 0)
        {
            problems.missing_key(D::TokenTypes.key(), "a positive UINT32");
        }
        parameters
    }

    /// A number of the metadata, or what stands for it where it is missing.
    pub fn dimension(&self, dimension: Dimension) -> Option<u64> {
        self.dimensions.get(dimension)
    }

    /// Whether a layer has a state in place of attention.
    pub(crate) fn is_recurrent(&self, layer: u32) -> bool {
        self.recurrent.get(layer as usize).copied().unwrap_or(false)
    }

    /// Whether a layer has keys and values of its own.
    pub(crate) fn has_keys(&self, layer: u32) -> bool {
        layer < self.layers.saturating_sub(self.shared_keys)
    }

    /// Whether a layer has a sliding window.
    pub(crate) fn is_sliding(&self, layer: u32) -> bool {
        self.sliding.get(layer as usize).copied().unwrap_or(false)
    }

    /// As [`dimension`](Self::dimension), in a layer.
    pub fn dimension_in(&self, dimension: Dimension, layer: Option<u32>) -> Option<u64> {
        let own = self.by_layer.iter().find(|(other, _)| *other == dimension).zip(layer);
        match own {
            Some(((_, numbers), layer)) => numbers.get(layer as usize).copied(),
            None => self.dimension(dimension),
        }
    }

    /// A size; `None` if the metadata does not tell, or it is larger than any tensor could be.
    pub fn size(&self, size: Size) -> Option<u64> {
        self.size_in(size, None)
    }

    /// As [`size`](Self::size), in a layer.
    pub fn size_in(&self, size: Size, layer: Option<u32>) -> Option<u64> {
        match size {
            Size::Of(dimension) => self.dimension_in(dimension, layer),
            Size::Is(number) => Some(number),
            Size::Sum(parts) => parts
                .iter()
                .try_fold(0u64, |sum, part| sum.checked_add(self.size_in(*part, layer)?)),
            Size::Product(parts) => parts
                .iter()
                .try_fold(1u64, |product, part| product.checked_mul(self.size_in(*part, layer)?)),
            Size::Difference(whole, part) => {
                self.size_in(*whole, layer)?.checked_sub(self.size_in(*part, layer)?)
            }
            Size::Half(whole) => Some(self.size_in(*whole, layer)? / 2),
            Size::Quotient(whole, part) => {
                self.size_in(*whole, layer)?.checked_div(self.size_in(*part, layer)?)
            }
            Size::Either(one, _) => self.size_in(*one, layer),
        }
    }

    /// Whether a layer is the last of so many (`interleave_moe_layer_step`).
    pub(crate) fn is_step(&self, layer: u32) -> bool {
        layer.wrapping_add(1).checked_rem(self.moe_step) == Some(0)
    }

    /// Layers that predict the next token.
    pub fn trunk_layers(&self) -> u32 {
        self.layers.saturating_sub(self.further_layers)
    }

    /// The dimensions of a size that the metadata does not tell.
    pub(crate) fn unknown(&self, size: Size, missing: &mut Vec<Dimension>) {
        match size {
            Size::Of(dimension) if self.dimension(dimension).is_none() => {
                // What is derived from another key is missing because that one is.
                let cause = match dimension {
                    Dimension::Key | Dimension::Value | Dimension::KvHeads | Dimension::Rotary => {
                        Dimension::Heads
                    }
                    Dimension::SharedFeedForward => Dimension::FeedForward,
                    other => other,
                };
                if !missing.contains(&cause) {
                    missing.push(cause);
                }
            }
            Size::Of(_) | Size::Is(_) => {}
            Size::Sum(parts) | Size::Product(parts) => {
                parts.iter().for_each(|part| self.unknown(*part, missing));
            }
            Size::Difference(whole, part)
            | Size::Quotient(whole, part)
            | Size::Either(whole, part) => {
                self.unknown(*whole, missing);
                self.unknown(*part, missing);
            }
            Size::Half(whole) => self.unknown(*whole, missing),
        }
    }
}

/// Tokens: those of the tokenizer, or what a model without one says.
fn vocabulary(metadata: &Metadata, size: Option<u64>) -> Option<u64> {
    match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::String(tokens))) => Some(tokens.len() as u64),
        _ => match metadata.get_str("tokenizer.ggml.model") {
            Some("none" | "no_vocab") => size,
            _ => None,
        },
    }
}

/// An integer; of several the first that is positive, else the first.
pub(crate) fn number_of(value: &Value) -> Option<u64> {
    match numbers_of(value) {
        Some(numbers) => {
            numbers.iter().find(|number| **number > 0).or_else(|| numbers.first()).copied()
        }
        None => value.as_u64(),
    }
}

/// Flags, one for each layer.
fn flags_of(value: &Value) -> Option<Vec<bool>> {
    match value {
        Value::Array(Array::Bool(flags)) => Some(flags.clone()),
        other => Some(numbers_of(other)?.iter().map(|number| *number != 0).collect()),
    }
}

/// Integers, if there are several; a negative one ends them.
fn numbers_of(value: &Value) -> Option<Vec<u64>> {
    match value {
        Value::Array(Array::Uint32(numbers)) => Some(numbers.iter().map(|&n| n.into()).collect()),
        Value::Array(Array::Int32(numbers)) => {
            Some(numbers.iter().map_while(|&n| n.try_into().ok()).collect())
        }
        _ => None,
    }
}
