//! The form of a description: keys, tensor slots, and facts about the graph.

use crate::{Dimension, HyperParameters, Size};

/// What a model of one GGUF architecture consists of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Architecture {
    /// The value of `general.architecture`, e.g. `llama`.
    pub name: &'static str,
    /// Keys below `{name}.` that loaders read, besides those of [every architecture](crate::COMMON).
    pub keys: &'static [Key],
    /// Tensors, in groups that architectures share.
    pub slots: &'static [&'static [Slot]],
    /// What is done with the tensors, as far as it is written down.
    pub graph: Graph,
}

impl Architecture {
    /// The description of an architecture, by the value of `general.architecture`.
    ///
    /// ```
    /// let llama = gguf_model::Architecture::find("llama").unwrap();
    /// assert!(llama.slots().any(|slot| slot.name == "blk.{}.ffn_down"));
    /// assert!(gguf_model::Architecture::find("flux").is_none());
    /// ```
    pub fn find(name: &str) -> Option<&'static Self> {
        crate::ALL.iter().find(|architecture| architecture.name == name).copied()
    }

    /// Whether the layers that predict further tokens may be missing, although the metadata counts
    /// them.
    pub(crate) fn may_lack_further(&self) -> bool {
        LACK_FURTHER.contains(&self.name)
    }

    /// Whether the layers that predict further tokens may be a file of their own.
    pub(crate) fn may_lack_trunk(&self) -> bool {
        self.may_lack_further() || LACK_TRUNK.contains(&self.name)
    }

    /// Every slot, whether or not a given model has it.
    pub fn slots(&self) -> impl Iterator<Item = &'static Slot> + use<> {
        self.slots.iter().flat_map(|group| group.iter())
    }

    /// The keys that loaders read: those of every architecture, the epsilon of its norms, its own.
    pub fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        let epsilon = match self.graph.norm {
            Norm::Rms => Key::required("attention.layer_norm_rms_epsilon", Kind::Positive),
            Norm::Layer => Key::required("attention.layer_norm_epsilon", Kind::Positive),
        };
        crate::COMMON.iter().copied().chain([epsilon]).chain(self.keys.iter().copied())
    }

    /// The tensors of a model with these hyper-parameters, slot by slot, in a layer's order.
    ///
    /// A tensor that two forms may take is listed in both, see [`Need::Unless`].
    pub fn tensors<'a>(
        &self,
        parameters: &'a HyperParameters,
    ) -> impl Iterator<Item = Expected> + use<'a> {
        self.slots().flat_map(move |slot| slot.expand(parameters))
    }
}

/// Architectures of which llama.cpp loads either part alone: the layers that predict the next token,
/// or those that predict further ones.
const LACK_FURTHER: [&str; 9] = [
    "bailingmoe3",
    "cohere2moe",
    "deepseek2",
    "deepseek32",
    "glm-dsa",
    "glm4moe",
    "hy_v3",
    "mimo2",
    "step35",
];

/// Architectures of which it loads the layers that predict further tokens alone.
const LACK_TRUNK: [&str; 5] = ["nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen3next"];

/// A metadata key, without the architecture in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// E.g. `attention.head_count`.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Whether loaders refuse a file without it. A key that gives the size of a tensor is needed
    /// wherever that tensor is, without being required here.
    pub required: bool,
}

impl Key {
    /// A key that loaders refuse to go without.
    pub(crate) const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: true }
    }

    /// A key that may be missing.
    pub(crate) const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: false }
    }
}

/// The type of a key's value. llama.cpp takes no other, not even a wider integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// UINT32 within these bounds.
    Integer(u32, u32),
    /// UINT32, or an array of UINT32 or INT32, one for each layer.
    Integers,
    /// FLOAT32.
    Float,
    /// FLOAT32 that is finite and positive.
    Positive,
    /// BOOL.
    Bool,
    /// STRING.
    Text,
    /// STRING that is one of these.
    OneOf(&'static [&'static str]),
    /// Which layers slide: every n-th (UINT32), or an array of BOOL, UINT32 or INT32.
    Pattern,
    /// Array of four INT32 or UINT32, none negative and one of the first three positive.
    Sections,
}

impl Kind {
    /// UINT32 of any value.
    pub(crate) const COUNT: Self = Self::Integer(0, u32::MAX);

    /// The kind of a key in the first architecture that has it: a key has values of one type in all
    /// of them, but the bounds may differ. The name is the part below that of the architecture.
    ///
    /// ```
    /// use gguf_model::Kind;
    ///
    /// assert_eq!(Kind::of_key("rope.freq_base"), Some(Kind::Float));
    /// assert_eq!(Kind::of_key("colour"), None);
    /// ```
    pub fn of_key(name: &str) -> Option<Self> {
        let mut keys = crate::ALL.iter().flat_map(|architecture| architecture.keys());
        keys.find(|key| key.name == name).map(|key| key.kind)
    }

    /// The kind of a key of the tokenizer that holds one number or flag. The name is the part below
    /// `tokenizer.ggml.`.
    ///
    /// ```
    /// use gguf_model::Kind;
    ///
    /// assert_eq!(Kind::of_tokenizer_key("add_bos_token"), Some(Kind::Bool));
    /// assert_eq!(Kind::of_tokenizer_key("tokens"), None);
    /// ```
    pub fn of_tokenizer_key(name: &str) -> Option<Self> {
        match name {
            "token_type_count" => Some(Self::COUNT),
            _ if name.ends_with("_token_id") => Some(Self::COUNT),
            _ => crate::vocabulary::FLAGS.contains(&name).then_some(Self::Bool),
        }
    }
}

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

/// What is done with the tensors. Only what is certain is here; a missing fact means that it depends
/// on the file, or is not written down yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Graph {
    /// How activations are normalized, which decides whose epsilon the metadata holds.
    pub norm: Norm,
    /// Which values RoPE turns as a pair.
    pub rope: Rope,
    /// The function in the feed-forward part.
    pub activation: Option<Activation>,
}

/// How activations are normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Norm {
    /// By their root mean square.
    Rms,
    /// By mean and variance.
    Layer,
}

/// Which values RoPE turns as a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rope {
    /// There is no RoPE.
    None,
    /// Neighbours: 0 and 1, 2 and 3.
    Neighbours(Turned),
    /// One from each half: 0 and n/2, 1 and n/2 + 1 (`neox`).
    Halves(Turned),
}

/// How much of a head RoPE turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Turned {
    /// All of it: loaders refuse another `rope.dimension_count`.
    Whole,
    /// As much as `rope.dimension_count` says.
    Any,
}

/// The activation function of the feed-forward part. The slots say whether it is gated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the field's own")]
pub enum Activation {
    Silu,
    Gelu,
    ReluSquared,
    /// gpt-oss: clamped, with a steeper sigmoid and a linear part of one more.
    ClampedSwiglu,
}
