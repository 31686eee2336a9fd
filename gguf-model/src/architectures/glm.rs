//! ChatGLM, GLM-4 and GLM-4.5: gate and up in one matrix, or experts after some dense layers.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT, ATTN_OUTPUT_SQUARE, ATTN_POST_NORM, EMBEDDING, ENDS, EXPERT_FF,
    EXPERTS, FF, FFN_DOWN, FFN_GATE, FFN_NORM, FFN_POST_NORM, FFN_UP, KEY, NEXTN, NORMS, QKV,
    ROUTER, experts, shared_experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When,
};

const GATE_AND_UP: &[Slot] =
    &[FFN_DOWN, Slot::weight("blk.{}.ffn_up", &[EMBEDDING, Size::Product(&[FF, Size::Is(2)])])];
const SECTIONS: Key = Key::optional("rope.dimension_sections", Kind::Sections);
const NEIGHBOURS: Graph = Graph {
    norm: Norm::Rms,
    rope: Rope::Neighbours(Turned::Any),
    activation: Some(Activation::Silu),
};

pub(super) static CHATGLM: Architecture = Architecture {
    name: "chatglm",
    keys: &[],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT_SQUARE, GATE_AND_UP],
    graph: NEIGHBOURS,
};

pub(super) static GLM4: Architecture = Architecture {
    name: "glm4",
    keys: &[SECTIONS],
    slots: &[
        ENDS,
        &[ATTN_NORM, ATTN_POST_NORM, FFN_NORM, FFN_POST_NORM],
        QKV,
        ATTN_OUTPUT,
        GATE_AND_UP,
        NEXTN,
    ],
    graph: NEIGHBOURS,
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
