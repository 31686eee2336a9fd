//! GPT-NeoX and Pythia.

use super::shared::{
    ATTN_OUTPUT_BIAS, ATTN_OUTPUT_SQUARE, ENDS_APART, FFN_DOWN_BIAS, FFN_UP_BIAS, NORM_BIASES,
    NORMS, OUTPUT_NORM_BIAS, PLAIN, QKV_FUSED, QKV_FUSED_BIAS,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Turned};

pub(super) static GPTNEOX: Architecture = Architecture {
    name: "gptneox",
    keys: &[Key::required("use_parallel_residual", Kind::Bool)],
    slots: &[
        ENDS_APART,
        OUTPUT_NORM_BIAS,
        NORMS,
        NORM_BIASES,
        &[QKV_FUSED, QKV_FUSED_BIAS],
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
