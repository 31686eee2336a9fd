//! GLM-5.3 Flash: Kimi's delta attention, latent attention with an indexer, several streams of states.

use super::{
    deepseek2::{KV_RANK, LATENT_VALUE, OF_QUERIES, QUERY_RANK, SHARED, STILL},
    deepseek32::{INDEX, SOME_INDEXERS},
    kimi_linear::{ALL, CONVOLUTIONS, HEAD, IS},
    shared::{
        EMBEDDING, ENDS_APART, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP, HEADS, NEXTN, NORMS,
        ROUTER, experts, qkv, shared_experts,
    },
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, When,
};

const STATE: &[Slot] = &[
    Slot::weight("blk.{}.ssm_f_a", &[EMBEDDING, HEAD]).when(IS),
    Slot::weight("blk.{}.ssm_f_b", &[HEAD, ALL]).when(IS),
    Slot::weight("blk.{}.ssm_beta", &[EMBEDDING, HEADS]).when(IS),
    Slot::weight("blk.{}", &[HEADS]).suffix("ssm_a").when(IS),
    Slot::bias("blk.{}.ssm_dt", &[ALL]).when(IS),
    Slot::weight("blk.{}.ssm_g_a", &[EMBEDDING, HEAD]).when(IS),
    Slot::weight("blk.{}.ssm_g_b", &[HEAD, ALL]).when(IS),
    Slot::weight("blk.{}.ssm_norm", &[HEAD]).when(IS),
    Slot::weight("blk.{}.attn_output", &[ALL, EMBEDDING]).when(IS),
];

const HAS: &[When] = &[When::Attention];

const ATTENTION: &[Slot] = &[
    Slot::weight("blk.{}.attn_q_a", &[EMBEDDING, QUERY_RANK]).when(HAS),
    Slot::weight("blk.{}.attn_q_a_norm", &[QUERY_RANK]).when(HAS),
    Slot::weight("blk.{}.attn_q_b", &[QUERY_RANK, OF_QUERIES]).when(HAS),
    Slot::weight(
        "blk.{}.attn_kv_a_mqa",
        &[EMBEDDING, Size::Sum(&[KV_RANK, Size::Of(Dimension::Rotary)])],
    )
    .when(HAS),
    Slot::weight("blk.{}.attn_kv_a_norm", &[KV_RANK]).when(HAS),
    Slot::weight("blk.{}.attn_k_b", &[STILL, KV_RANK, HEADS]).when(HAS),
    Slot::weight("blk.{}.attn_v_b", &[KV_RANK, LATENT_VALUE, HEADS]).when(HAS),
    Slot::weight("blk.{}.attn_output", &[Size::Product(&[HEADS, LATENT_VALUE]), EMBEDDING])
        .when(HAS),
    Slot::weight("blk.{}.indexer_compressor_gate", &[EMBEDDING, INDEX]).need(Need::Sparse),
    Slot::weight("blk.{}.indexer_compressor_ape", &[INDEX, Size::Of(Dimension::IndexPool)])
        .need(Need::Sparse),
];

const STREAMS: Size = Size::Of(Dimension::Streams);
const ALL_STREAMS: Size = Size::Product(&[STREAMS, EMBEDDING]);
const MIXES: Size = Size::Product(&[STREAMS, Size::Sum(&[Size::Is(2), STREAMS])]);
const TRUNK: &[When] = &[When::Trunk];

const LAYER: &[Slot] = &[
    Slot::weight("blk.{}.hc_attn_fn", &[ALL_STREAMS, MIXES]).when(TRUNK),
    Slot::weight("blk.{}.hc_attn_base", &[MIXES]).when(TRUNK),
    Slot::weight("blk.{}.hc_attn_scale", &[Size::Is(3)]).when(TRUNK),
    Slot::weight("blk.{}.hc_ffn_fn", &[ALL_STREAMS, MIXES]).when(TRUNK),
    Slot::weight("blk.{}.hc_ffn_base", &[MIXES]).when(TRUNK),
    Slot::weight("blk.{}.hc_ffn_scale", &[Size::Is(3)]).when(TRUNK),
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).when(&[When::AfterLeading]),
];

pub(super) static GLM5_NEXT: Architecture = Architecture {
    name: "glm5-next",
    keys: &[
        Key::optional("attention.layer_norm_epsilon", Kind::Positive),
        Key::required("attention.q_lora_rank", Kind::COUNT),
        Key::required("attention.kv_lora_rank", Kind::COUNT),
        Key::required("attention.key_length_mla", Kind::COUNT),
        Key::required("attention.value_length_mla", Kind::COUNT),
        Key::required("ssm.conv_kernel", Kind::COUNT),
        Key::required("kda.head_dim", Kind::COUNT),
        Key::optional("kda.gate_lower_bound", Kind::Float),
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
        Key::required("attention.indexer.head_count", Kind::COUNT),
        Key::required("attention.indexer.key_length", Kind::COUNT),
        Key::required("attention.indexer.top_k", Kind::COUNT),
        Key::required("attention.indexer.kpool", Kind::COUNT),
        Key::optional("attention.indexer.kpool_select_tail", Kind::Bool),
        Key::required("hyper_connection.count", Kind::Integer(4, 4)),
        Key::required("hyper_connection.sinkhorn_iterations", Kind::COUNT),
        Key::required("hyper_connection.epsilon", Kind::Float),
    ],
    slots: &[
        ENDS_APART,
        NORMS,
        CONVOLUTIONS,
        qkv!(ALL, ALL, ALL, IS),
        STATE,
        ATTENTION,
        SOME_INDEXERS,
        LAYER,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED, &[When::AfterLeading]),
        NEXTN,
    ],
    graph: Graph { norm: Norm::Rms, rope: Rope::None, activation: Some(Activation::Silu) },
};
