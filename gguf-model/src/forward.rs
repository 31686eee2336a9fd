//! How a model is run: what [`Graph`](crate::Graph) leaves open, as data.
//!
//! A [`Forward`] says in which order the tensors of a layer are used and what is done between them. One
//! interpreter runs all of them (`quant-evaluate`). What a file itself shows is not repeated: a bias, a
//! gate, experts or norms of queries and keys are there if their tensors are; sizes and epsilons are
//! keys.
//!
//! The enums here are exhaustive: an interpreter that does not know one of their variants must not
//! compile rather than run a model wrongly.

use crate::Norm;

/// How models of one architecture are run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Forward {
    /// The value of `general.architecture`.
    pub architecture: &'static str,
    /// What the vectors of tokens are multiplied by.
    pub embedding_scale: Factor,
    /// Scores fall with the distance.
    pub alibi: Alibi,
    /// How activations are normalized, where that is not what the name of the epsilon's key says.
    pub norm: Option<Norm>,
    /// The parts of a layer.
    pub block: Block,
    /// How the heads attend.
    pub attention: Attention,
    /// How experts are chosen, where there are any.
    pub routing: Routing,
    /// Whether `Gelu` is the exact function, with erf; else its approximation with tanh. A file does
    /// not say; this is what the models were trained with.
    pub exact_gelu: bool,
    /// The key of the activation function, if a file may name another.
    pub activation_key: Option<&'static str>,
    /// The activation function, where the description (`Graph::activation`) does not know it.
    pub further_activation: Option<FurtherActivation>,
    /// What each part is multiplied by before it is added to its input.
    pub residual_scale: Factor,
    /// What the logits are multiplied by.
    pub logit_scale: Factor,
    /// The key of the soft cap on logits, and its value where the key is missing; 0 is none.
    pub logit_cap: Option<(&'static str, f32)>,
    /// What comes out.
    pub result: Outcome,
    /// What the names of layers' tensors begin with, before the number of the layer.
    pub layers: &'static str,
}

/// A number that something is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Factor {
    /// It is left as it is.
    One,
    /// The square root of the embedding's width.
    RootOfWidth,
    /// The value of a key; one if it is missing or zero.
    Key(&'static str),
    /// One divided by the value of a key; one if it is missing or zero.
    Inverse(&'static str),
    /// This number.
    Is(f32),
    /// This number divided by the square root of the number of layers.
    OverRootOfLayers(f32),
    /// This number divided by the embedding's width.
    OverWidth(f32),
}

/// Attention with linear biases: scores fall with the distance, for each head at another rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alibi {
    /// There are none.
    None,
    /// The largest bias is always this.
    Always(f32),
    /// It is the value of a key; none if that is missing or zero.
    Key(&'static str),
    /// It is this in models of so many layers; the others have none.
    InModelsOf {
        /// The number of layers.
        layers: u32,
        /// The largest bias.
        largest: f32,
    },
}

/// The parts of a layer and what stands between them. Norms are names of tensors of a layer, without
/// `blk.N.`; one whose tensor is missing from a file is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block {
    /// Before attention.
    pub attention_norm: Norming,
    /// After attention, before its result is added to the layer's input.
    pub attention_post_norm: Norming,
    /// After that sum.
    pub attention_sum_norm: Norming,
    /// Before the feed-forward part.
    pub feed_forward_norm: Norming,
    /// After it, before the sum.
    pub feed_forward_post_norm: Norming,
    /// After that sum.
    pub feed_forward_sum_norm: Norming,
    /// What the feed-forward part works on.
    pub residual: Residual,
    /// The norm of the sum of all vectors of a token, before the first layer.
    pub embedding_norm: Norming,
    /// The norm after the last layer.
    pub output_norm: Norming,
}

/// A norm at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norming {
    /// There is none.
    None,
    /// With the weights, and the biases if there are any, of this tensor.
    By(&'static str),
    /// Without weights.
    Plain,
}

/// What the feed-forward part works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// The sum of the layer's input and attention.
    Sequential,
    /// The layer's input, as attention does. Where one of the two norms is missing, both parts work on
    /// the result of the other.
    Parallel,
    /// Parallel if the value of this key is true, as it is where the key is missing.
    ParallelIf(&'static str),
    /// Parallel in layers without this tensor.
    ParallelWithout(&'static str),
}

/// How the heads attend.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Attention {
    /// Where keys and values come from.
    pub kind: AttentionKind,
    /// What scores are multiplied by.
    pub scale: ScoreScale,
    /// What a norm of queries and keys spans.
    pub head_norm: HeadNorm,
    /// Whether the values of each head are normalized too, without weights.
    pub value_norm: bool,
    /// Whether behind the query of each head is a gate, whose sigmoid the head's result is multiplied by.
    pub gated: bool,
    /// How queries grow with their position, where the keys `attention.temperature_…` do not say.
    pub temperature: Option<Temperature>,
    /// The key of the soft cap on scores, and its value where the key is missing; 0 is none.
    pub cap: Option<(&'static str, f32)>,
    /// Layers that see only tokens nearby.
    pub windows: Option<Windows>,
    /// Which layers RoPE turns.
    pub turned: TurnedLayers,
    /// Whether RoPE turns one value from each half, and not neighbours, in a model with
    /// `rope.dimension_sections`.
    pub halves_with_sections: bool,
    /// Whether a token sees only those before it, where the key `attention.causal` is missing.
    pub causal: bool,
}

/// Where keys and values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionKind {
    /// Each head has its own, or shares them with some others.
    Heads,
    /// Multi-head latent attention: all heads' are made of a few compressed values.
    Latent,
}

