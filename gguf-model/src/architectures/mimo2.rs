//! MiMo V2: values narrower than keys, attention sinks in some layers, experts in most.

use super::shared::{
    EMBEDDING, ENDS_APART, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP, HEADS, NEXTN, NORMS,
    QKV, ROUTER, SLIDING_BASE,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned,
    When,
};

const OUT: Size = Size::Product(&[HEADS, Size::Of(Dimension::Value)]);
const EXPERT: &[Size] = &[EMBEDDING, EXPERT_FF, EXPERTS];

/// llama.cpp takes from each layer what it has of the optional ones.
const LAYER: &[Slot] = &[
    Slot::weight("blk.{}.attn_output", &[OUT, EMBEDDING]),
    Slot::weight("blk.{}.attn_sinks", &[HEADS]).need(Need::Sparse),
    FFN_GATE.need(Need::Sparse),
    FFN_DOWN.need(Need::Sparse),
    FFN_UP.need(Need::Sparse),
    ROUTER.need(Need::Sparse),
    Slot::weight("blk.{}.ffn_gate_exps", EXPERT).need(Need::Sparse),
    Slot::weight("blk.{}.ffn_down_exps", &[EXPERT_FF, EMBEDDING, EXPERTS]).need(Need::Sparse),
    Slot::weight("blk.{}.ffn_up_exps", EXPERT).need(Need::Sparse),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).need(Need::Sparse),
    Slot::weight("blk.{}.layer_output_norm", &[EMBEDDING])
        .need(Need::Sparse)
        .when(&[When::Further]),
];

pub(super) static MIMO2: Architecture = Architecture {
    name: "mimo2",
    keys: &[
        Key::required("feed_forward_length", Kind::Integers),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("attention.sliding_window", Kind::COUNT),
        Key::required("attention.sliding_window_pattern", Kind::Pattern),
        Key::optional("attention.value_scale", Kind::Float),
        SLIDING_BASE,
    ],
    slots: &[ENDS_APART, NORMS, QKV, LAYER, NEXTN],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
