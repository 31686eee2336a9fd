//! Phi-3 and Phi-4: queries, keys and values in one matrix, gate and up in one.

use super::shared::{
    ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS, FF, FFN_DOWN, HALF_ROTARY, NORMS, QKV_FUSED,
    QKV_FUSED_BIAS, SLIDING, VALUES,
};
use crate::{Activation, Architecture, Graph, Need, Norm, Rope, Size, Slot, Turned};

/// llama.cpp takes either form; converters write one matrix.
const PHI3_QKV: &[Slot] = &[
    QKV_FUSED.need(Need::Unless("blk.{}.attn_q.weight")),
    QKV_FUSED_BIAS.need(Need::OptionalWith("blk.{}.attn_qkv.weight")),
    Slot::weight("blk.{}.attn_q", &[EMBEDDING, EMBEDDING]).optional(),
    Slot::weight("blk.{}.attn_k", &[EMBEDDING, VALUES]).need(Need::With("blk.{}.attn_q.weight")),
    Slot::weight("blk.{}.attn_v", &[EMBEDDING, VALUES]).need(Need::With("blk.{}.attn_q.weight")),
    Slot::bias("blk.{}.attn_q", &[EMBEDDING]).need(Need::OptionalUnless("blk.{}.attn_qkv.bias")),
    Slot::bias("blk.{}.attn_k", &[VALUES]).need(Need::OptionalUnless("blk.{}.attn_qkv.bias")),
    Slot::bias("blk.{}.attn_v", &[VALUES]).need(Need::OptionalUnless("blk.{}.attn_qkv.bias")),
];
const PHI3_MLP: &[Slot] = &[
    FFN_DOWN,
    Slot::weight("blk.{}.ffn_up", &[EMBEDDING, Size::Product(&[Size::Is(2), FF])]),
    Slot::weight("rope_factors_long", &[HALF_ROTARY]).optional(),
    Slot::weight("rope_factors_short", &[HALF_ROTARY]).optional(),
];

pub(super) static PHI3: Architecture = Architecture {
    name: "phi3",
    keys: &[SLIDING],
    slots: &[ENDS, NORMS, PHI3_QKV, ATTN_OUTPUT_SQUARE, PHI3_MLP],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
