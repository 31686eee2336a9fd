//! Muse Glimmer: norms on both sides, gated attention, no RoPE in layers without a sliding window.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT, ATTN_POST_NORM, EMBEDDING, ENDS_APART, FFN_NORM, FFN_POST_NORM, GATED,
    HEAD_NORMS, QKV, QUERIES, SLIDING_BASE, SLIDING_PATTERN,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned};

pub(super) static MUSE_GLIMMER: Architecture = Architecture {
    name: "muse-glimmer",
    keys: &[
        Key::required("attention.sliding_window", Kind::COUNT),
        Key::optional("final_logit_softcapping", Kind::Float),
        Key::required("logit_scale", Kind::Float),
        SLIDING_PATTERN,
        SLIDING_BASE,
    ],
    slots: &[
        ENDS_APART,
        &[
            ATTN_NORM,
            ATTN_POST_NORM,
            FFN_NORM,
            FFN_POST_NORM,
            Slot::weight("blk.{}.attn_gate", &[EMBEDDING, QUERIES]),
        ],
        QKV,
        ATTN_OUTPUT,
        HEAD_NORMS,
        GATED,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
