//! Qwen 3, its embedding models and rerankers.

use super::shared::{
    ATTN_OUTPUT, EMBEDDING, ENDS, GATED, HEAD_NORMS, LABELS, NORMS, QKV_BY_VALUES,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

pub(super) static QWEN3: Architecture = Architecture {
    name: "qwen3",
    keys: &[],
    slots: &[
        ENDS,
        &[Slot::weight("cls.output", &[EMBEDDING, LABELS]).optional()],
        NORMS,
        QKV_BY_VALUES,
        ATTN_OUTPUT,
        HEAD_NORMS,
        GATED,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
