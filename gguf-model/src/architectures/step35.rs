//! Step 3.5 and 3.7 Flash: heads by the kind of attention, a gate for each, experts in most layers.

use super::shared::{
    ATTN_OUTPUT, EMBEDDING, ENDS_APART, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP, HEADS,
    NEXTN, NORMS, QKV, ROUTER, SHARED_FF, SHARED_LENGTH, SLIDING_BASE,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned,
    When,
};

const KEY: Size = Size::Of(Dimension::Key);
const EXPERT: &[Size] = &[EMBEDDING, EXPERT_FF, EXPERTS];
const EXPERT_DOWN: &[Size] = &[EXPERT_FF, EMBEDDING, EXPERTS];

/// llama.cpp takes from each layer what it has of these.
const LAYER: &[Slot] = &[
    Slot::weight("rope_freqs", &[Size::Half(&KEY)]).optional().when(&[When::NotLongRope]),
    Slot::weight("blk.{}.attn_q_norm", &[KEY]).need(Need::Sparse),
    Slot::weight("blk.{}.attn_k_norm", &[KEY]).need(Need::Sparse),
    Slot::weight("blk.{}.attn_gate", &[EMBEDDING, HEADS]).need(Need::Sparse),
    FFN_GATE.need(Need::Sparse),
    FFN_DOWN.need(Need::Sparse),
    FFN_UP.need(Need::Sparse),
    ROUTER.need(Need::Sparse),
    Slot::weight("blk.{}.ffn_gate_exps", EXPERT).need(Need::Sparse),
    Slot::weight("blk.{}.ffn_down_exps", EXPERT_DOWN).need(Need::Sparse),
    Slot::weight("blk.{}.ffn_up_exps", EXPERT).need(Need::Sparse),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).need(Need::Sparse),
    Slot::weight("blk.{}.ffn_gate_shexp", &[EMBEDDING, SHARED_FF]).need(Need::Sparse),
    Slot::weight("blk.{}.ffn_down_shexp", &[SHARED_FF, EMBEDDING]).need(Need::Sparse),
    Slot::weight("blk.{}.ffn_up_shexp", &[EMBEDDING, SHARED_FF]).need(Need::Sparse),
];

pub(super) static STEP35: Architecture = Architecture {
    name: "step35",
    keys: &[
        Key::required("feed_forward_length", Kind::Integers),
        Key::required("expert_feed_forward_length", Kind::Integers),
        SHARED_LENGTH,
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
        Key::required("attention.sliding_window", Kind::COUNT),
        Key::required("attention.sliding_window_pattern", Kind::Pattern),
        SLIDING_BASE,
    ],
    slots: &[ENDS_APART, NORMS, QKV, ATTN_OUTPUT, LAYER, NEXTN],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
