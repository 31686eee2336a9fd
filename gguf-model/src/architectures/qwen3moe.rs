//! Qwen 3 with experts.

use super::shared::{
    ATTN_OUTPUT, EMBEDDING, ENDS, EXPERT_FF, EXPERT_LENGTH, EXPERTS, HEAD_NORMS, NORMS,
    QKV_BY_VALUES, ROUTER, experts,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

pub(super) static QWEN3MOE: Architecture = Architecture {
    name: "qwen3moe",
    keys: &[EXPERT_LENGTH],
    slots: &[ENDS, NORMS, QKV_BY_VALUES, ATTN_OUTPUT, HEAD_NORMS, experts!(EXPERT_FF, &[])],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
