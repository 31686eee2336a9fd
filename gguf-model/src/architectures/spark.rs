//! Spark X2.5: a gate for each head, rotation by the kind of attention.

use super::shared::{ATTN_OUTPUT, EMBEDDING, ENDS, GATED, HEADS, NORMS, QKV, SLIDING_BASE};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned};

const GATE: &[Slot] = &[Slot::weight("blk.{}.attn_gate", &[EMBEDDING, HEADS])];

pub(super) static SPARK2_5: Architecture = Architecture {
    name: "spark2_5",
    keys: &[
        Key::required("attention.sliding_window", Kind::COUNT),
        Key::required("attention.sliding_window_pattern", Kind::Pattern),
        SLIDING_BASE,
    ],
    slots: &[ENDS, NORMS, QKV, GATE, ATTN_OUTPUT, GATED],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Gelu),
    },
};
