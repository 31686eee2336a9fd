//! Maple: experts in all layers, no rotation with full attention.

use super::shared::{
    ATTN_OUTPUT, EMBEDDING, ENDS_APART, EXPERT_FF, EXPERTS, HEAD_NORMS, NORMS, QKV, ROUTER,
    SLIDING_BASE, experts,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned};

pub(super) static MAPLE: Architecture = Architecture {
    name: "maple",
    keys: &[
        Key::required("attention.sliding_window", Kind::COUNT),
        Key::required("attention.sliding_window_pattern", Kind::Pattern),
        Key::required("expert_feed_forward_length", Kind::Integers),
        SLIDING_BASE,
    ],
    slots: &[ENDS_APART, NORMS, QKV, ATTN_OUTPUT, HEAD_NORMS, experts!(EXPERT_FF, &[])],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
