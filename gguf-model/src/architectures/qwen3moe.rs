//! Qwen 3 with experts, and the text models of its vision models.

use super::shared::{
    ATTN_OUTPUT, DEEPSTACK, EMBEDDING, ENDS, EXPERT_FF, EXPERT_LENGTH, EXPERTS, HEAD_NORMS, NORMS,
    QKV_BY_VALUES, ROPE_SECTIONS, ROUTER, experts,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

const SLOTS: &[&[Slot]] =
    &[ENDS, NORMS, QKV_BY_VALUES, ATTN_OUTPUT, HEAD_NORMS, experts!(EXPERT_FF, &[])];
const GRAPH: Graph = Graph {
    norm: Norm::Rms,
    rope: Rope::Halves(Turned::Whole),
    activation: Some(Activation::Silu),
};

pub(super) static QWEN3MOE: Architecture =
    Architecture { name: "qwen3moe", keys: &[EXPERT_LENGTH], slots: SLOTS, graph: GRAPH };

pub(super) static QWEN3VLMOE: Architecture = Architecture {
    name: "qwen3vlmoe",
    keys: &[EXPERT_LENGTH, ROPE_SECTIONS, DEEPSTACK],
    slots: SLOTS,
    graph: GRAPH,
};
