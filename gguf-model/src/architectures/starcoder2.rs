//! StarCoder 2.

use super::shared::{
    ATTN_OUTPUT_BIAS, ATTN_OUTPUT_SQUARE, ENDS, FFN_DOWN_BIAS, FFN_UP_BIAS, NORM_BIASES, NORMS,
    OUTPUT_NORM_BIAS, PLAIN, QKV_SQUARE,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Turned};

pub(super) static STARCODER2: Architecture = Architecture {
    name: "starcoder2",
    keys: &[],
    slots: &[
        ENDS,
        OUTPUT_NORM_BIAS,
        NORMS,
        NORM_BIASES,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        &[ATTN_OUTPUT_BIAS],
        PLAIN,
        &[FFN_DOWN_BIAS, FFN_UP_BIAS],
    ],
    graph: Graph {
        norm: Norm::Layer,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Gelu),
    },
};
