//! Qwen 2 with experts, and one that all tokens pass.

use super::shared::{
    ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS_APART, EXPERT_FF, EXPERT_LENGTH, EXPERTS, NORMS,
    QKV_SQUARE, ROUTER, SHARED_FF, SHARED_LENGTH, experts, shared_experts,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

pub(super) static QWEN2MOE: Architecture = Architecture {
    name: "qwen2moe",
    keys: &[EXPERT_LENGTH, SHARED_LENGTH],
    slots: &[
        ENDS_APART,
        NORMS,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        experts!(EXPERT_FF, &[]),
        &[Slot::weight("blk.{}.ffn_gate_inp_shexp", &[EMBEDDING])],
        shared_experts!(SHARED_FF, &[]),
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
