//! Hy4: DeepSeek's latent attention with a gate and sinks, an indexer, several streams of states.

use super::{
    deepseek2::{LATENT_KEYS, LATENT_OUTPUT, LATENT_QUERIES, LATENT_VALUE, SHARED},
    deepseek32::SOME_INDEXERS,
    shared::{
        EMBEDDING, ENDS_APART, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP, HEADS, NORMS,
        ROUTER, experts, shared_experts,
    },
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When,
};

const STREAMS: Size = Size::Of(Dimension::Streams);
const ALL_STREAMS: Size = Size::Product(&[STREAMS, EMBEDDING]);
const TWICE: Size = Size::Product(&[Size::Is(2), STREAMS]);

const OWN: &[Slot] = &[
    Slot::weight("output_hc_fn", &[ALL_STREAMS, STREAMS]),
    Slot::weight("output_hc_base", &[STREAMS]),
    Slot::weight("output_hc_scale", &[Size::Is(1)]),
    Slot::weight("blk.{}.attn_sinks", &[HEADS]),
    Slot::weight("blk.{}.attn_gate", &[EMBEDDING, Size::Product(&[HEADS, LATENT_VALUE])]),
    Slot::weight("blk.{}.hc_attn_fn", &[ALL_STREAMS, TWICE]),
    Slot::weight("blk.{}.hc_attn_base", &[TWICE]),
    Slot::weight("blk.{}.hc_attn_scale", &[Size::Is(2)]),
    Slot::weight("blk.{}.hc_ffn_fn", &[ALL_STREAMS, TWICE]),
    Slot::weight("blk.{}.hc_ffn_base", &[TWICE]),
    Slot::weight("blk.{}.hc_ffn_scale", &[Size::Is(2)]),
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).optional().when(&[When::AfterLeading]),
];

pub(super) static HY_V4: Architecture = Architecture {
    name: "hy_v4",
    keys: &[
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::required("attention.q_lora_rank", Kind::COUNT),
        Key::required("attention.kv_lora_rank", Kind::COUNT),
        Key::required("attention.key_length_mla", Kind::COUNT),
        Key::required("attention.value_length_mla", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
        Key::optional("attention.indexer.head_count", Kind::COUNT),
        Key::optional("attention.indexer.key_length", Kind::COUNT),
        Key::optional("attention.indexer.top_k", Kind::COUNT),
        Key::optional("attention.indexer.types", Kind::Pattern),
        Key::required("hyper_connection.count", Kind::COUNT),
        Key::required("hyper_connection.epsilon", Kind::Float),
        Key::required("hyper_connection.magnitude", Kind::Float),
    ],
    slots: &[
        ENDS_APART,
        NORMS,
        LATENT_QUERIES,
        LATENT_KEYS,
        LATENT_OUTPUT,
        OWN,
        SOME_INDEXERS,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED, &[When::AfterLeading]),
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
