//! MiniMax-Text-01 and M1: lightning attention in most layers.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT, EMBEDDING, ENDS, EXPERTS, FF, FFN_NORM, FULL_INTERVAL, KEYS, QUERIES,
    RECURRENT, ROUTER, VALUES, experts, qkv,
};
use crate::{
    Activation, Architecture, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned, When,
};

const STATE: &[When] = &[When::Recurrent];
const THRICE: Size = Size::Product(&[Size::Is(3), QUERIES]);

pub(super) static MINIMAX01: Architecture = Architecture {
    name: "minimax-01",
    keys: &[Key::required("residual_scale", Kind::Float), RECURRENT, FULL_INTERVAL],
    slots: &[
        ENDS,
        &[
            ATTN_NORM,
            FFN_NORM,
            Slot::weight("blk.{}.attn_norm_2", &[QUERIES]).when(STATE),
            Slot::weight("blk.{}.attn_qkv", &[EMBEDDING, THRICE]).when(STATE),
            Slot::weight("blk.{}.attn_gate", &[EMBEDDING, QUERIES]).when(STATE),
        ],
        qkv!(QUERIES, KEYS, VALUES, &[When::Attending]),
        ATTN_OUTPUT,
        experts!(FF, &[]),
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
