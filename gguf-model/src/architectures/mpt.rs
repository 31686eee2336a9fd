//! MPT: ALiBi or positions, biases or none.

use super::shared::{
    ATTN_OUTPUT_BIAS, ATTN_OUTPUT_SQUARE, CONTEXT, EMBEDDING, ENDS, FF, FFN_DOWN_BIAS, FFN_UP_BIAS,
    NORMS, PLAIN, QKV_FUSED, QKV_FUSED_BIAS,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot};

const MPT_SLOTS: &[Slot] = &[
    Slot::weight("position_embd", &[EMBEDDING, CONTEXT]).optional(),
    Slot::bias("output_norm", &[EMBEDDING]).optional(),
    Slot::bias("blk.{}.attn_norm", &[EMBEDDING]).optional(),
    QKV_FUSED,
    QKV_FUSED_BIAS.optional(),
    ATTN_OUTPUT_BIAS.optional(),
    Slot::bias("blk.{}.ffn_norm", &[EMBEDDING]).optional(),
    FFN_DOWN_BIAS.optional(),
    FFN_UP_BIAS.optional(),
    Slot::weight("blk.{}.attn_q_norm", &[EMBEDDING]).optional(),
    Slot::bias("blk.{}.attn_q_norm", &[EMBEDDING]).optional(),
    Slot::weight("blk.{}.attn_k_norm", &[EMBEDDING]).optional(),
    Slot::bias("blk.{}.attn_k_norm", &[EMBEDDING]).optional(),
    Slot::weight("blk.{}.ffn.act", &[FF]).suffix("scales").optional(),
];

pub(super) static MPT: Architecture = Architecture {
    name: "mpt",
    keys: &[
        Key::optional("attention.clamp_kqv", Kind::Float),
        Key::optional("attention.max_alibi_bias", Kind::Float),
    ],
    slots: &[ENDS, NORMS, MPT_SLOTS, ATTN_OUTPUT_SQUARE, PLAIN],
    graph: Graph { norm: Norm::Layer, rope: Rope::None, activation: Some(Activation::Gelu) },
};
