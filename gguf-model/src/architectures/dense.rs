//! Llama's parts in other company: dense models that differ in a scale, a bias, a norm or the way in
//! which RoPE pairs values.

use super::shared::{
    ATTN_OUTPUT, ATTN_OUTPUT_BIAS, ATTN_OUTPUT_MAYBE_BIAS, ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS,
    ENDS_APART, FF, FFN_DOWN_BIAS, FFN_UP_BIAS, GATED, HALF_ROTARY, HEAD_NORMS, LLAMA_MLP,
    LOGIT_SCALE, NORM_BIASES, NORMS, OUTPUT_NORM_BIAS, PLAIN, QKV, QKV_SQUARE, ROPE_FREQS,
    VOCABULARY,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned, When};

const fn graph(rope: Rope) -> Graph {
    Graph { norm: Norm::Rms, rope, activation: Some(Activation::Silu) }
}

const PAIRS: Graph = graph(Rope::Neighbours(Turned::Whole));
const HALVES: Graph = graph(Rope::Halves(Turned::Whole));

/// RoPE's factors for two lengths of context, or one table for all.
const FACTORS: &[Slot] = &[
    Slot::weight("rope_factors_long", &[HALF_ROTARY]).optional().when(&[When::LongRope]),
    Slot::weight("rope_factors_short", &[HALF_ROTARY]).optional().when(&[When::LongRope]),
    Slot::weight("rope_freqs", &[HALF_ROTARY]).optional().when(&[When::NotLongRope]),
];

pub(super) static MINICPM: Architecture = Architecture {
    name: "minicpm",
    keys: &[
        LOGIT_SCALE,
        Key::optional("residual_scale", Kind::Float),
        Key::optional("embedding_scale", Kind::Float),
    ],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, ATTN_OUTPUT_MAYBE_BIAS, LLAMA_MLP],
    graph: graph(Rope::Neighbours(Turned::Any)),
};

pub(super) static EXAONE: Architecture = Architecture {
    name: "exaone",
    keys: &[],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, ROPE_FREQS, GATED],
    graph: HALVES,
};

pub(super) static INTERNLM2: Architecture = Architecture {
    name: "internlm2",
    keys: &[],
    slots: &[ENDS_APART, NORMS, QKV_SQUARE, ATTN_OUTPUT_SQUARE, GATED],
    graph: PAIRS,
};

pub(super) static BAICHUAN: Architecture = Architecture {
    name: "baichuan",
    keys: &[],
    slots: &[ENDS_APART, NORMS, QKV_SQUARE, ATTN_OUTPUT_SQUARE, GATED],
    graph: PAIRS,
};

pub(super) static ORION: Architecture = Architecture {
    name: "orion",
    keys: &[],
    slots: &[
        ENDS_APART,
        OUTPUT_NORM_BIAS,
        NORMS,
        NORM_BIASES,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        GATED,
    ],
    graph: Graph { norm: Norm::Layer, ..HALVES },
};

pub(super) static JAIS2: Architecture = Architecture {
    name: "jais2",
    keys: &[],
    slots: &[
        ENDS,
        OUTPUT_NORM_BIAS,
        NORMS,
        NORM_BIASES,
        QKV,
        ATTN_OUTPUT,
        &[ATTN_OUTPUT_BIAS],
        PLAIN,
        &[FFN_UP_BIAS, FFN_DOWN_BIAS],
    ],
    graph: Graph { norm: Norm::Layer, activation: Some(Activation::ReluSquared), ..HALVES },
};

pub(super) static CODESHELL: Architecture = Architecture {
    name: "codeshell",
    keys: &[],
    slots: &[
        &[
            Slot::weight("token_embd", &[EMBEDDING, VOCABULARY]).optional(),
            super::shared::OUTPUT_NORM,
            super::shared::OUTPUT,
        ],
        OUTPUT_NORM_BIAS,
        NORMS,
        NORM_BIASES,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        &[ATTN_OUTPUT_BIAS],
        PLAIN,
        &[FFN_UP_BIAS, FFN_DOWN_BIAS],
    ],
    graph: Graph { norm: Norm::Layer, activation: Some(Activation::Gelu), ..HALVES },
};

pub(super) static MAINCODER: Architecture = Architecture {
    name: "maincoder",
    keys: &[],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, HEAD_NORMS, GATED],
    graph: PAIRS,
};

pub(super) static NANBEIGE: Architecture = Architecture {
    name: "nanbeige",
    keys: &[
        Key::optional("num_loops", Kind::Integer(1, crate::MAX_LAYERS)),
        Key::optional("skip_loop_final_norm", Kind::Bool),
    ],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, ROPE_FREQS, GATED],
    graph: graph(Rope::Neighbours(Turned::Any)),
};

pub(super) static PANGU_EMBED: Architecture = Architecture {
    name: "pangu-embedded",
    keys: &[],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, &[ATTN_OUTPUT_BIAS], FACTORS, GATED],
    graph: HALVES,
};

pub(super) static DREAM: Architecture = Architecture {
    name: "dream",
    keys: &[],
    slots: &[
        ENDS,
        &[Slot::bias("output", &[VOCABULARY]).optional()],
        NORMS,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        GATED,
    ],
    graph: HALVES,
};

pub(super) static LLADA: Architecture = Architecture {
    name: "llada",
    keys: &[],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        ATTN_OUTPUT_MAYBE_BIAS,
        ROPE_FREQS,
        GATED,
        &[
            Slot::bias("blk.{}.ffn_gate", &[FF]).optional(),
            FFN_DOWN_BIAS.optional(),
            FFN_UP_BIAS.optional(),
        ],
    ],
    graph: PAIRS,
};

pub(super) static PADDLEOCR: Architecture = Architecture {
    name: "paddleocr",
    keys: &[super::shared::ROPE_SECTIONS],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, ATTN_OUTPUT_MAYBE_BIAS, GATED],
    graph: HALVES,
};
