//! Laguna: heads by the kind of attention, a gate for each head or value, experts after dense layers.

use super::shared::{
    ATTN_OUTPUT, EMBEDDING, ENDS, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP, HEAD_NORMS,
    HEADS, NORMS, QKV, QUERIES, ROUTER, SHARED_FF, SHARED_LENGTH, SLIDING, SLIDING_BASE,
    SLIDING_PATTERN, experts, shared_experts,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When};

/// llama.cpp takes as many gates as there are heads, or values of all heads: the tensor tells.
const GATES: Size = Size::Either(&HEADS, &QUERIES);

const LAYER: &[Slot] = &[
    Slot::weight("blk.{}.attn_gate", &[EMBEDDING, GATES]),
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).when(&[When::AfterLeading]),
];

pub(super) static LAGUNA: Architecture = Architecture {
    name: "laguna",
    keys: &[
        Key::required("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        SHARED_LENGTH,
        Key::optional("expert_shared_count", Kind::COUNT),
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
        SLIDING,
        SLIDING_PATTERN,
        SLIDING_BASE,
    ],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        HEAD_NORMS,
        LAYER,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED_FF, &[When::AfterLeading]),
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
