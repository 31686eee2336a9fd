//! What the rows of [`FORWARDS`](crate::FORWARDS) start from.

use crate::Norm;
use crate::forward::{
    Alibi, Attention, AttentionKind, Block, Factor, Forward, FurtherActivation, Gate, HeadNorm,
    Norming, Outcome, Residual, Routing, ScoreScale, TurnedLayers, Windows,
};
use Norming::By;

pub(crate) const BLOCK: Block = Block {
    attention_norm: By("attn_norm"),
    attention_post_norm: Norming::None,
    attention_sum_norm: Norming::None,
    feed_forward_norm: By("ffn_norm"),
    feed_forward_post_norm: Norming::None,
    feed_forward_sum_norm: Norming::None,
    residual: Residual::Sequential,
    embedding_norm: Norming::None,
    output_norm: By("output_norm"),
};
/// Norms before and after each part.
pub(crate) const SANDWICH: Block = Block {
    attention_post_norm: By("post_attention_norm"),
    feed_forward_post_norm: By("post_ffw_norm"),
    ..BLOCK
};
/// The norm before the feed-forward part is named after what it follows.
pub(crate) const POST_ATTENTION: Block =
    Block { feed_forward_norm: By("post_attention_norm"), ..BLOCK };
/// Norms after each part alone.
pub(crate) const AFTER: Block =
    Block { attention_norm: Norming::None, feed_forward_norm: Norming::None, ..SANDWICH };
/// Norms after each sum.
pub(crate) const AFTER_SUMS: Block = Block {
    attention_norm: Norming::None,
    attention_sum_norm: By("attn_output_norm"),
    feed_forward_norm: Norming::None,
    feed_forward_sum_norm: By("layer_output_norm"),
    embedding_norm: By("token_embd_norm"),
    output_norm: Norming::None,
    ..BLOCK
};

pub(crate) const ATTENTION: Attention = Attention {
    kind: AttentionKind::Heads,
    scale: ScoreScale::Head,
    head_norm: HeadNorm::Each,
    value_norm: false,
    gated: false,
    temperature: None,
    cap: None,
    windows: None,
    turned: TurnedLayers::All,
    halves_with_sections: false,
    causal: true,
};
/// Norms of queries and keys after RoPE.
pub(crate) const TURNED_FIRST: Attention =
    Attention { head_norm: HeadNorm::EachTurned, ..ATTENTION };
/// Windows of causal models whose RoPE is the same everywhere.
pub(crate) const WINDOWS: Windows = Windows {
    default: 0,
    period: 2,
    whole_first: false,
    symmetric: false,
    chunked: false,
    base: None,
    scaled: true,
    layers: 0,
};

pub(crate) const ROUTING: Routing = Routing {
    gate: Gate::Softmax,
    normalized: true,
    weighs_inputs: false,
    averaged: false,
    routes_layer_input: false,
};
pub(crate) const UNNORMALIZED: Routing = Routing { normalized: false, ..ROUTING };
pub(crate) const SIGMOID: Routing = Routing { gate: Gate::Sigmoid, ..UNNORMALIZED };

/// Llama, where the others start from.
pub(crate) const LLAMA: Forward = Forward {
    architecture: "llama",
    embedding_scale: Factor::One,
    alibi: Alibi::None,
    norm: None,
    block: BLOCK,
    attention: ATTENTION,
    routing: ROUTING,
    exact_gelu: false,
    activation_key: None,
    further_activation: None,
    residual_scale: Factor::One,
    logit_scale: Factor::One,
    logit_cap: None,
    result: Outcome::Logits,
    layers: "blk",
};
pub(crate) const GEMMA3: Forward = Forward {
    architecture: "gemma3",
    embedding_scale: Factor::RootOfWidth,
    block: SANDWICH,
    attention: Attention {
        scale: ScoreScale::EmbeddingPerHead { layers: 62 },
        windows: Some(Windows { period: 6, base: Some(10_000.0), scaled: false, ..WINDOWS }),
        ..ATTENTION
    },
    logit_cap: Some(("final_logit_softcapping", 0.0)),
    ..LLAMA
};
pub(crate) const GRANITE: Forward = Forward {
    architecture: "granite",
    embedding_scale: Factor::Key("embedding_scale"),
    attention: Attention { turned: TurnedLayers::If("rope.scaling.finetuned"), ..ATTENTION },
    residual_scale: Factor::Key("residual_scale"),
    logit_scale: Factor::Inverse("logit_scale"),
    ..LLAMA
};
pub(crate) const COMMAND_R: Forward = Forward {
    architecture: "command-r",
    block: Block { feed_forward_norm: Norming::None, residual: Residual::Parallel, ..BLOCK },
    logit_scale: Factor::Key("logit_scale"),
    ..LLAMA
};
pub(crate) const BERT: Forward = Forward {
    architecture: "bert",
    block: AFTER_SUMS,
    attention: Attention { causal: false, ..ATTENTION },
    exact_gelu: true,
    result: Outcome::Embedding,
    ..LLAMA
};

/// Layers of one part each.
pub(crate) const NEMOTRON_H: Forward = Forward {
    architecture: "nemotron_h",
    norm: Some(Norm::Rms),
    block: Block { feed_forward_norm: Norming::None, ..BLOCK },
    routing: SIGMOID,
    ..LLAMA
};
pub(crate) const QWEN3NEXT: Forward = Forward {
    architecture: "qwen3next",
    block: POST_ATTENTION,
    attention: Attention { gated: true, ..ATTENTION },
    ..LLAMA
};

/// The encoder of T5, whose positions are biases of the scores.
pub(crate) const T5: Forward = Forward {
    architecture: "t5",
    block: Block { output_norm: By("enc.output_norm"), ..BLOCK },
    attention: Attention { scale: ScoreScale::One, causal: false, ..ATTENTION },
    further_activation: Some(FurtherActivation::ReluOrGatedGelu),
    result: Outcome::Embedding,
    layers: "enc.blk",
    ..LLAMA
};
pub(crate) const HUNYUAN: Forward =
    Forward { architecture: "hunyuan-dense", attention: TURNED_FIRST, ..LLAMA };
