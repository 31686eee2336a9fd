//! How models of each architecture are run, a row each.

use crate::forward::{
    Alibi, Attention, AttentionKind, Block, Factor, Forward, Gate, HeadNorm, Norming, Outcome,
    Residual, Routing, ScoreScale, TurnedLayers, Windows,
};
use Norming::By;

const BLOCK: Block = Block {
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
const SANDWICH: Block = Block {
    attention_post_norm: By("post_attention_norm"),
    feed_forward_post_norm: By("post_ffw_norm"),
    ..BLOCK
};
/// Norms after each part alone.
const AFTER: Block =
    Block { attention_norm: Norming::None, feed_forward_norm: Norming::None, ..SANDWICH };
/// Norms after each sum.
const AFTER_SUMS: Block = Block {
    attention_norm: Norming::None,
    attention_sum_norm: By("attn_output_norm"),
    feed_forward_norm: Norming::None,
    feed_forward_sum_norm: By("layer_output_norm"),
    embedding_norm: By("token_embd_norm"),
    output_norm: Norming::None,
    ..BLOCK
};

const ATTENTION: Attention = Attention {
    kind: AttentionKind::Heads,
    scale: ScoreScale::Head,
    head_norm: HeadNorm::Each,
    cap: None,
    windows: None,
    turned: TurnedLayers::All,
    causal: true,
};
/// Windows of causal models whose RoPE is the same everywhere.
const WINDOWS: Windows = Windows {
    default: 0,
    period: 2,
    whole_first: false,
    symmetric: false,
    base: None,
    scaled: true,
    layers: 0,
};

/// Llama, where the others start from.
const LLAMA: Forward = Forward {
    architecture: "llama",
    embedding_scale: Factor::One,
    alibi: Alibi::None,
    block: BLOCK,
    attention: ATTENTION,
    routing: Routing { gate: Gate::Softmax, normalized: true },
    exact_gelu: false,
    activation_key: None,
    residual_scale: Factor::One,
    logit_scale: Factor::One,
    logit_cap: None,
    result: Outcome::Logits,
};
const GEMMA3: Forward = Forward {
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
const GRANITE: Forward = Forward {
    architecture: "granite",
    embedding_scale: Factor::Key("embedding_scale"),
    attention: Attention { turned: TurnedLayers::If("rope.scaling.finetuned"), ..ATTENTION },
    residual_scale: Factor::Key("residual_scale"),
    logit_scale: Factor::Inverse("logit_scale"),
    ..LLAMA
};
const COMMAND_R: Forward = Forward {
    architecture: "command-r",
    block: Block { feed_forward_norm: Norming::None, residual: Residual::Parallel, ..BLOCK },
    logit_scale: Factor::Key("logit_scale"),
    ..LLAMA
};
const BERT: Forward = Forward {
    architecture: "bert",
    block: AFTER_SUMS,
    attention: Attention { causal: false, ..ATTENTION },
    exact_gelu: true,
    result: Outcome::Embedding,
    ..LLAMA
};
const UNNORMALIZED: Routing = Routing { gate: Gate::Softmax, normalized: false };

/// Every architecture whose models can be run.
pub static FORWARDS: &[Forward] = &[
    Forward { architecture: "arcee", ..LLAMA },
    BERT,
    Forward {
        architecture: "bloom",
        alibi: Alibi::Always(8.0),
        block: Block { embedding_norm: By("token_embd_norm"), ..BLOCK },
        ..LLAMA
    },
    Forward {
        architecture: "cohere2",
        attention: Attention {
            windows: Some(Windows { period: 4, ..WINDOWS }),
            turned: TurnedLayers::Windowed,
            ..ATTENTION
        },
        ..COMMAND_R
    },
    COMMAND_R,
    Forward {
        architecture: "deepseek2",
        attention: Attention { kind: AttentionKind::Latent, ..ATTENTION },
        routing: UNNORMALIZED,
        ..LLAMA
    },
    Forward { architecture: "dots1", routing: UNNORMALIZED, ..LLAMA },
    Forward { architecture: "ernie4_5", ..LLAMA },
    Forward {
        architecture: "exaone4",
        block: AFTER,
        attention: Attention {
            windows: Some(Windows { default: 4096, period: 4, layers: 64, ..WINDOWS }),
            turned: TurnedLayers::Windowed,
            ..ATTENTION
        },
        ..LLAMA
    },
    Forward {
        architecture: "falcon",
        block: Block {
            attention_norm: By("attn_norm_2"),
            feed_forward_norm: By("attn_norm"),
            residual: Residual::Parallel,
            ..BLOCK
        },
        exact_gelu: true,
        ..LLAMA
    },
    Forward { architecture: "gemma", embedding_scale: Factor::RootOfWidth, ..LLAMA },
    Forward {
        architecture: "gemma2",
        attention: Attention {
            scale: ScoreScale::EmbeddingPerHead { layers: 46 },
            cap: Some(("attn_logit_softcapping", 50.0)),
            windows: Some(Windows { default: 4096, ..WINDOWS }),
            ..ATTENTION
        },
        logit_cap: Some(("final_logit_softcapping", 30.0)),
        ..GEMMA3
    },
    GEMMA3,
    Forward {
        architecture: "gemma-embedding",
        attention: Attention {
            windows: Some(Windows {
                period: 6,
                symmetric: true,
                base: Some(10_000.0),
                scaled: false,
                ..WINDOWS
            }),
            causal: false,
            ..ATTENTION
        },
        logit_cap: None,
        result: Outcome::Embedding,
        ..GEMMA3
    },
    Forward {
        architecture: "gpt-oss",
        block: Block { feed_forward_norm: By("post_attention_norm"), ..BLOCK },
        attention: Attention { windows: Some(WINDOWS), ..ATTENTION },
        routing: Routing { gate: Gate::SoftmaxOfChosen, normalized: false },
        ..LLAMA
    },
    Forward { architecture: "gpt2", ..LLAMA },
    Forward {
        architecture: "gptneox",
        block: Block { residual: Residual::ParallelIf("use_parallel_residual"), ..BLOCK },
        exact_gelu: true,
        ..LLAMA
    },
    GRANITE,
    Forward { architecture: "granitemoe", attention: ATTENTION, ..GRANITE },
    LLAMA,
    Forward {
        architecture: "llama-embed",
        attention: Attention { causal: false, ..ATTENTION },
        result: Outcome::Embedding,
        ..LLAMA
    },
    Forward { architecture: "mistral3", ..LLAMA },
    Forward {
        architecture: "modern-bert",
        block: Block { embedding_norm: By("token_embd_norm"), ..BLOCK },
        attention: Attention {
            windows: Some(Windows {
                period: 3,
                whole_first: true,
                symmetric: true,
                base: Some(10_000.0),
                scaled: false,
                ..WINDOWS
            }),
            causal: false,
            ..ATTENTION
        },
        exact_gelu: true,
        activation_key: Some("hidden_activation"),
        result: Outcome::Embedding,
        ..LLAMA
    },
    Forward {
        architecture: "mpt",
        alibi: Alibi::Key("attention.max_alibi_bias"),
        attention: Attention { head_norm: HeadNorm::Whole, ..ATTENTION },
        exact_gelu: true,
        ..LLAMA
    },
    Forward { architecture: "nemotron", ..LLAMA },
    Forward { architecture: "nomic-bert", ..BERT },
    Forward {
        architecture: "olmo",
        block: Block {
            attention_norm: Norming::Plain,
            feed_forward_norm: Norming::Plain,
            output_norm: Norming::Plain,
            ..BLOCK
        },
        ..LLAMA
    },
    Forward {
        architecture: "olmo2",
        block: AFTER,
        attention: Attention {
            head_norm: HeadNorm::Whole,
            windows: Some(Windows { period: 4, scaled: false, ..WINDOWS }),
            ..ATTENTION
        },
        ..LLAMA
    },
    Forward {
        architecture: "olmoe",
        attention: Attention { head_norm: HeadNorm::Whole, ..ATTENTION },
        routing: UNNORMALIZED,
        ..LLAMA
    },
    Forward {
        architecture: "phi2",
        block: Block { feed_forward_norm: Norming::None, residual: Residual::Parallel, ..BLOCK },
        ..LLAMA
    },
    Forward { architecture: "phi3", ..LLAMA },
    Forward { architecture: "qwen2", ..LLAMA },
    Forward { architecture: "qwen2vl", ..LLAMA },
    Forward { architecture: "qwen2moe", routing: UNNORMALIZED, ..LLAMA },
    Forward { architecture: "qwen3", ..LLAMA },
    Forward { architecture: "qwen3vl", ..LLAMA },
    Forward { architecture: "qwen3moe", ..LLAMA },
    Forward { architecture: "qwen3vlmoe", ..LLAMA },
    Forward {
        architecture: "seed_oss",
        block: Block { feed_forward_norm: By("post_attention_norm"), ..BLOCK },
        ..LLAMA
    },
    Forward {
        architecture: "smollm3",
        attention: Attention { turned: TurnedLayers::AllBut(4), ..ATTENTION },
        ..LLAMA
    },
    Forward {
        architecture: "stablelm",
        block: Block { residual: Residual::ParallelWithout("ffn_norm"), ..BLOCK },
        ..LLAMA
    },
    Forward { architecture: "starcoder", ..LLAMA },
    Forward { architecture: "starcoder2", ..LLAMA },
];
