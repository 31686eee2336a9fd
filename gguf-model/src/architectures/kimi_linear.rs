//! Kimi Linear: delta attention with a state in most layers, latent attention in the others.

use super::{
    deepseek2::{KV_RANK, LATENT_VALUE, OF_QUERIES, PAIRS, QUERY_RANK, SHARED, STILL},
    shared::{
        EMBEDDING, ENDS_APART, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP, HEADS, NORMS,
        ROUTER, experts, shared_experts,
    },
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, When,
};

pub(super) const HEAD: Size = Size::Of(Dimension::KdaHead);
pub(super) const ALL: Size = Size::Product(&[HEADS, HEAD]);
const KERNEL: Size = Size::Of(Dimension::SsmConv);
pub(super) const IS: &[When] = &[When::NoAttention];

pub(super) const CONVOLUTIONS: &[Slot] = &[
    Slot::weight("blk.{}.ssm_conv1d_q", &[KERNEL, Size::Is(1), ALL]).when(IS),
    Slot::weight("blk.{}.ssm_conv1d_k", &[KERNEL, Size::Is(1), ALL]).when(IS),
    Slot::weight("blk.{}.ssm_conv1d_v", &[KERNEL, Size::Is(1), ALL]).when(IS),
];

const STATE: &[Slot] = &[
    Slot::weight("blk.{}.attn_q", &[EMBEDDING, ALL]).when(IS),
    Slot::weight("blk.{}.attn_k", &[EMBEDDING, ALL]).when(IS),
    Slot::weight("blk.{}.attn_v", &[EMBEDDING, ALL]).when(IS),
    Slot::weight("blk.{}.ssm_f_a", &[EMBEDDING, HEAD]).when(IS),
    Slot::weight("blk.{}.ssm_f_b", &[HEAD, ALL]).when(IS),
    Slot::weight("blk.{}.ssm_beta", &[EMBEDDING, HEADS]).when(IS),
    Slot::weight("blk.{}", &[Size::Is(1), HEADS]).suffix("ssm_a").when(IS),
    Slot::bias("blk.{}.ssm_dt", &[ALL]).when(IS),
    Slot::weight("blk.{}.ssm_g_a", &[EMBEDDING, HEAD]).when(IS),
    Slot::weight("blk.{}.ssm_g_b", &[HEAD, ALL]).when(IS),
    Slot::weight("blk.{}.ssm_norm", &[HEAD]).when(IS),
    Slot::weight("blk.{}.attn_output", &[ALL, EMBEDDING]).when(IS),
];

const HAS: &[When] = &[When::Attention];
const KV_B: &str = "blk.{}.attn_kv_b.weight";

const ATTENTION: &[Slot] = &[
    Slot::weight("blk.{}.attn_q_a_norm", &[QUERY_RANK]).when(&[When::Attention, When::QueryRank]),
    Slot::weight("blk.{}.attn_q_a", &[EMBEDDING, QUERY_RANK])
        .when(&[When::Attention, When::QueryRank]),
    Slot::weight("blk.{}.attn_q_b", &[QUERY_RANK, OF_QUERIES])
        .when(&[When::Attention, When::QueryRank]),
    Slot::weight("blk.{}.attn_q", &[EMBEDDING, OF_QUERIES])
        .when(&[When::Attention, When::NoQueryRank]),
    Slot::weight("blk.{}.attn_kv_a_norm", &[KV_RANK]).when(HAS),
    Slot::weight(
        "blk.{}.attn_kv_a_mqa",
        &[EMBEDDING, Size::Sum(&[KV_RANK, Size::Of(Dimension::Rotary)])],
    )
    .when(HAS),
    Slot::weight("blk.{}.attn_kv_b", &[KV_RANK, PAIRS]).optional().when(HAS),
    Slot::weight("blk.{}.attn_k_b", &[STILL, KV_RANK, HEADS]).need(Need::Unless(KV_B)).when(HAS),
    Slot::weight("blk.{}.attn_v_b", &[KV_RANK, LATENT_VALUE, HEADS])
        .need(Need::Unless(KV_B))
        .when(HAS),
    Slot::weight("blk.{}.attn_output", &[Size::Product(&[HEADS, LATENT_VALUE]), EMBEDDING])
        .when(HAS),
];

const DENSE: &[Slot] = &[
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).when(&[When::AfterLeading]),
];

pub(super) static KIMI_LINEAR: Architecture = Architecture {
    name: "kimi-linear",
    keys: &[
        Key::optional("attention.q_lora_rank", Kind::COUNT),
        Key::required("attention.kv_lora_rank", Kind::COUNT),
        Key::required("attention.key_length_mla", Kind::COUNT),
        Key::required("attention.value_length_mla", Kind::COUNT),
        Key::required("ssm.conv_kernel", Kind::COUNT),
        Key::required("kda.head_dim", Kind::COUNT),
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::required("expert_gating_func", Kind::Integer(1, 4)),
        Key::optional("expert_weights_scale", Kind::Float),
    ],
    slots: &[
        ENDS_APART,
        NORMS,
        CONVOLUTIONS,
        STATE,
        ATTENTION,
        DENSE,
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED, &[When::AfterLeading]),
    ],
    graph: Graph { norm: Norm::Rms, rope: Rope::None, activation: Some(Activation::Silu) },
};
