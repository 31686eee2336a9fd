//! Mixtures of experts: Phi-3.5-MoE, ERNIE 4.5, LLaDA-MoE, RND1, Llama 4.

use super::shared::{
    ATTN_OUTPUT, ATTN_OUTPUT_BIAS, ATTN_OUTPUT_MAYBE_BIAS, ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS,
    ENDS_APART, EXPERT_FF, EXPERT_LENGTH, EXPERTS, FF, FFN_DOWN, FFN_GATE, FFN_UP, HALF_ROTARY,
    HEAD_NORMS, NORM_BIASES, NORMS, OUTPUT_NORM_BIAS, QKV, QKV_SQUARE, ROPE_FREQS, ROUTER,
    SHARED_FF, SHARED_LENGTH, VOCABULARY, experts, shared_experts,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned, When};

const fn graph(rope: Rope) -> Graph {
    Graph { norm: Norm::Rms, rope, activation: Some(Activation::Silu) }
}

pub(super) static PHIMOE: Architecture = Architecture {
    name: "phimoe",
    keys: &[],
    slots: &[
        ENDS_APART,
        OUTPUT_NORM_BIAS,
        &[Slot::bias("output", &[VOCABULARY])],
        NORMS,
        NORM_BIASES,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        &[ATTN_OUTPUT_BIAS],
        experts!(FF, &[]),
        &[
            Slot::weight("rope_factors_long", &[HALF_ROTARY]).optional(),
            Slot::weight("rope_factors_short", &[HALF_ROTARY]).optional(),
        ],
    ],
    graph: graph(Rope::Halves(Turned::Any)),
};

pub(super) static ERNIE4_5_MOE: Architecture = Architecture {
    name: "ernie4_5-moe",
    keys: &[
        Key::required("expert_feed_forward_length", Kind::Integers),
        SHARED_LENGTH,
        Key::required("interleave_moe_layer_step", Kind::Integer(1, crate::MAX_LAYERS)),
        Key::optional("leading_dense_block_count", Kind::COUNT),
    ],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        ATTN_OUTPUT_MAYBE_BIAS,
        &[
            FFN_GATE.when(&[When::Leading]),
            FFN_DOWN.when(&[When::Leading]),
            FFN_UP.when(&[When::Leading]),
            Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).optional().when(&[When::AfterLeading]),
        ],
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED_FF, &[When::AfterLeading, When::SharedExperts]),
    ],
    graph: graph(Rope::Neighbours(Turned::Whole)),
};

pub(super) static LLADA_MOE: Architecture = Architecture {
    name: "llada-moe",
    keys: &[EXPERT_LENGTH],
    slots: &[
        ENDS_APART,
        NORMS,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        HEAD_NORMS,
        experts!(EXPERT_FF, &[]),
    ],
    graph: graph(Rope::Halves(Turned::Whole)),
};

pub(super) static RND1: Architecture = Architecture {
    name: "rnd1",
    keys: &[EXPERT_LENGTH],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, HEAD_NORMS, experts!(EXPERT_FF, &[])],
    graph: graph(Rope::Halves(Turned::Whole)),
};

/// Layers of Llama 4 that have experts.
const SPARSE: &[When] = &[When::EveryStep];
const DENSE: &[When] = &[When::BetweenSteps];

pub(super) static LLAMA4: Architecture = Architecture {
    name: "llama4",
    keys: &[
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("interleave_moe_layer_step", Kind::COUNT),
        super::shared::SLIDING,
        super::shared::SLIDING_PATTERN,
        super::shared::SLIDING_BASE,
    ],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        ROPE_FREQS,
        &[FFN_GATE.when(DENSE), FFN_DOWN.when(DENSE), FFN_UP.when(DENSE)],
        experts!(EXPERT_FF, SPARSE),
        shared_experts!(EXPERT_FF, SPARSE),
    ],
    graph: graph(Rope::Neighbours(Turned::Whole)),
};
