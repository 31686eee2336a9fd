//! Cohere 2 with experts: one norm for both parts of a layer, a sliding window in most.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT, EMBEDDING, ENDS, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP,
    LOGIT_SCALE, NEXTN, QKV_BY_VALUES, ROUTER, SHARED_FF, SHARED_LENGTH, SLIDING_BASE,
    SLIDING_PATTERN, experts, shared_experts,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned, When};

const DENSE: &[Slot] = &[
    ATTN_NORM,
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
];

pub(super) static COHERE2MOE: Architecture = Architecture {
    name: "cohere2moe",
    keys: &[
        Key::required("attention.sliding_window", Kind::COUNT),
        SLIDING_PATTERN,
        SLIDING_BASE,
        Key { required: true, ..LOGIT_SCALE },
        Key::required("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        SHARED_LENGTH,
        Key::optional("expert_shared_count", Kind::COUNT),
        Key::optional("expert_weights_norm", Kind::Bool),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
    ],
    slots: &[
        ENDS,
        DENSE,
        QKV_BY_VALUES,
        ATTN_OUTPUT,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED_FF, &[When::AfterLeading, When::SharedExperts]),
        NEXTN,
    ],
    graph: Graph {
        norm: Norm::Layer,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
