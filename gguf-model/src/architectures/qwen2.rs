//! Qwen 2 and 2.5, and the text models of their vision models.

use super::shared::{
    ATTN_OUTPUT_SQUARE, ENDS, GATED, NORMS, QKV_SQUARE, ROPE_SECTIONS, VOCABULARY,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

const SLOTS: &[&[Slot]] = &[
    ENDS,
    &[Slot::bias("output", &[VOCABULARY]).optional()],
    NORMS,
    QKV_SQUARE,
    ATTN_OUTPUT_SQUARE,
    GATED,
];
const GRAPH: Graph = Graph {
    norm: Norm::Rms,
    rope: Rope::Halves(Turned::Whole),
    activation: Some(Activation::Silu),
};

pub(super) static QWEN2: Architecture =
    Architecture { name: "qwen2", keys: &[], slots: SLOTS, graph: GRAPH };

pub(super) static QWEN2VL: Architecture =
    Architecture { name: "qwen2vl", keys: &[ROPE_SECTIONS], slots: SLOTS, graph: GRAPH };
