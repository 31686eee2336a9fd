//! DeepSeek V3.2 and GLM-5: DeepSeek's latent attention, to the tokens that an indexer chooses.

use super::{
    deepseek2::{LATENT_KEYS, LATENT_OUTPUT, LATENT_QUERIES, MLP, QUERY_RANK, SHARED},
    shared::{EMBEDDING, ENDS, NEXTN, NORMS, shared_experts},
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned,
    When,
};

pub(super) const INDEX_HEADS: Size = Size::Of(Dimension::IndexHeads);
pub(super) const INDEX: Size = Size::Of(Dimension::IndexKey);

const INDEXER: [Slot; 5] = [
    Slot::weight("blk.{}.indexer.k_norm", &[INDEX]),
    Slot::bias("blk.{}.indexer.k_norm", &[INDEX]),
    Slot::weight("blk.{}.indexer.proj", &[EMBEDDING, INDEX_HEADS]),
    Slot::weight("blk.{}.indexer.attn_k", &[EMBEDDING, INDEX]),
    Slot::weight("blk.{}.indexer.attn_q_b", &[QUERY_RANK, Size::Product(&[INDEX_HEADS, INDEX])]),
];

/// Layers that take another's choice have none.
pub(super) const SOME_INDEXERS: &[Slot] = &{
    let [a, b, c, d, e] = INDEXER;
    [
        a.need(Need::Sparse),
        b.need(Need::Sparse),
        c.need(Need::Sparse),
        d.need(Need::Sparse),
        e.need(Need::Sparse),
    ]
};

macro_rules! keys {
    ($($own:expr),*) => {
        &[
            Key::optional("leading_dense_block_count", Kind::COUNT),
            Key::required("attention.q_lora_rank", Kind::COUNT),
            Key::required("attention.kv_lora_rank", Kind::COUNT),
            Key::required("attention.key_length_mla", Kind::COUNT),
            Key::required("attention.value_length_mla", Kind::COUNT),
            Key::required("expert_feed_forward_length", Kind::Integers),
            Key::required("expert_shared_count", Kind::COUNT),
            Key::optional("expert_weights_scale", Kind::Float),
            Key::optional("expert_weights_norm", Kind::Bool),
            Key::required("attention.indexer.head_count", Kind::COUNT),
            Key::required("attention.indexer.key_length", Kind::COUNT),
            Key::required("attention.indexer.top_k", Kind::COUNT),
            $($own),*
        ]
    };
}

const GRAPH: Graph = Graph {
    norm: Norm::Rms,
    rope: Rope::Neighbours(Turned::Any),
    activation: Some(Activation::Silu),
};

pub(super) static DEEPSEEK32: Architecture = Architecture {
    name: "deepseek32",
    keys: keys!(
        Key::required("expert_gating_func", Kind::Integer(1, 4)),
        Key::optional("rope.scaling.yarn_log_multiplier", Kind::Float)
    ),
    slots: &[
        ENDS,
        NORMS,
        LATENT_QUERIES,
        LATENT_KEYS,
        LATENT_OUTPUT,
        &INDEXER,
        MLP,
        shared_experts!(SHARED, &[When::AfterLeading]),
        NEXTN,
    ],
    graph: GRAPH,
};

pub(super) static GLM_DSA: Architecture = Architecture {
    name: "glm-dsa",
    keys: keys!(
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
        Key::optional("attention.indexer.types", Kind::Pattern)
    ),
    slots: &[
        ENDS,
        NORMS,
        LATENT_QUERIES,
        LATENT_KEYS,
        LATENT_OUTPUT,
        SOME_INDEXERS,
        MLP,
        shared_experts!(SHARED, &[When::AfterLeading]),
        NEXTN,
    ],
    graph: GRAPH,
};
