//! GLM-4.5 to 4.7: experts after some dense layers.

use super::{
    glm::SECTIONS,
    shared::{
        ATTN_NORM, ATTN_OUTPUT, ATTN_POST_NORM, EMBEDDING, ENDS, EXPERT_FF, EXPERTS, FFN_DOWN,
        FFN_GATE, FFN_UP, KEY, NEXTN, QKV, ROUTER, experts, shared_experts,
    },
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When,
};

const SHARED: Size = Size::Product(&[EXPERT_FF, Size::Of(Dimension::SharedExperts)]);
const HEAD_NORMS: &[Slot] = &[
    Slot::weight("blk.{}.attn_k_norm", &[KEY]).optional(),
    Slot::weight("blk.{}.attn_q_norm", &[KEY]).optional(),
];
const DENSE: &[Slot] = &[
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).when(&[When::AfterLeading]),
];

pub(super) static GLM4MOE: Architecture = Architecture {
    name: "glm4moe",
    keys: &[
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
        SECTIONS,
    ],
    slots: &[
        ENDS,
        &[ATTN_NORM, ATTN_POST_NORM],
        QKV,
        ATTN_OUTPUT,
        HEAD_NORMS,
        DENSE,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED, &[When::AfterLeading, When::SharedCount]),
        NEXTN,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
