//! Seed-OSS: the second norm stands after attention in name only.

use super::shared::{ATTN_NORM, ATTN_OUTPUT, ATTN_POST_NORM, ENDS, GATED, QKV};
use crate::{Activation, Architecture, Graph, Norm, Rope, Turned};

pub(super) static SEED_OSS: Architecture = Architecture {
    name: "seed_oss",
    keys: &[],
    slots: &[ENDS, &[ATTN_NORM, ATTN_POST_NORM], QKV, ATTN_OUTPUT, GATED],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
