//! Qwen 2 and 2.5.

use super::shared::{ATTN_OUTPUT_SQUARE, ENDS, GATED, NORMS, QKV_SQUARE, VOCABULARY};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

pub(super) static QWEN2: Architecture = Architecture {
    name: "qwen2",
    keys: &[],
    slots: &[
        ENDS,
        &[Slot::bias("output", &[VOCABULARY]).optional()],
        NORMS,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        GATED,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
