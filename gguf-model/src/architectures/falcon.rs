//! Falcon 7B and 40B: attention and feed-forward part side by side, with one norm or two.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS, OUTPUT_NORM_BIAS, PLAIN, QKV_FUSED,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

pub(super) static FALCON: Architecture = Architecture {
    name: "falcon",
    keys: &[],
    slots: &[
        ENDS,
        OUTPUT_NORM_BIAS,
        &[
            ATTN_NORM,
            Slot::bias("blk.{}.attn_norm", &[EMBEDDING]),
            Slot::weight("blk.{}.attn_norm_2", &[EMBEDDING]).optional(),
            Slot::bias("blk.{}.attn_norm_2", &[EMBEDDING]).optional(),
            QKV_FUSED,
        ],
        ATTN_OUTPUT_SQUARE,
        PLAIN,
    ],
    graph: Graph {
        norm: Norm::Layer,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Gelu),
    },
};
