//! CogVLM: Llama's graph with a second set of matrices for the states of images.

use super::shared::{ATTN_OUTPUT, EMBEDDING, ENDS, FF, GATED, NORMS, QUERIES, ROPE_FREQS};
use crate::{Activation, Architecture, Graph, Norm, Rope, Size, Slot, Turned};

const THRICE: Size = Size::Product(&[Size::Is(3), QUERIES]);

const OWN: &[Slot] = &[
    Slot::weight("blk.{}.attn_qkv", &[EMBEDDING, THRICE]),
    Slot::weight("blk.{}.vis_attn_qkv", &[EMBEDDING, THRICE]),
    Slot::weight("blk.{}.vis_attn_output", &[QUERIES, EMBEDDING]),
    Slot::weight("blk.{}.vis_gate", &[EMBEDDING, FF]),
    Slot::weight("blk.{}.vis_down", &[FF, EMBEDDING]),
    Slot::weight("blk.{}.vis_up", &[EMBEDDING, FF]),
];

pub(super) static COGVLM: Architecture = Architecture {
    name: "cogvlm",
    keys: &[],
    slots: &[ENDS, NORMS, OWN, ATTN_OUTPUT, GATED, ROPE_FREQS],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
