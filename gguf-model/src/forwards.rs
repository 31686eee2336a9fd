//! How models of each architecture are run, a row each.

use crate::Architecture;
use crate::forward::{
    Alibi, Attention, AttentionKind, Block, Factor, Forward, FurtherActivation, Gate, HeadNorm,
    Norming, Outcome, Residual, Routing, ScoreScale, Temperature, TurnedLayers, Windows,
};
use crate::forward_bases::{
    AFTER, ATTENTION, BERT, BLOCK, COMMAND_R, GEMMA3, GRANITE, HUNYUAN, LLAMA, NEMOTRON_H,
    POST_ATTENTION, QWEN3NEXT, ROUTING, SANDWICH, SIGMOID, T5, TURNED_FIRST, UNNORMALIZED, WINDOWS,
};
use Norming::By;

/// Every architecture whose models can be run.
pub static FORWARDS: &[Forward] = &[
    Forward {
        architecture: "afmoe",
        embedding_scale: Factor::RootOfWidth,
        block: SANDWICH,
        attention: Attention {
            windows: Some(Windows { period: 4, ..WINDOWS }),
            turned: TurnedLayers::AllBut(4),
            ..ATTENTION
        },
        routing: SIGMOID,
        ..LLAMA
    },
    Forward {
        architecture: "apertus",
        further_activation: Some(FurtherActivation::Xielu),
        ..LLAMA
    },
    Forward { architecture: "arcee", ..LLAMA },
    // Large models have biases of distance in place of RoPE.
    Forward {
        architecture: "baichuan",
        alibi: Alibi::InModelsOf { layers: 40, largest: 8.0 },
        attention: Attention { turned: TurnedLayers::InModelsOf(32), ..ATTENTION },
        ..LLAMA
    },
    Forward { architecture: "bailingmoe", routing: UNNORMALIZED, ..LLAMA },
    Forward { architecture: "bailingmoe2", routing: SIGMOID, ..LLAMA },
    BERT,
    Forward {
        architecture: "bloom",
        alibi: Alibi::Always(8.0),
        block: Block { embedding_norm: By("token_embd_norm"), ..BLOCK },
        ..LLAMA
    },
    Forward { architecture: "chatglm", ..LLAMA },
    Forward { architecture: "codeshell", ..LLAMA },
    Forward {
        architecture: "cohere2",
        attention: Attention {
            windows: Some(Windows { period: 4, ..WINDOWS }),
            turned: TurnedLayers::Windowed,
            ..ATTENTION
        },
        ..COMMAND_R
    },
    Forward {
        architecture: "cohere2moe",
        attention: Attention {
            windows: Some(Windows { period: 4, ..WINDOWS }),
            turned: TurnedLayers::WindowedOrLeading,
            ..ATTENTION
        },
        routing: Routing { averaged: true, ..SIGMOID },
        ..COMMAND_R
    },
    COMMAND_R,
    Forward {
        architecture: "dbrx",
        block: Block { feed_forward_norm: By("attn_output_norm"), ..BLOCK },
        ..LLAMA
    },
    Forward { architecture: "deci", ..LLAMA },
    Forward { architecture: "deepseek", routing: UNNORMALIZED, ..LLAMA },
    Forward {
        architecture: "deepseek2",
        attention: Attention { kind: AttentionKind::Latent, ..ATTENTION },
        routing: UNNORMALIZED,
        ..LLAMA
    },
    Forward { architecture: "dots1", routing: UNNORMALIZED, ..LLAMA },
    Forward { architecture: "ernie4_5", ..LLAMA },
    Forward { architecture: "ernie4_5-moe", ..LLAMA },
    Forward {
        architecture: "eurobert",
        attention: Attention { causal: false, ..ATTENTION },
        result: Outcome::Embedding,
        ..LLAMA
    },
    Forward { architecture: "exaone", ..LLAMA },
    Forward {
        architecture: "exaone-moe",
        attention: Attention {
            windows: Some(Windows { default: 128, period: 4, ..WINDOWS }),
            turned: TurnedLayers::Windowed,
            ..ATTENTION
        },
        routing: UNNORMALIZED,
        ..LLAMA
    },
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
    Forward { architecture: "falcon-h1", ..LLAMA },
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
        architecture: "gemma4",
        attention: Attention {
            scale: ScoreScale::One,
            value_norm: true,
            windows: Some(Windows { scaled: false, ..WINDOWS }),
            ..ATTENTION
        },
        ..GEMMA3
    },
    Forward {
        architecture: "glm4",
        block: SANDWICH,
        attention: Attention { halves_with_sections: true, ..ATTENTION },
        ..LLAMA
    },
    Forward { architecture: "glm4moe", block: POST_ATTENTION, routing: SIGMOID, ..LLAMA },
    Forward {
        architecture: "gpt-oss",
        block: POST_ATTENTION,
        attention: Attention { windows: Some(WINDOWS), ..ATTENTION },
        routing: Routing { gate: Gate::SoftmaxOfChosen, ..UNNORMALIZED },
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
    Forward { architecture: "granitehybrid", ..GRANITE },
    Forward { architecture: "granitemoe", attention: ATTENTION, ..GRANITE },
    Forward {
        architecture: "granite_swa",
        attention: Attention { windows: Some(WINDOWS), ..ATTENTION },
        ..GRANITE
    },
    HUNYUAN,
    Forward { architecture: "hunyuan-moe", ..HUNYUAN },
    Forward { architecture: "hunyuan_vl", ..HUNYUAN },
    Forward { architecture: "hy_v3", routing: SIGMOID, ..LLAMA },
    Forward { architecture: "internlm2", ..LLAMA },
    Forward { architecture: "jais2", ..LLAMA },
    Forward { architecture: "jamba", routing: UNNORMALIZED, ..LLAMA },
    Forward {
        architecture: "kimi-linear",
        attention: Attention { kind: AttentionKind::Latent, ..ATTENTION },
        ..LLAMA
    },
    Forward {
        architecture: "lfm2",
        block: Block { output_norm: By("token_embd_norm"), ..BLOCK },
        ..LLAMA
    },
    Forward {
        architecture: "lfm2moe",
        block: Block { output_norm: By("token_embd_norm"), ..BLOCK },
        ..LLAMA
    },
    LLAMA,
    Forward {
        architecture: "llama-embed",
        attention: Attention { causal: false, ..ATTENTION },
        result: Outcome::Embedding,
        ..LLAMA
    },
    Forward {
        architecture: "llama4",
        attention: Attention {
            head_norm: HeadNorm::PlainTurned { but_for_experts: 128 },
            temperature: Some(Temperature { length: 8192, scale: 0.1, offset: 1, unturned: true }),
            windows: Some(Windows { default: 8192, period: 4, chunked: true, ..WINDOWS }),
            turned: TurnedLayers::Windowed,
            ..ATTENTION
        },
        routing: Routing { weighs_inputs: true, ..SIGMOID },
        ..LLAMA
    },
    Forward { architecture: "maincoder", attention: TURNED_FIRST, ..LLAMA },
    Forward { architecture: "mamba", ..LLAMA },
    Forward { architecture: "mamba2", ..LLAMA },
    Forward {
        architecture: "mellum",
        attention: Attention {
            windows: Some(Windows { period: 4, scaled: false, ..WINDOWS }),
            ..ATTENTION
        },
        ..LLAMA
    },
    Forward { architecture: "minicpm", attention: ATTENTION, ..GRANITE },
    Forward {
        architecture: "minicpm3",
        embedding_scale: Factor::Is(12.0),
        attention: Attention { kind: AttentionKind::Latent, ..ATTENTION },
        residual_scale: Factor::OverRootOfLayers(1.4),
        logit_scale: Factor::OverWidth(256.0),
        ..LLAMA
    },
    Forward {
        architecture: "minimax-m2",
        attention: Attention { head_norm: HeadNorm::Whole, ..ATTENTION },
        routing: Routing { normalized: true, ..SIGMOID },
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
    NEMOTRON_H,
    Forward { architecture: "nemotron_h_moe", ..NEMOTRON_H },
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
    Forward { architecture: "openelm", ..LLAMA },
    Forward { architecture: "orion", ..LLAMA },
    Forward { architecture: "paddleocr", ..LLAMA },
    Forward { architecture: "pangu-embedded", ..LLAMA },
    Forward {
        architecture: "phi2",
        block: Block { feed_forward_norm: Norming::None, residual: Residual::Parallel, ..BLOCK },
        ..LLAMA
    },
    Forward { architecture: "phi3", ..LLAMA },
    Forward { architecture: "phimoe", ..LLAMA },
    Forward { architecture: "qwen2", ..LLAMA },
    Forward { architecture: "qwen2vl", ..LLAMA },
    Forward { architecture: "qwen2moe", routing: UNNORMALIZED, ..LLAMA },
    Forward { architecture: "qwen3", ..LLAMA },
    Forward { architecture: "qwen35", ..QWEN3NEXT },
    Forward { architecture: "qwen35moe", ..QWEN3NEXT },
    QWEN3NEXT,
    Forward { architecture: "qwen3vl", ..LLAMA },
    Forward { architecture: "qwen3moe", ..LLAMA },
    Forward { architecture: "qwen3vlmoe", ..LLAMA },
    Forward { architecture: "refact", alibi: Alibi::Always(8.0), ..LLAMA },
    Forward { architecture: "seed_oss", block: POST_ATTENTION, ..LLAMA },
    Forward {
        architecture: "smallthinker",
        attention: Attention {
            windows: Some(Windows { period: 4, whole_first: true, ..WINDOWS }),
            turned: TurnedLayers::Windowed,
            ..ATTENTION
        },
        routing: Routing { routes_layer_input: true, ..ROUTING },
        further_activation: Some(FurtherActivation::Relu),
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
    T5,
    Forward { architecture: "t5encoder", ..T5 },
];

impl Forward {
    /// How models of an architecture are run, by the value of `general.architecture`; `None` if it is
    /// not written down, so that they cannot be run here.
    ///
    /// ```
    /// use gguf_model::Forward;
    ///
    /// assert!(Forward::find("llama").is_some());
    /// assert!(Forward::find("rwkv7").is_none());
    /// ```
    pub fn find(architecture: &str) -> Option<&'static Self> {
        FORWARDS.iter().find(|forward| forward.architecture == architecture)
    }
}

impl Architecture {
    /// How its models are run, if that is written down.
    pub fn forward(&self) -> Option<&'static Forward> {
        Forward::find(self.name)
    }
}
