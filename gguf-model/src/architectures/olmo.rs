//! OLMo: norms without weights.

use super::shared::{ATTN_OUTPUT_SQUARE, GATED, OUTPUT, QKV_SQUARE, TOKENS};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Turned};

pub(super) static OLMO: Architecture = Architecture {
    name: "olmo",
    keys: &[Key::optional("attention.clamp_kqv", Kind::Float)],
    slots: &[&[TOKENS, OUTPUT.optional()], QKV_SQUARE, ATTN_OUTPUT_SQUARE, GATED],
    graph: Graph {
        norm: Norm::Layer,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
