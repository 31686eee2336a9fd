//! OLMo 2 and 3: norms after each part.

use super::shared::{
    ATTN_OUTPUT_SQUARE, ATTN_POST_NORM, EMBEDDING, ENDS_APART, FFN_POST_NORM, GATED, KEY, KV_HEADS,
    QKV_SQUARE, SLIDING, SLIDING_BASE, SLIDING_PATTERN,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Size, Slot, Turned};

pub(super) static OLMO2: Architecture = Architecture {
    name: "olmo2",
    keys: &[SLIDING, SLIDING_PATTERN, SLIDING_BASE],
    slots: &[
        ENDS_APART,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        &[
            Slot::weight("blk.{}.attn_q_norm", &[EMBEDDING]),
            Slot::weight("blk.{}.attn_k_norm", &[Size::Product(&[KV_HEADS, KEY])]),
            ATTN_POST_NORM,
        ],
        GATED,
        &[FFN_POST_NORM],
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
