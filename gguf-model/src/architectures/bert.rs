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

/// Jina's: no positions but a bias of attention, gate and up in one.
pub(super) static JINA_BERT_V2: Architecture = Architecture {
    name: "jina-bert-v2",
    keys: &[],
    slots: &[
        &[
            TOKENS,
            Slot::weight("token_types", &[EMBEDDING, Size::Of(Dimension::TokenTypes)]),
            Slot::weight("token_embd_norm", &[EMBEDDING]),
            Slot::bias("token_embd_norm", &[EMBEDDING]),
            Slot::weight("cls", &[EMBEDDING, Size::Is(1)]).optional(),
            Slot::bias("cls", &[Size::Is(1)]).optional(),
        ],
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        &[
            Slot::weight("blk.{}.attn_q_norm", &[EMBEDDING]).optional(),
            Slot::bias("blk.{}.attn_q_norm", &[EMBEDDING]).optional(),
            Slot::weight("blk.{}.attn_k_norm", &[EMBEDDING]).optional(),
            Slot::bias("blk.{}.attn_k_norm", &[EMBEDDING]).optional(),
            ATTN_OUTPUT_BIAS,
            Slot::weight("blk.{}.attn_output_norm", &[EMBEDDING]),
            Slot::bias("blk.{}.attn_output_norm", &[EMBEDDING]),
            Slot::weight("blk.{}.attn_norm_2", &[EMBEDDING]).optional(),
            Slot::bias("blk.{}.attn_norm_2", &[EMBEDDING]).optional(),
            Slot::weight("blk.{}.ffn_up", &[EMBEDDING, TWICE]),
            Slot::bias("blk.{}.ffn_up", &[TWICE]).optional(),
            FFN_DOWN,
            FFN_DOWN_BIAS,
            Slot::weight("blk.{}.layer_output_norm", &[EMBEDDING]),
            Slot::bias("blk.{}.layer_output_norm", &[EMBEDDING]),
        ],
    ],
    graph: Graph { norm: Norm::Layer, rope: Rope::None, activation: Some(Activation::Gelu) },
};

const TWICE: Size = Size::Product(&[Size::Is(2), Size::Of(Dimension::FeedForward)]);

/// NeoBERT: norms by the root mean square before each part, gate and up in one.
pub(super) static NEO_BERT: Architecture = Architecture {
    name: "neo-bert",
    keys: &[],
    slots: &[
        &[TOKENS, Slot::weight("enc.output_norm", &[EMBEDDING])],
        CLASSIFIER,
        &[
            Slot::weight("blk.{}.attn_norm", &[EMBEDDING]),
            Slot::weight(
                "blk.{}.attn_qkv",
                &[EMBEDDING, Size::Sum(&[EMBEDDING, EMBEDDING, EMBEDDING])],
            ),
        ],
        ATTN_OUTPUT_SQUARE,
        &[
            Slot::weight("blk.{}.ffn_norm", &[EMBEDDING]),
            Slot::weight("blk.{}.ffn_up", &[EMBEDDING, TWICE]),
            FFN_DOWN,
        ],
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
