//! Trinity (AFMoE): norms on both sides, gated attention, experts after some dense layers.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT, ATTN_POST_NORM, EMBEDDING, ENDS, EXPERT_FF, EXPERTS, FFN_DOWN,
    FFN_GATE, FFN_NORM, FFN_POST_NORM, FFN_UP, HEAD_NORMS, QKV, QUERIES, ROUTER, SLIDING,
    SLIDING_BASE, SLIDING_PATTERN, experts, shared_experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When,
};

const SHARED: Size = Size::Product(&[EXPERT_FF, Size::Of(Dimension::SharedExperts)]);
const LAYER: &[Slot] = &[
    ATTN_NORM,
    ATTN_POST_NORM,
    FFN_NORM,
    FFN_POST_NORM,
    Slot::weight("blk.{}.attn_gate", &[EMBEDDING, QUERIES]),
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).when(&[When::AfterLeading]),
];

pub(super) static AFMOE: Architecture = Architecture {
    name: "afmoe",
    keys: &[
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
        SLIDING,
        SLIDING_PATTERN,
        SLIDING_BASE,
    ],
    slots: &[
        ENDS,
        LAYER,
        QKV,
        ATTN_OUTPUT,
        HEAD_NORMS,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED, &[When::AfterLeading, When::SharedCount]),
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
