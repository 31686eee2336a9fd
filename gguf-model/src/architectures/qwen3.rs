//! Qwen 3, its embedding models and rerankers, and the text models of its vision models.

use super::shared::{
    ATTN_OUTPUT, DEEPSTACK, EMBEDDING, ENDS, GATED, HEAD_NORMS, LABELS, NORMS, QKV_BY_VALUES,
    ROPE_SECTIONS,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

const SLOTS: &[&[Slot]] = &[
    ENDS,
    &[Slot::weight("cls.output", &[EMBEDDING, LABELS]).optional()],
    NORMS,
    QKV_BY_VALUES,
    ATTN_OUTPUT,
    HEAD_NORMS,
    GATED,
];
const GRAPH: Graph = Graph {
    norm: Norm::Rms,
    rope: Rope::Halves(Turned::Whole),
    activation: Some(Activation::Silu),
};

pub(super) static QWEN3: Architecture =
    Architecture { name: "qwen3", keys: &[], slots: SLOTS, graph: GRAPH };

pub(super) static QWEN3VL: Architecture =
    Architecture { name: "qwen3vl", keys: &[ROPE_SECTIONS, DEEPSTACK], slots: SLOTS, graph: GRAPH };
