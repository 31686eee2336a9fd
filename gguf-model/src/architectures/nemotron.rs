//! Nemotron and Minitron.

use super::shared::{
    ATTN_OUTPUT_MAYBE_BIAS, ATTN_OUTPUT_SQUARE, ENDS_APART, FFN_DOWN_BIAS, FFN_UP_BIAS,
    NORM_BIASES, NORMS, OUTPUT_NORM_BIAS, PLAIN, QKV_SQUARE,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Turned};

pub(super) static NEMOTRON: Architecture = Architecture {
    name: "nemotron",
    keys: &[],
    slots: &[
        ENDS_APART,
        OUTPUT_NORM_BIAS,
        NORMS,
        NORM_BIASES,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        ATTN_OUTPUT_MAYBE_BIAS,
        PLAIN,
        &[FFN_DOWN_BIAS.optional(), FFN_UP_BIAS.optional()],
    ],
    graph: Graph {
        norm: Norm::Layer,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::ReluSquared),
    },
};
