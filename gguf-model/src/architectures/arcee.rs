//! Arcee: Llama without a gate.

use super::shared::{ATTN_OUTPUT, ENDS, NORMS, PLAIN, QKV, ROPE_FREQS};
use crate::{Activation, Architecture, Graph, Norm, Rope};

pub(super) static ARCEE: Architecture = Architecture {
    name: "arcee",
    keys: &[],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, PLAIN, ROPE_FREQS],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours,
        activation: Some(Activation::ReluSquared),
    },
};
