//! The tensors that a model of given hyper-parameters has, or may have.

use crate::{Architecture, Dimension, HyperParameters, Size, Slot, When, slot::Stack};

impl Architecture {
    /// The tensors of a model with these hyper-parameters, slot by slot, in a layer's order.
    ///
    /// A tensor that two forms may take is listed in both, see [`Need::Unless`](crate::Need::Unless).
    pub fn tensors<'a>(
        &self,
        parameters: &'a HyperParameters,
    ) -> impl Iterator<Item = Expected> + use<'a> {
        self.slots().flat_map(move |slot| slot.expand(parameters))
    }
}

impl Slot {
    /// The layers it may be in; `None` for a tensor outside the layers.
    fn layers(&self, parameters: &HyperParameters) -> Option<u32> {
        self.name.contains("{}").then(|| match Stack::of(self.name) {
            Some(Stack::Decoder) => parameters.decoder_layers,
            _ => parameters.layers,
        })
    }

    /// The tensors of this slot in a model.
    pub(crate) fn expand<'a>(
        &'static self,
        parameters: &'a HyperParameters,
    ) -> impl Iterator<Item = Expected> + use<'a> {
        let layers = self.layers(parameters);
        let is_in = move |layer: &u32| self.is_in(parameters, *layer);
        (0..layers.unwrap_or(1)).filter(is_in).map(move |layer| {
            let layer = layers.map(|_| layer);
            let size = |size: Size| parameters.size_in(size, layer);
            let second = |size: &Size| match *size {
                Size::Either(_, other) => parameters.size_in(*other, layer),
                size => parameters.size_in(size, layer),
            };
            let has_second = self.shape.iter().any(|size| matches!(size, Size::Either(..)));
            Expected {
                slot: self,
                layer,
                shape: self.shape.iter().copied().map(size).collect(),
                other: has_second.then(|| self.shape.iter().map(second).collect()),
            }
        })
    }

    fn is_in(&self, parameters: &HyperParameters, layer: u32) -> bool {
        let has = |dimension| parameters.dimension(dimension).is_some_and(|n| n > 0);
        let has_here =
            |dimension| parameters.dimension_in(dimension, Some(layer)).is_some_and(|n| n > 0);
        // Its width must be said: where it is not, the layer is short of the key.
        let feeds_forward =
            || parameters.dimension_in(Dimension::FeedForward, Some(layer)).is_none_or(|n| n > 0);
        self.when.iter().all(|when| match *when {
            When::Experts => has(Dimension::Experts),
            When::NoExperts => !has(Dimension::Experts),
            When::Leading => layer < parameters.leading_layers,
            When::AfterLeading => layer >= parameters.leading_layers,
            When::SharedExperts => parameters.has_shared_experts,
            When::QueryRank => has(Dimension::QueryRank),
            When::NoQueryRank => !has(Dimension::QueryRank),
            When::Latent => parameters.is_latent,
            When::NotLatent => !parameters.is_latent,
            When::LongRope => parameters.is_long_rope,
            When::NotLongRope => !parameters.is_long_rope,
            When::First => layer == 0,
            When::NotFirst => layer > 0,
            When::LayersFrom(least) => parameters.trunk_layers() >= least,
            When::LayersBelow(least) => parameters.trunk_layers() < least,
            When::Attention => has_here(Dimension::KvHeads),
            When::NoAttention => !has_here(Dimension::KvHeads),
            When::Heads => has_here(Dimension::Heads),
            When::FeedForward => feeds_forward(),
            When::NeitherPart => !has_here(Dimension::KvHeads) && !feeds_forward(),
            When::LeadingOrFurther => {
                layer < parameters.leading_layers || layer >= parameters.trunk_layers()
            }
            When::EveryStep => parameters.is_step(layer),
            When::BetweenSteps => !parameters.is_step(layer),
            When::EmbeddingOut => has(Dimension::EmbeddingOut),
            When::Trunk => layer < parameters.trunk_layers(),
            When::Further => layer >= parameters.trunk_layers(),
            When::Recurrent => parameters.is_recurrent(layer),
            When::Attending => !parameters.is_recurrent(layer),
            When::Sliding => parameters.is_sliding(layer),
            When::Full => !parameters.is_sliding(layer),
            When::OwnKeys => parameters.has_keys(layer),
            When::BorrowedKeys => !parameters.has_keys(layer),
            When::PerLayerInput => has(Dimension::PerLayerInput),
            When::SharedCount => has(Dimension::SharedExperts),
            When::Compressed(ratio) => parameters.compress_ratio(layer) == u64::from(ratio),
            When::Hashed => layer < parameters.hash_layers,
            When::NotHashed => layer >= parameters.hash_layers,
            When::InStacks => {
                let stack = parameters.dimension(Dimension::StackLayers).unwrap_or(0);
                u64::from(layer) < stack.saturating_mul(2)
            }
        })
    }
}

/// A tensor that a model of certain hyper-parameters has, or may have.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Expected {
    /// The slot.
    pub slot: &'static Slot,
    /// The layer, if it is in one.
    pub layer: Option<u32>,
    /// Sizes in GGUF order, innermost first. `None` is a size that the metadata does not tell.
    pub shape: Vec<Option<u64>>,
    /// Another shape that loaders take, if there is one.
    pub other: Option<Vec<Option<u64>>>,
}

impl Expected {
    /// The full name, e.g. `blk.0.attn_q.weight`. Of a slot for each expert, that of the first.
    pub fn name(&self) -> String {
        format!("{}.{}", fill(self.slot.name, self.layer, 0), self.slot.suffix)
    }

    /// A pattern of the slot's [need](field@Slot::need), in this tensor's layer.
    pub fn beside(&self, pattern: &str) -> String {
        fill(pattern, self.layer, 0)
    }

    /// Whether a tensor of this shape fits. Trailing dimensions of one do not count: ggml cannot
    /// tell `[n, 1]` from `[n]`.
    pub fn fits(&self, shape: &[u64]) -> bool {
        let is = |expected: &Vec<Option<u64>>| {
            (0..expected.len().max(shape.len())).all(|axis| {
                let found = shape.get(axis).copied().unwrap_or(1);
                expected.get(axis).copied().unwrap_or(Some(1)).is_none_or(|size| size == found)
            })
        };
        is(&self.shape) || self.other.as_ref().is_some_and(is)
    }
}

/// A name from its pattern.
pub(crate) fn fill(pattern: &str, layer: Option<u32>, expert: u64) -> String {
    let name = match layer {
        Some(layer) => pattern.replacen("{}", &layer.to_string(), 1),
        None => pattern.to_owned(),
    };
    if name.contains("{}") { name.replacen("{}", &expert.to_string(), 1) } else { name }
}