/// What scores are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreScale {
    /// One divided by the root of a key's width; of another number where `attention.scale` says so.
    Head,
    /// One divided by the root of the embedding's width per head, in models of so many layers; else as
    /// `Head`.
    EmbeddingPerHead {
        /// The number of layers.
        layers: u32,
    },
    /// Nothing.
    One,
}

/// What a norm of queries and keys spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadNorm {
    /// Each head by itself, before RoPE.
    Each,
    /// Each head by itself, after RoPE.
    EachTurned,
    /// All heads together, before RoPE.
    Whole,
    /// Each head by itself, without weights, after RoPE and only in layers that it turns; not at all in
    /// models of so many experts.
    PlainTurned {
        /// The number of experts.
        but_for_experts: u32,
    },
}

/// Queries grow with their position, step by step: by `1 + scale · ln(1 + ⌊(position + offset) / length⌋)`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Temperature {
    /// Positions in a step.
    pub length: u32,
    /// How much they grow.
    pub scale: f32,
    /// What is added to the position.
    pub offset: u32,
    /// Whether they grow only in layers that RoPE does not turn.
    pub unturned: bool,
}

/// Layers that see only tokens nearby. How many tokens is the value of `attention.sliding_window`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Windows {
    /// The width where the key is missing; 0 is none.
    pub default: u32,
    /// Of so many layers one sees all tokens, unless `attention.sliding_window_pattern` says otherwise;
    /// 0: none does.
    pub period: u32,
    /// Whether that is the first of them; else the last.
    pub whole_first: bool,
    /// Whether half of the tokens are those behind.
    pub symmetric: bool,
    /// Whether the text is cut into pieces of that width, of which a token sees the part before it in its
    /// own.
    pub chunked: bool,
    /// The base of RoPE in these layers where `rope.freq_base_swa` is missing; else that of the others.
    pub base: Option<f32>,
    /// Whether RoPE is scaled in these layers too, and its factors divide their angles.
    pub scaled: bool,
    /// Only models of so many layers have windows where the key is missing; 0: all.
    pub layers: u32,
}

/// Which layers RoPE turns, in an architecture that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedLayers {
    /// All.
    All,
    /// Those with a window; all of a model without windows.
    Windowed,
    /// All but every n-th.
    AllBut(u32),
    /// Those with a window, and those at the beginning that have no experts (`leading_dense_block_count`).
    WindowedOrLeading,
    /// All in models of so many layers, none in others.
    InModelsOf(u32),
    /// All, or none if the value of this key is false.
    If(&'static str),
}

/// How experts are chosen and weighed. The selection bias `exp_probs_b`, groups of experts, shared experts
/// and the gate of these are used if their tensors or keys are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Routing {
    /// What makes weights of the router's results, where `expert_gating_func` does not say.
    pub gate: Gate,
    /// Whether the weights of the chosen experts are divided by their sum, where
    /// `expert_weights_norm` does not say.
    pub normalized: bool,
    /// Whether the weight of an expert multiplies what goes into it; else what comes out.
    pub weighs_inputs: bool,
    /// Whether experts and shared experts are averaged; else added up.
    pub averaged: bool,
    /// Whether the router works on the layer's input; else on what the experts get.
    pub routes_layer_input: bool,
}

/// What makes weights of the router's results. The numbers are those of `expert_gating_func`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The softmax over all experts.
    Softmax = 1,
    /// The sigmoid of each.
    Sigmoid = 2,
    /// The softmax over the chosen experts.
    SoftmaxOfChosen = 3,
}

/// Activation functions of few architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FurtherActivation {
    /// ReLU.
    Relu,
    /// ReLU, or GELU where there is a gate.
    ReluOrGatedGelu,
    /// xIELU, with numbers of each layer: the keys `xielu.…`.
    Xielu,
}

/// What comes out of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A number for each token of the vocabulary.
    Logits,
    /// The vectors of the tokens, to be pooled.
    Embedding,
}
