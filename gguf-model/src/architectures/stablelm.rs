//! StableLM: one norm in a layer or two, and none or one for each head.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS_APART, FFN_NORM, GATED, HEADS, KEY, KV_HEADS,
    OUTPUT_NORM_BIAS, QKV_SQUARE,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

pub(super) static STABLELM: Architecture = Architecture {
    name: "stablelm",
    keys: &[],
    slots: &[
        ENDS_APART,
        OUTPUT_NORM_BIAS,
        &[
            ATTN_NORM,
            Slot::bias("blk.{}.attn_norm", &[EMBEDDING]),
            FFN_NORM.optional(),
            Slot::bias("blk.{}.ffn_norm", &[EMBEDDING]).optional(),
        ],
        &[
            Slot::weight("blk.{}.attn_q_norm", &[KEY, HEADS]).optional(),
            Slot::weight("blk.{}.attn_k_norm", &[KEY, KV_HEADS]).optional(),
        ],
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        GATED,
    ],
    graph: Graph {
        norm: Norm::Layer,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
