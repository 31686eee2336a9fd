//! OLMoE: norms of all queries and keys at once.

use super::shared::{
    ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS_APART, EXPERTS, FF, NORMS, QKV_SQUARE, ROUTER, experts,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

pub(super) static OLMOE: Architecture = Architecture {
    name: "olmoe",
    keys: &[],
    slots: &[
        ENDS_APART,
        NORMS,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        &[
            Slot::weight("blk.{}.attn_q_norm", &[EMBEDDING]),
            Slot::weight("blk.{}.attn_k_norm", &[EMBEDDING]),
        ],
        experts!(FF, &[]),
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
