//! BERT, RoBERTa, XLM-RoBERTa and DistilBERT; and nomic-bert, which is BERT with RoPE and a gate.

use super::shared::{
    ATTN_OUTPUT_BIAS, ATTN_OUTPUT_SQUARE, CONTEXT, EMBEDDING, FFN_DOWN, FFN_DOWN_BIAS, FFN_GATE,
    FFN_UP, FFN_UP_BIAS, LABELS, QKV_SQUARE, TOKENS,
};
use crate::{Activation, Architecture, Dimension, Graph, Norm, Rope, Size, Slot, Turned};

const BERT_ENDS: &[Slot] = &[
    TOKENS,
    Slot::weight("token_types", &[EMBEDDING, Size::Of(Dimension::TokenTypes)]).optional(),
    Slot::weight("token_embd_norm", &[EMBEDDING]),
    Slot::bias("token_embd_norm", &[EMBEDDING]),
];
/// A layer whose norms stand after its parts.
const LAYER: &[Slot] = &[
    ATTN_OUTPUT_BIAS.optional(),
    Slot::weight("blk.{}.attn_output_norm", &[EMBEDDING]),
    Slot::bias("blk.{}.attn_output_norm", &[EMBEDDING]),
    FFN_UP,
    FFN_UP_BIAS.optional(),
    FFN_DOWN,
    FFN_DOWN_BIAS.optional(),
    Slot::weight("blk.{}.layer_output_norm", &[EMBEDDING]),
    Slot::bias("blk.{}.layer_output_norm", &[EMBEDDING]),
];
const CLASSIFIER: &[Slot] = &[
    Slot::weight("cls", &[EMBEDDING, EMBEDDING]).optional(),
    Slot::bias("cls", &[EMBEDDING]).optional(),
    Slot::weight("cls.output", &[EMBEDDING, LABELS]).optional(),
    Slot::bias("cls.output", &[LABELS]).optional(),
];

pub(super) static BERT: Architecture = Architecture {
    name: "bert",
    keys: &[],
    slots: &[
        BERT_ENDS,
        &[Slot::weight("position_embd", &[EMBEDDING, CONTEXT])],
        CLASSIFIER,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        LAYER,
    ],
    graph: Graph { norm: Norm::Layer, rope: Rope::None, activation: Some(Activation::Gelu) },
};

pub(super) static NOMIC_BERT: Architecture = Architecture {
    name: "nomic-bert",
    keys: &[],
    slots: &[BERT_ENDS, QKV_SQUARE, ATTN_OUTPUT_SQUARE, LAYER, &[FFN_GATE]],
    graph: Graph {
        norm: Norm::Layer,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
