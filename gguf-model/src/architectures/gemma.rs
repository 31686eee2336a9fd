//! Gemma.

use super::shared::{ATTN_OUTPUT, ENDS_TIED, GATED, NORMS, QKV};
use crate::{Activation, Architecture, Graph, Norm, Rope, Turned};

pub(super) static GEMMA: Architecture = Architecture {
    name: "gemma",
    keys: &[],
    slots: &[ENDS_TIED, NORMS, QKV, ATTN_OUTPUT, GATED],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Gelu),
    },
};
