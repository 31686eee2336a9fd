//! Slots for tensors: names, shapes, and which models and layers have them.

use crate::Size;

/// A tensor, or one in each layer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Slot {
    /// The name without its suffix. The first `{}` stands for the number of the layer, a second one
    /// for that of the expert.
    pub name: &'static str,
    /// What follows the name after a dot: mostly `weight` or `bias`.
    pub suffix: &'static str,
    /// Sizes in GGUF order, innermost first.
    pub shape: &'static [Size],
    /// Whether the tensor has to be there.
    pub need: Need,
    /// Which models and layers have it: all of these conditions hold.
    pub when: &'static [When],
}

/// Whether a tensor has to be there. Patterns are full names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// Loaders refuse a file without it.
    Required,
    /// It may be missing. If one layer has it, the others are expected to have it too.
    Optional,
    /// It may be missing from any layer.
    Sparse,
    /// Required, unless that tensor is there and takes its place: then this one is read by nobody.
    Unless(&'static str),
    /// Optional, unless that tensor is there and takes its place.
    OptionalUnless(&'static str),
    /// Required where that tensor is, and read by nobody where it is not.
    With(&'static str),
    /// Optional where that tensor is, and read by nobody where it is not.
    OptionalWith(&'static str),
}

/// A condition on the model, or on a layer of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// The model has experts (`expert_count`).
    Experts,
    /// The model has none.
    NoExperts,
    /// Layers before `leading_dense_block_count`.
    Leading,
    /// The other layers.
    AfterLeading,
    /// The model has shared experts of a size of their own (`expert_shared_feed_forward_length`).
    SharedExperts,
    /// Queries are compressed (`attention.q_lora_rank`).
    QueryRank,
    /// They are not.
    NoQueryRank,
    /// Multi-head latent attention keeps its compressed form (`attention.key_length_mla`).
    Latent,
    /// It is stored as ordinary keys and values.
    NotLatent,
    /// RoPE has two tables of factors (`rope.scaling.type` is `longrope`).
    LongRope,
    /// It has at most one.
    NotLongRope,
    /// The first layer.
    First,
    /// The others.
    NotFirst,
    /// Models of at least so many layers.
    LayersFrom(u32),
    /// Models of fewer layers.
    LayersBelow(u32),
    /// Layers with attention: those with heads of keys and values (`attention.head_count_kv`).
    Attention,
    /// Layers without.
    NoAttention,
    /// Layers with heads of queries, be it without keys (`attention.head_count`).
    Heads,
    /// Layers with a feed-forward part (`feed_forward_length`).
    FeedForward,
    /// Layers with neither attention nor a feed-forward part of their own.
    NeitherPart,
    /// Layers before `leading_dense_block_count`, and those that predict further tokens.
    LeadingOrFurther,
    /// Every so many layers, the last of them (`interleave_moe_layer_step`).
    EveryStep,
    /// The layers between them.
    BetweenSteps,
    /// Embeddings have another width than the model (`embedding_length_out`).
    EmbeddingOut,
    /// Layers that predict the next token (`nextn_predict_layers`), not those that predict further.
    Trunk,
    /// Layers that predict further tokens.
    Further,
    /// Layers with a state in place of attention, by `attention.recurrent_layers` or
    /// `full_attention_interval`.
    Recurrent,
    /// Layers with attention, by the same keys.
    Attending,
    /// Layers with a sliding window (`attention.sliding_window_pattern`).
    Sliding,
    /// Layers that see everything.
    Full,
    /// Layers that have keys and values of their own: not the last `attention.shared_kv_layers`.
    OwnKeys,
    /// The others.
    BorrowedKeys,
    /// Tokens have a vector for each layer (`embedding_length_per_layer_input`).
    PerLayerInput,
    /// The model has shared experts, counted by `expert_shared_count`.
    SharedCount,
}

impl Slot {
    /// A weight that has to be there, in every layer if there is one.
    pub(crate) const fn weight(name: &'static str, shape: &'static [Size]) -> Self {
        Self { name, suffix: "weight", shape, need: Need::Required, when: &[] }
    }

    /// A bias that has to be there.
    pub(crate) const fn bias(name: &'static str, shape: &'static [Size]) -> Self {
        Self { suffix: "bias", ..Self::weight(name, shape) }
    }

    pub(crate) const fn suffix(self, suffix: &'static str) -> Self {
        Self { suffix, ..self }
    }

    pub(crate) const fn need(self, need: Need) -> Self {
        Self { need, ..self }
    }

    pub(crate) const fn optional(self) -> Self {
        self.need(Need::Optional)
    }

    pub(crate) const fn when(self, when: &'static [When]) -> Self {
        Self { when, ..self }
    }
}

/// A row of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stack {
    Layers,
    Encoder,
    Decoder,
}

impl Stack {
    pub(crate) const ALL: [(Self, &str); 3] =
        [(Self::Layers, "blk."), (Self::Encoder, "enc.blk."), (Self::Decoder, "dec.blk.")];

    /// The row that a tensor of this name or pattern is in.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let (stack, _) = Self::ALL.into_iter().find(|(_, prefix)| name.starts_with(prefix))?;
        Some(stack)
    }
}
