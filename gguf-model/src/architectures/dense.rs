//! Llama's parts in other company: dense models that differ in a scale, a bias, a norm or the way in
//! which RoPE pairs values.

use super::shared::{
    ATTN_OUTPUT, ATTN_OUTPUT_BIAS, ATTN_OUTPUT_MAYBE_BIAS, ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS,
    ENDS_APART, FF, FFN_DOWN_BIAS, FFN_UP_BIAS, GATED, HALF_ROTARY, HEAD_NORMS, KEYS, LLAMA_MLP,
    LOGIT_SCALE, NORM_BIASES, NORMS, OUTPUT_NORM_BIAS, PLAIN, QKV, QKV_SQUARE, QUERIES, ROPE_FREQS,
    VALUES, VOCABULARY,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When};

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

pub(super) static HUNYUAN_DENSE: Architecture = Architecture {
    name: "hunyuan-dense",
    keys: &[],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, HEAD_NORMS, GATED],
    graph: HALVES,
};

pub(super) static HUNYUAN_VL: Architecture = Architecture {
    name: "hunyuan_vl",
    keys: &[Key::optional("rope.dimension_sections", Kind::Sections)],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, HEAD_NORMS, GATED],
    graph: HALVES,
};

pub(super) static EUROBERT: Architecture = Architecture {
    name: "eurobert",
    keys: &[],
    slots: &[super::shared::ENDS_TIED, NORMS, QKV_SQUARE, ATTN_OUTPUT_SQUARE, GATED],
    graph: graph(Rope::Halves(Turned::Any)),
};

pub(super) static REFACT: Architecture = Architecture {
    name: "refact",
    keys: &[],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, ATTN_OUTPUT_MAYBE_BIAS, LLAMA_MLP],
    graph: graph(Rope::None),
};

/// Layers that differ in heads and widths.
pub(super) static OPENELM: Architecture = Architecture {
    name: "openelm",
    keys: &[],
    slots: &[
        super::shared::ENDS_TIED,
        NORMS,
        &[
            Slot::weight("blk.{}.attn_qkv", &[EMBEDDING, Size::Sum(&[QUERIES, KEYS, VALUES])]),
            Slot::weight("blk.{}.attn_output", &[QUERIES, EMBEDDING]),
        ],
        HEAD_NORMS,
        GATED,
    ],
    graph: HALVES,
};

/// Layers that differ in heads and widths, some without attention or a feed-forward part.
pub(super) static DECI: Architecture = Architecture {
    name: "deci",
    keys: &[],
    slots: &[
        ENDS,
        &[
            Slot::weight("blk.{}.attn_norm", &[EMBEDDING]).when(&[When::Heads]),
            Slot::weight("blk.{}.attn_output", &[EMBEDDING, EMBEDDING])
                .when(&[When::Heads, When::NoAttention]),
            Slot::weight("blk.{}.attn_q", &[EMBEDDING, QUERIES]).when(&[When::Attention]),
            Slot::weight("blk.{}.attn_k", &[EMBEDDING, KEYS]).when(&[When::Attention]),
            Slot::weight("blk.{}.attn_v", &[EMBEDDING, VALUES]).when(&[When::Attention]),
            Slot::bias("blk.{}.attn_q", &[QUERIES]).optional().when(&[When::Attention]),
            Slot::bias("blk.{}.attn_k", &[KEYS]).optional().when(&[When::Attention]),
            Slot::bias("blk.{}.attn_v", &[VALUES]).optional().when(&[When::Attention]),
            Slot::weight("blk.{}.attn_output", &[QUERIES, EMBEDDING]).when(&[When::Attention]),
            ATTN_OUTPUT_BIAS.optional().when(&[When::Attention]),
            Slot::weight("blk.{}.ffn_norm", &[EMBEDDING]).when(&[When::FeedForward]),
            super::shared::FFN_GATE.when(&[When::FeedForward]),
            super::shared::FFN_DOWN.when(&[When::FeedForward]),
            super::shared::FFN_UP.when(&[When::FeedForward]),
            Slot::bias("blk.{}.ffn_gate", &[FF]).optional().when(&[When::FeedForward]),
            FFN_DOWN_BIAS.optional().when(&[When::FeedForward]),
            FFN_UP_BIAS.optional().when(&[When::FeedForward]),
        ],
        FACTORS,
    ],
    graph: graph(Rope::Neighbours(Turned::Any)),
};

/// Without a gate; the activation has numbers of its own in each layer.
pub(super) static APERTUS: Architecture = Architecture {
    name: "apertus",
    keys: &[],
    slots: &[
        ENDS_APART,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        ATTN_OUTPUT_MAYBE_BIAS,
        FACTORS,
        PLAIN,
        HEAD_NORMS,
        &[
            Slot::bias("blk.{}.attn_q_norm", &[super::shared::KEY]).optional(),
            Slot::bias("blk.{}.attn_k_norm", &[super::shared::KEY]).optional(),
        ],
    ],
    graph: Graph { activation: None, ..HALVES },
};
