//! Ling and Ring 3.0: Kimi's delta attention in most layers, gated latent attention in the others.

use super::{
    deepseek2::{KV_RANK, LATENT_VALUE, OF_QUERIES, QUERY_RANK, STILL},
    kimi_linear::{ALL, CONVOLUTIONS, HEAD, IS},
    shared::{
        EMBEDDING, ENDS, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP, HEADS, NEXTN, NORMS,
        ROUTER, SHARED_FF, SHARED_LENGTH, experts, qkv, shared_experts,
    },
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned,
    When,
};

const STATE: &[Slot] = &[
    Slot::weight("blk.{}.ssm_f_a", &[EMBEDDING, ALL]).when(IS),
    Slot::weight("blk.{}.ssm_beta", &[EMBEDDING, HEADS]).when(IS),
    Slot::weight("blk.{}", &[Size::Is(1), HEADS]).suffix("ssm_a").when(IS),
    Slot::bias("blk.{}.ssm_dt", &[ALL]).when(IS),
    Slot::weight("blk.{}.ssm_g_a", &[EMBEDDING, ALL]).when(IS),
    Slot::weight("blk.{}.ssm_norm", &[HEAD]).when(IS),
    Slot::weight("blk.{}.attn_output", &[ALL, EMBEDDING]).when(IS),
];

const HAS: &[When] = &[When::Attention];
const COMPRESSED: &[When] = &[When::Attention, When::QueryRank];

const ATTENTION: &[Slot] = &[
    Slot::weight("blk.{}.attn_q_a", &[EMBEDDING, QUERY_RANK]).when(COMPRESSED),
    Slot::weight("blk.{}.attn_q_a_norm", &[QUERY_RANK]).when(COMPRESSED),
    Slot::weight("blk.{}.attn_q_b", &[QUERY_RANK, OF_QUERIES]).when(COMPRESSED),
    Slot::weight("blk.{}.attn_q", &[EMBEDDING, OF_QUERIES])
        .when(&[When::Attention, When::NoQueryRank]),
    Slot::weight(
        "blk.{}.attn_kv_a_mqa",
        &[EMBEDDING, Size::Sum(&[KV_RANK, Size::Of(Dimension::Rotary)])],
    )
    .when(HAS),
    Slot::weight("blk.{}.attn_kv_a_norm", &[KV_RANK]).when(HAS),
    Slot::weight("blk.{}.attn_k_b", &[STILL, KV_RANK, HEADS]).when(HAS),
    Slot::weight("blk.{}.attn_v_b", &[KV_RANK, LATENT_VALUE, HEADS]).when(HAS),
    Slot::weight("blk.{}.attn_gate", &[EMBEDDING, HEADS]).when(HAS),
    Slot::weight("blk.{}.attn_output", &[Size::Product(&[HEADS, LATENT_VALUE]), EMBEDDING])
        .when(HAS),
];

const LAYER: &[Slot] = &[
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).when(&[When::AfterLeading]),
    Slot::weight("blk.{}.layer_output_norm", &[EMBEDDING]).when(&[When::Further]),
];

pub(super) static BAILINGMOE3: Architecture = Architecture {
    name: "bailingmoe3",
    keys: &[
        Key::optional("attention.q_lora_rank", Kind::COUNT),
        Key::required("attention.kv_lora_rank", Kind::COUNT),
        Key::required("attention.key_length_mla", Kind::COUNT),
        Key::required("attention.value_length_mla", Kind::COUNT),
        Key::required("ssm.conv_kernel", Kind::COUNT),
        Key::required("kda.head_dim", Kind::COUNT),
        Key::optional("kda.safe_gate", Kind::Bool),
        Key::required("kda.gate_lower_bound", Kind::Float),
        Key::optional("rope.dimension_sections", Kind::Sections),
        Key::required("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        SHARED_LENGTH,
        Key::required("expert_shared_count", Kind::COUNT),
        Key::required("expert_gating_func", Kind::Integer(1, 4)),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
    ],
    slots: &[
        ENDS,
        NORMS,
        CONVOLUTIONS,
        qkv!(ALL, ALL, ALL, IS),
        STATE,
        ATTENTION,
        LAYER,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED_FF, &[When::AfterLeading]),
        NEXTN,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
