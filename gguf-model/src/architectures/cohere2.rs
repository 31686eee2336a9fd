//! Command R7B and Command A: a sliding window in three of four layers.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT_SQUARE, ENDS_TIED, GATED, QKV_SQUARE, SLIDING_BASE, SLIDING_PATTERN,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Turned};

pub(super) static COHERE2: Architecture = Architecture {
    name: "cohere2",
    keys: &[
        Key::required("attention.sliding_window", Kind::COUNT),
        SLIDING_PATTERN,
        SLIDING_BASE,
        Key::required("logit_scale", Kind::Float),
    ],
    slots: &[ENDS_TIED, &[ATTN_NORM], QKV_SQUARE, ATTN_OUTPUT_SQUARE, GATED],
    graph: Graph {
        norm: Norm::Layer,
        rope: Rope::Neighbours(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
