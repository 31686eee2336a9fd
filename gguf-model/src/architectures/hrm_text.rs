//! HRM-Text: two stacks of layers that are run through in turns, norms without weights.

use super::shared::{EMBEDDING, FF, KEYS, OUTPUT, QUERIES, TOKENS, VALUES};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned, When};

/// Passes after the first have the layers of the first.
const HERE: &[When] = &[When::InStacks];

pub(super) static HRM_TEXT: Architecture = Architecture {
    name: "hrm_text",
    keys: &[
        Key::optional("embedding_scale", Kind::Float),
        Key::required("hrm.layers_per_stack", Kind::Integer(1, crate::MAX_LAYERS)),
        Key::required("hrm.h_cycles", Kind::Integer(1, u32::MAX)),
        Key::required("hrm.l_cycles", Kind::Integer(1, u32::MAX)),
        Key::optional("hrm.prefix_lm", Kind::Bool),
    ],
    slots: &[&[
        TOKENS,
        OUTPUT.optional(),
        Slot::weight("hrm", &[EMBEDDING]).suffix("z_l_init"),
        Slot::weight("blk.{}.attn_q", &[EMBEDDING, QUERIES]).when(HERE),
        Slot::weight("blk.{}.attn_k", &[EMBEDDING, KEYS]).when(HERE),
        Slot::weight("blk.{}.attn_v", &[EMBEDDING, VALUES]).when(HERE),
        Slot::weight("blk.{}.attn_gate", &[EMBEDDING, QUERIES]).when(HERE),
        Slot::weight("blk.{}.attn_output", &[QUERIES, EMBEDDING]).when(HERE),
        Slot::weight("blk.{}.ffn_gate", &[EMBEDDING, FF]).when(HERE),
        Slot::weight("blk.{}.ffn_down", &[FF, EMBEDDING]).when(HERE),
        Slot::weight("blk.{}.ffn_up", &[EMBEDDING, FF]).when(HERE),
    ]],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
