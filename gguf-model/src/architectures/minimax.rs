//! MiniMax M2: experts chosen by corrected scores, norms of all queries and of all keys.

use super::shared::{
    ATTN_OUTPUT, EMBEDDING, ENDS_APART, EXPERT_FF, EXPERTS, FF, FFN_DOWN, FFN_GATE, FFN_UP,
    HEAD_NORMS, KEYS, NORMS, QKV_BY_VALUES, QUERIES, ROUTER, experts, shared_experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When,
};

const OWN: &[Slot] = &[
    Slot::weight("blk.{}.attn_q_norm", &[QUERIES]),
    Slot::weight("blk.{}.attn_k_norm", &[KEYS]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]),
];

pub(super) static MINIMAX_M2: Architecture = Architecture {
    name: "minimax-m2",
    keys: &[
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
    ],
    slots: &[ENDS_APART, NORMS, QKV_BY_VALUES, ATTN_OUTPUT, OWN, experts!(FF, &[])],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};

const INDEX: Size = Size::Of(Dimension::IndexKey);
const SHARED: Size = Size::Product(&[EXPERT_FF, Size::Of(Dimension::SharedExperts)]);
const M3: &[Slot] = &[
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).when(&[When::AfterLeading]),
    Slot::weight(
        "blk.{}.indexer.q_proj",
        &[EMBEDDING, Size::Product(&[Size::Of(Dimension::IndexHeads), INDEX])],
    )
    .when(&[When::AfterLeading]),
    Slot::weight("blk.{}.indexer.k_proj", &[EMBEDDING, INDEX]).when(&[When::AfterLeading]),
    Slot::weight("blk.{}.indexer.q_norm", &[INDEX]).when(&[When::AfterLeading]),
    Slot::weight("blk.{}.indexer.k_norm", &[INDEX]).when(&[When::AfterLeading]),
];

/// MiniMax M3: an expert that all tokens pass, attention to the blocks that an indexer chooses.
pub(super) static MINIMAX_M3: Architecture = Architecture {
    name: "minimax-m3",
    keys: &[
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
        Key::required("expert_gating_func", Kind::Integer(1, 4)),
        Key::required("attention.indexer.head_count", Kind::COUNT),
        Key::required("attention.indexer.key_length", Kind::COUNT),
        Key::required("attention.indexer.top_k", Kind::COUNT),
        Key::required("attention.indexer.block_size", Kind::COUNT),
        Key::required("attention.indexer.local_blocks", Kind::COUNT),
    ],
    slots: &[
        ENDS_APART,
        NORMS,
        QKV_BY_VALUES,
        ATTN_OUTPUT,
        HEAD_NORMS,
        M3,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED, &[When::AfterLeading]),
    ],
    graph: Graph { norm: Norm::Rms, rope: Rope::Halves(Turned::Any), activation: None },
};
