//! Mellum 2: experts in all layers, norms of queries and keys.

use super::shared::{
    ATTN_OUTPUT, EMBEDDING, ENDS_APART, EXPERT_FF, EXPERTS, HEAD_NORMS, NORMS, QKV_BY_VALUES,
    ROUTER, SLIDING, SLIDING_BASE, SLIDING_PATTERN, experts,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned};

pub(super) static MELLUM: Architecture = Architecture {
    name: "mellum",
    keys: &[
        Key::required("expert_feed_forward_length", Kind::Integers),
        SLIDING,
        SLIDING_PATTERN,
        SLIDING_BASE,
    ],
    slots: &[ENDS_APART, NORMS, QKV_BY_VALUES, ATTN_OUTPUT, HEAD_NORMS, experts!(EXPERT_FF, &[])],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
