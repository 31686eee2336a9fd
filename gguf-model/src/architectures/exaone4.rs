//! EXAONE 4: norms after each part, and of queries and keys.

use super::shared::{
    ATTN_OUTPUT_SQUARE, ATTN_POST_NORM, EMBEDDING, ENDS, FFN_POST_NORM, GATED, HEAD_NORMS, QKV,
    ROPE_FREQS, SLIDING, SLIDING_BASE, SLIDING_PATTERN,
};
use crate::{Activation, Architecture, Graph, Need, Norm, Rope, Size, Slot, Turned, When};

const FURTHER: &[Slot] = &[
    Slot::weight("blk.{}.nextn.eh_proj", &[Size::Product(&[Size::Is(2), EMBEDDING]), EMBEDDING])
        .when(&[When::Further]),
    Slot::weight("blk.{}.nextn.enorm", &[EMBEDDING]).when(&[When::Further]),
    Slot::weight("blk.{}.nextn.hnorm", &[EMBEDDING]).when(&[When::Further]),
    Slot::weight("blk.{}.nextn.shared_head_norm", &[EMBEDDING])
        .need(Need::Sparse)
        .when(&[When::Further]),
];

pub(super) static EXAONE4: Architecture = Architecture {
    name: "exaone4",
    keys: &[SLIDING, SLIDING_PATTERN, SLIDING_BASE],
    slots: &[
        ENDS,
        QKV,
        ATTN_OUTPUT_SQUARE,
        ROPE_FREQS,
        &[ATTN_POST_NORM],
        HEAD_NORMS,
        GATED,
        &[FFN_POST_NORM],
        FURTHER,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
