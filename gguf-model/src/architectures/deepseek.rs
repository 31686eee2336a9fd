//! DeepSeek MoE, the first generation: experts after some dense layers.

use super::shared::{
    ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP, NORMS,
    QKV_SQUARE, ROUTER, experts, shared_experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When,
};

const DENSE: &[Slot] = &[
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
];
const SHARED: Size = Size::Product(&[EXPERT_FF, Size::Of(Dimension::SharedExperts)]);

pub(super) static DEEPSEEK: Architecture = Architecture {
    name: "deepseek",
    keys: &[
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::optional("expert_weights_scale", Kind::Float),
    ],
    slots: &[
        ENDS,
        NORMS,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        DENSE,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED, &[When::AfterLeading]),
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
