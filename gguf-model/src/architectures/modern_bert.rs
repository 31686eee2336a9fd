//! ModernBERT: no first norm in the first layer, gate and up in one matrix.

use super::shared::{
    ATTN_NORM, EMBEDDING, FF, FFN_DOWN, FFN_NORM, LABELS, OUTPUT_NORM, SLIDING, SLIDING_BASE,
    SLIDING_PATTERN, TOKENS,
};
use crate::{Architecture, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When};

const MODERN_BERT_SLOTS: &[Slot] = &[
    TOKENS,
    Slot::weight("token_embd_norm", &[EMBEDDING]),
    OUTPUT_NORM,
    ATTN_NORM.when(&[When::NotFirst]),
    ATTN_NORM.optional().when(&[When::First]),
    Slot::weight("blk.{}.attn_qkv", &[EMBEDDING, Size::Product(&[Size::Is(3), EMBEDDING])]),
    Slot::weight("blk.{}.attn_output", &[EMBEDDING, EMBEDDING]),
    Slot::weight("blk.{}.ffn_up", &[EMBEDDING, Size::Product(&[Size::Is(2), FF])]),
    FFN_DOWN,
    FFN_NORM,
    Slot::weight("cls.output", &[EMBEDDING, LABELS]).optional(),
    Slot::bias("cls.output", &[LABELS]).optional(),
    Slot::weight("cls", &[EMBEDDING, EMBEDDING]).optional(),
    Slot::weight("cls.norm", &[EMBEDDING]).optional(),
];

pub(super) static MODERN_BERT: Architecture = Architecture {
    name: "modern-bert",
    keys: &[SLIDING, SLIDING_PATTERN, SLIDING_BASE, Key::optional("hidden_activation", Kind::Text)],
    slots: &[MODERN_BERT_SLOTS],
    graph: Graph { norm: Norm::Layer, rope: Rope::Halves(Turned::Any), activation: None },
};
