//! Phi-1, Phi-1.5 and Phi-2: attention and feed-forward part side by side.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT_BIAS, ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS_APART, FFN_DOWN_BIAS,
    FFN_UP_BIAS, OUTPUT_NORM_BIAS, PLAIN, QKV_SQUARE, VOCABULARY,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot, Turned};

pub(super) static PHI2: Architecture = Architecture {
    name: "phi2",
    keys: &[],
    slots: &[
        ENDS_APART,
        OUTPUT_NORM_BIAS,
        &[
            Slot::bias("output", &[VOCABULARY]),
            ATTN_NORM,
            Slot::bias("blk.{}.attn_norm", &[EMBEDDING]),
        ],
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        &[ATTN_OUTPUT_BIAS],
        PLAIN,
        &[FFN_DOWN_BIAS, FFN_UP_BIAS],
    ],
    graph: Graph {
        norm: Norm::Layer,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Gelu),
    },
};
