//! GPT-2.

use super::shared::{
    ATTN_OUTPUT_BIAS, ATTN_OUTPUT_SQUARE, CONTEXT, EMBEDDING, ENDS, FFN_DOWN_BIAS, FFN_UP_BIAS,
    NORM_BIASES, NORMS, OUTPUT_NORM_BIAS, PLAIN, QKV_FUSED, QKV_FUSED_BIAS,
};
use crate::{Activation, Architecture, Graph, Norm, Rope, Slot};

pub(super) static GPT2: Architecture = Architecture {
    name: "gpt2",
    keys: &[],
    slots: &[
        ENDS,
        OUTPUT_NORM_BIAS,
        NORMS,
        NORM_BIASES,
        &[QKV_FUSED, QKV_FUSED_BIAS],
        ATTN_OUTPUT_SQUARE,
        &[ATTN_OUTPUT_BIAS],
        PLAIN,
        &[FFN_DOWN_BIAS, FFN_UP_BIAS],
        &[Slot::weight("position_embd", &[EMBEDDING, CONTEXT])],
    ],
    graph: Graph { norm: Norm::Layer, rope: Rope::None, activation: Some(Activation::Gelu) },
};
