//! Command R: attention and feed-forward part side by side; in Command R+ norms of each head.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT_SQUARE, ENDS_TIED, GATED, HEADS, KEY, KV_HEADS, LOGIT_SCALE, QKV_SQUARE,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned, When};

pub(super) static COMMAND_R: Architecture = Architecture {
    name: "command-r",
    keys: &[LOGIT_SCALE],
    slots: &[
        ENDS_TIED,
        &[ATTN_NORM],
        &[
            Slot::weight("blk.{}.attn_q_norm", &[KEY, HEADS]).when(&[When::LayersFrom(64)]),
            Slot::weight("blk.{}.attn_k_norm", &[KEY, KV_HEADS]).when(&[When::LayersFrom(64)]),
        ],
        &[
            Slot::weight("blk.{}.attn_q_norm", &[KEY, HEADS])
                .optional()
                .when(&[When::LayersBelow(64)]),
            Slot::weight("blk.{}.attn_k_norm", &[KEY, KV_HEADS])
                .optional()
                .when(&[When::LayersBelow(64)]),
        ],
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        GATED,
    ],
    graph: Graph {
        norm: Norm::Layer,
        rope: Rope::Neighbours(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
