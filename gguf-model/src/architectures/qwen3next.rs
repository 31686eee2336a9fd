//! Qwen3-Next and Qwen 3.5: gated delta nets in most layers, attention with a gate in the others, and
//! layers that predict further tokens.

use super::shared::{
    ATTN_NORM, ATTN_POST_NORM, EMBEDDING, ENDS, EXPERT_FF, EXPERT_LENGTH, EXPERTS, FULL_INTERVAL,
    GATED, HEADS, KEY, KEYS, NEXTN, QUERIES, RECURRENT, ROPE_SECTIONS, ROUTER, SHARED_FF,
    SHARED_LENGTH, VALUES, experts, qkv, shared_experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned,
    When,
};

const HEAD: Size = Size::Of(Dimension::SsmState);
const KEY_HEADS: Size = Size::Of(Dimension::SsmGroups);
const VALUE_HEADS: Size = Size::Of(Dimension::SsmRank);
const LINEAR_VALUES: Size = Size::Product(&[HEAD, VALUE_HEADS]);
const MIXED: Size = Size::Sum(&[Size::Product(&[Size::Is(2), HEAD, KEY_HEADS]), LINEAR_VALUES]);
const IS: &[When] = &[When::Recurrent];

/// Queries, each with a gate.
const QUERIES_AND_GATES: Size = Size::Product(&[Size::Is(2), HEADS, KEY]);
const ATTENTION: &[Slot] = qkv!(QUERIES_AND_GATES, KEYS, VALUES, &[When::Attending]);
const ATTENDING: &[Slot] = &[
    Slot::weight("blk.{}.attn_output", &[QUERIES, EMBEDDING]).when(&[When::Attending]),
    Slot::weight("blk.{}.attn_q_norm", &[KEY]).when(&[When::Attending]),
    Slot::weight("blk.{}.attn_k_norm", &[KEY]).when(&[When::Attending]),
];
const DELTA_NET: &[Slot] = &[
    Slot::weight("blk.{}.attn_gate", &[EMBEDDING, LINEAR_VALUES]).when(IS),
    Slot::weight("blk.{}.ssm_conv1d", &[Size::Of(Dimension::SsmConv), MIXED]).when(IS),
    Slot::bias("blk.{}.ssm_dt", &[VALUE_HEADS]).when(IS),
    Slot::weight("blk.{}", &[VALUE_HEADS]).suffix("ssm_a").when(IS),
    Slot::weight("blk.{}.ssm_norm", &[HEAD]).when(IS),
    Slot::weight("blk.{}.ssm_out", &[LINEAR_VALUES, EMBEDDING]).when(IS),
];
const LINEAR_QKV: &[Slot] = &[Slot::weight("blk.{}.attn_qkv", &[EMBEDDING, MIXED]).when(IS)];
const APART: &[Slot] = &[
    Slot::weight("blk.{}.ssm_beta", &[EMBEDDING, VALUE_HEADS]).when(IS),
    Slot::weight("blk.{}.ssm_alpha", &[EMBEDDING, VALUE_HEADS]).when(IS),
];
/// Qwen3-Next has one matrix for both, and older files one for what goes into the net.
const TOGETHER: &[Slot] =
    &[Slot::weight("blk.{}.ssm_ba", &[EMBEDDING, Size::Product(&[Size::Is(2), VALUE_HEADS])])
        .when(IS)];
const NORMS: &[Slot] = &[ATTN_NORM, ATTN_POST_NORM];
const SHARED: &[Slot] = &[Slot::weight("blk.{}.ffn_gate_inp_shexp", &[EMBEDDING])];

macro_rules! keys {
    ($($own:expr),*) => {
        &[
            Key::required("ssm.conv_kernel", Kind::COUNT),
            Key::required("ssm.state_size", Kind::COUNT),
            Key::required("ssm.group_count", Kind::COUNT),
            Key::required("ssm.time_step_rank", Kind::COUNT),
            Key::required("ssm.inner_size", Kind::COUNT),
            RECURRENT,
            FULL_INTERVAL,
            $($own),*
        ]
    };
}

const GRAPH: Graph =
    Graph { norm: Norm::Rms, rope: Rope::Halves(Turned::Any), activation: Some(Activation::Silu) };

pub(super) static QWEN3NEXT: Architecture = Architecture {
    name: "qwen3next",
    keys: keys!(EXPERT_LENGTH, SHARED_LENGTH),
    slots: &[
        ENDS,
        NORMS,
        ATTENTION,
        ATTENDING,
        LINEAR_QKV,
        DELTA_NET,
        TOGETHER,
        experts!(EXPERT_FF, &[]),
        SHARED,
        shared_experts!(SHARED_FF, &[]),
        NEXTN,
    ],
    graph: GRAPH,
};

pub(super) static QWEN35: Architecture = Architecture {
    name: "qwen35",
    keys: keys!(ROPE_SECTIONS),
    slots: &[ENDS, NORMS, ATTENTION, ATTENDING, LINEAR_QKV, DELTA_NET, APART, GATED, NEXTN],
    graph: GRAPH,
};

pub(super) static QWEN35MOE: Architecture = Architecture {
    name: "qwen35moe",
    keys: keys!(EXPERT_LENGTH, SHARED_LENGTH, ROPE_SECTIONS),
    slots: &[
        ENDS,
        NORMS,
        ATTENTION,
        ATTENDING,
        LINEAR_QKV,
        DELTA_NET,
        APART,
        experts!(EXPERT_FF, &[]),
        SHARED,
        shared_experts!(SHARED_FF, &[]),
        NEXTN,
    ],
    graph: GRAPH,
};
