//! Ling and Ring (Bailing), first and second generation.

use super::shared::{
    ATTN_OUTPUT, EMBEDDING, ENDS_APART, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP, HEAD_NORMS,
    KEYS, NEXTN, NORMS, QKV_BY_VALUES, QUERIES, ROUTER, SHARED_FF, SHARED_LENGTH, VALUES, experts,
    shared_experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When,
};

const SHARED: Size = Size::Product(&[EXPERT_FF, Size::Of(Dimension::SharedExperts)]);

pub(super) static BAILINGMOE: Architecture = Architecture {
    name: "bailingmoe",
    keys: &[
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
    ],
    slots: &[
        ENDS_APART,
        NORMS,
        QKV_BY_VALUES,
        ATTN_OUTPUT,
        experts!(EXPERT_FF, &[]),
        shared_experts!(SHARED, &[]),
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};

const LAYER: &[Slot] = &[
    Slot::weight("blk.{}.attn_qkv", &[EMBEDDING, Size::Sum(&[QUERIES, KEYS, VALUES])]),
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).optional().when(&[When::AfterLeading]),
    Slot::weight("blk.{}.layer_output_norm", &[EMBEDDING]).when(&[When::Further]),
];

pub(super) static BAILINGMOE2: Architecture = Architecture {
    name: "bailingmoe2",
    keys: &[
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        SHARED_LENGTH,
        Key::required("expert_shared_count", Kind::COUNT),
        Key::required("expert_gating_func", Kind::Integer(1, 4)),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
    ],
    slots: &[
        ENDS_APART,
        NORMS,
        LAYER,
        ATTN_OUTPUT,
        HEAD_NORMS,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED_FF, &[When::AfterLeading]),
        NEXTN,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
