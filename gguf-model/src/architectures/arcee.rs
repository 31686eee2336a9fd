//! Arcee: Llama without a gate.

use super::shared::{ATTN_OUTPUT, ENDS, NORMS, PLAIN, QKV, ROPE_FREQS};
use crate::{Activation, Architecture, Graph, Norm, Rope, Turned};

pub(super) static ARCEE: Architecture = Architecture {
    name: "arcee",
    keys: &[],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, PLAIN, ROPE_FREQS],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::ReluSquared),
    },
};
