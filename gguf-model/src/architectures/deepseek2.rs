//! DeepSeek V2, V3 and R1: latent attention, experts after some dense layers.

use super::shared::{
    EMBEDDING, ENDS, EXPERT_FF, EXPERTS, FFN_DOWN, FFN_GATE, FFN_UP, HEADS, NEXTN, NORMS, ROUTER,
    shared_experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned,
    When,
};

pub(super) const QUERY_RANK: Size = Size::Of(Dimension::QueryRank);
pub(super) const KV_RANK: Size = Size::Of(Dimension::KvRank);
const ROTARY: Size = Size::Of(Dimension::Rotary);
const LATENT_KEY: Size = Size::Of(Dimension::LatentKey);
pub(super) const LATENT_VALUE: Size = Size::Of(Dimension::LatentValue);
/// The part of a head's key that RoPE leaves alone.
pub(super) const STILL: Size = Size::Difference(&LATENT_KEY, &ROTARY);
pub(super) const OF_QUERIES: Size = Size::Product(&[HEADS, LATENT_KEY]);
const LATENT_VALUES: Size = Size::Product(&[HEADS, LATENT_VALUE]);
pub(super) const PAIRS: Size = Size::Product(&[HEADS, Size::Sum(&[STILL, LATENT_VALUE])]);
pub(super) const SHARED: Size = Size::Product(&[EXPERT_FF, Size::Of(Dimension::SharedExperts)]);

const LATENT_ATTENTION: &[Slot] = &[
    Slot::weight("blk.{}.attn_q_a_norm", &[QUERY_RANK]).when(&[When::QueryRank]),
    Slot::weight("blk.{}.attn_q_a", &[EMBEDDING, QUERY_RANK]).when(&[When::QueryRank]),
    Slot::weight("blk.{}.attn_q_b", &[QUERY_RANK, OF_QUERIES]).when(&[When::QueryRank]),
    Slot::weight("blk.{}.attn_q", &[EMBEDDING, OF_QUERIES]).when(&[When::NoQueryRank]),
    Slot::weight("blk.{}.attn_kv_a_norm", &[KV_RANK]),
    Slot::weight("blk.{}.attn_kv_a_mqa", &[EMBEDDING, Size::Sum(&[KV_RANK, ROTARY])]),
    Slot::weight("blk.{}.attn_k_b", &[STILL, KV_RANK, HEADS]).when(&[When::Latent]),
    Slot::weight("blk.{}.attn_v_b", &[KV_RANK, LATENT_VALUE, HEADS]).when(&[When::Latent]),
    Slot::weight("blk.{}.attn_kv_b", &[KV_RANK, PAIRS]).when(&[When::NotLatent]),
];
/// Compressed queries.
pub(super) const LATENT_QUERIES: &[Slot] = &[
    Slot::weight("blk.{}.attn_q_a_norm", &[QUERY_RANK]),
    Slot::weight("blk.{}.attn_q_a", &[EMBEDDING, QUERY_RANK]),
    Slot::weight("blk.{}.attn_q_b", &[QUERY_RANK, OF_QUERIES]),
];
/// Compressed keys and values, in no other form.
pub(super) const LATENT_KEYS: &[Slot] = &[
    Slot::weight("blk.{}.attn_kv_a_norm", &[KV_RANK]),
    Slot::weight("blk.{}.attn_kv_a_mqa", &[EMBEDDING, Size::Sum(&[KV_RANK, ROTARY])]),
    Slot::weight("blk.{}.attn_k_b", &[STILL, KV_RANK, HEADS]),
    Slot::weight("blk.{}.attn_v_b", &[KV_RANK, LATENT_VALUE, HEADS]),
];
pub(super) const LATENT_OUTPUT: &[Slot] =
    &[Slot::weight("blk.{}.attn_output", &[LATENT_VALUES, EMBEDDING])];
const GATE_AND_UP: &str = "blk.{}.ffn_gate_up_exps.weight";
pub(super) const MLP: &[Slot] = &[
    FFN_GATE.when(&[When::Leading]),
    FFN_DOWN.when(&[When::Leading]),
    FFN_UP.when(&[When::Leading]),
    ROUTER.when(&[When::AfterLeading]),
    Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).optional().when(&[When::AfterLeading]),
    Slot::weight("blk.{}.ffn_down_exps", &[EXPERT_FF, EMBEDDING, EXPERTS])
        .when(&[When::AfterLeading]),
    Slot::weight(
        "blk.{}.ffn_gate_up_exps",
        &[EMBEDDING, Size::Product(&[EXPERT_FF, Size::Is(2)]), EXPERTS],
    )
    .optional()
    .when(&[When::AfterLeading]),
    Slot::weight("blk.{}.ffn_gate_exps", &[EMBEDDING, EXPERT_FF, EXPERTS])
        .need(Need::Unless(GATE_AND_UP))
        .when(&[When::AfterLeading]),
    Slot::weight("blk.{}.ffn_up_exps", &[EMBEDDING, EXPERT_FF, EXPERTS])
        .need(Need::Unless(GATE_AND_UP))
        .when(&[When::AfterLeading]),
];

pub(super) static DEEPSEEK2: Architecture = Architecture {
    name: "deepseek2",
    keys: &[
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::optional("attention.q_lora_rank", Kind::COUNT),
        Key::required("attention.kv_lora_rank", Kind::COUNT),
        Key::optional("attention.key_length_mla", Kind::COUNT),
        Key::optional("attention.value_length_mla", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
        Key::optional("rope.scaling.yarn_log_multiplier", Kind::Float),
        Key::optional("attention.temperature_scale", Kind::Float),
        Key::optional("attention.temperature_length", Kind::COUNT),
    ],
    slots: &[
        ENDS,
        NORMS,
        LATENT_ATTENTION,
        LATENT_OUTPUT,
        MLP,
        shared_experts!(SHARED, &[When::AfterLeading]),
        NEXTN,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
