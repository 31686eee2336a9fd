//! DeepSeek V4: keys that are values too, compressed over time; several streams of states; experts that tables
//! choose in the first layers.

use super::shared::{
    EMBEDDING, ENDS_APART, EXPERT_FF, EXPERTS, HEADS, KEY, NORMS, QUERIES, ROUTER, VOCABULARY,
    experts, shared_experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When,
};

const STREAMS: Size = Size::Of(Dimension::Streams);
const ALL_STREAMS: Size = Size::Product(&[STREAMS, EMBEDDING]);
const MIXED: Size = Size::Product(&[STREAMS, Size::Sum(&[Size::Is(2), STREAMS])]);
const RANK: Size = Size::Of(Dimension::QueryRank);
const GROUPS: Size = Size::Of(Dimension::OutputGroups);
const GROUPS_OUT: Size = Size::Product(&[GROUPS, Size::Of(Dimension::OutputRank)]);
const INDEX: Size = Size::Of(Dimension::IndexKey);
const TWICE_INDEX: Size = Size::Product(&[Size::Is(2), INDEX]);
const TWICE_KEY: Size = Size::Product(&[Size::Is(2), KEY]);
const SHARED: Size = Size::Product(&[EXPERT_FF, Size::Of(Dimension::SharedExperts)]);
/// Layers that take four tokens together, and those that take many.
const FEW: &[When] = &[When::Compressed(4)];
const MANY: &[When] = &[When::Compressed(128)];

const OWN: &[Slot] = &[
    Slot::weight("output_hc_fn", &[ALL_STREAMS, STREAMS]),
    Slot::weight("output_hc_base", &[STREAMS]),
    Slot::weight("output_hc_scale", &[Size::Is(1)]),
    Slot::weight("blk.{}.attn_sinks", &[HEADS]),
    Slot::weight("blk.{}.attn_q_a", &[EMBEDDING, RANK]),
    Slot::weight("blk.{}.attn_q_a_norm", &[RANK]),
    Slot::weight("blk.{}.attn_q_b", &[RANK, QUERIES]),
    Slot::weight("blk.{}.attn_kv", &[EMBEDDING, KEY]),
    Slot::weight("blk.{}.attn_kv_a_norm", &[KEY]),
    Slot::weight("blk.{}.attn_output_a", &[Size::Quotient(&QUERIES, &GROUPS), GROUPS_OUT]),
    Slot::weight("blk.{}.attn_output_b", &[GROUPS_OUT, EMBEDDING]),
    Slot::weight("blk.{}.hc_attn_fn", &[ALL_STREAMS, MIXED]),
    Slot::weight("blk.{}.hc_attn_base", &[MIXED]),
    Slot::weight("blk.{}.hc_attn_scale", &[Size::Is(3)]),
    Slot::weight("blk.{}.hc_ffn_fn", &[ALL_STREAMS, MIXED]),
    Slot::weight("blk.{}.hc_ffn_base", &[MIXED]),
    Slot::weight("blk.{}.hc_ffn_scale", &[Size::Is(3)]),
    Slot::weight("blk.{}.attn_compressor_kv", &[EMBEDDING, TWICE_KEY]).when(FEW),
    Slot::weight("blk.{}.attn_compressor_gate", &[EMBEDDING, TWICE_KEY]).when(FEW),
    Slot::weight("blk.{}.attn_compressor_ape", &[TWICE_KEY, Size::Is(4)]).when(FEW),
    Slot::weight("blk.{}.attn_compressor_norm", &[KEY]).when(FEW),
    Slot::weight("blk.{}.attn_compressor_kv", &[EMBEDDING, KEY]).when(MANY),
    Slot::weight("blk.{}.attn_compressor_gate", &[EMBEDDING, KEY]).when(MANY),
    Slot::weight("blk.{}.attn_compressor_ape", &[KEY, Size::Is(128)]).when(MANY),
    Slot::weight("blk.{}.attn_compressor_norm", &[KEY]).when(MANY),
    Slot::weight("blk.{}.indexer.proj", &[EMBEDDING, Size::Of(Dimension::IndexHeads)]).when(FEW),
    Slot::weight(
        "blk.{}.indexer.attn_q_b",
        &[RANK, Size::Product(&[Size::Of(Dimension::IndexHeads), INDEX])],
    )
    .when(FEW),
    Slot::weight("blk.{}.indexer_compressor_kv", &[EMBEDDING, TWICE_INDEX]).when(FEW),
    Slot::weight("blk.{}.indexer_compressor_gate", &[EMBEDDING, TWICE_INDEX]).when(FEW),
    Slot::weight("blk.{}.indexer_compressor_ape", &[TWICE_INDEX, Size::Is(4)]).when(FEW),
    Slot::weight("blk.{}.indexer_compressor_norm", &[INDEX]).when(FEW),
    Slot::weight("blk.{}.ffn_gate_tid2eid", &[Size::Of(Dimension::UsedExperts), VOCABULARY])
        .when(&[When::Hashed]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).when(&[When::NotHashed]),
    Slot::bias("blk.{}.exp_probs_b_vl", &[EXPERTS]).optional(),
];

pub(super) static DEEPSEEK4: Architecture = Architecture {
    name: "deepseek4",
    keys: &[
        Key::required("attention.q_lora_rank", Kind::COUNT),
        Key::required("attention.sliding_window", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::required("expert_weights_scale", Kind::Float),
        Key::required("expert_weights_norm", Kind::Bool),
        // The square root of softplus.
        Key::required("expert_gating_func", Kind::Integer(4, 4)),
        Key::required("attention.indexer.head_count", Kind::COUNT),
        Key::required("attention.indexer.key_length", Kind::COUNT),
        Key::required("attention.indexer.top_k", Kind::COUNT),
        Key::required("attention.output_group_count", Kind::COUNT),
        Key::required("attention.output_lora_rank", Kind::COUNT),
        Key::required("attention.compress_rope_freq_base", Kind::Float),
        Key::required("hyper_connection.count", Kind::COUNT),
        Key::required("hyper_connection.sinkhorn_iterations", Kind::COUNT),
        Key::required("hyper_connection.epsilon", Kind::Float),
        Key::required("hash_layer_count", Kind::COUNT),
    ],
    slots: &[ENDS_APART, NORMS, OWN, experts!(EXPERT_FF, &[]), shared_experts!(SHARED, &[])],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
