//! SmolLM3: no RoPE in every fourth layer.

use super::shared::{ATTN_OUTPUT, ENDS, GATED, NORMS, QKV};
use crate::{Activation, Architecture, Graph, Norm, Rope, Turned};

pub(super) static SMOLLM3: Architecture = Architecture {
    name: "smollm3",
    keys: &[],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, GATED],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
