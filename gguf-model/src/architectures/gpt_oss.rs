//! gpt-oss: experts with biases, sinks of attention.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT, ATTN_OUTPUT_BIAS, ATTN_POST_NORM, EMBEDDING, ENDS_APART, EXPERT_FF,
    EXPERTS, HEADS, QKV, ROUTER, SLIDING_BASE, SLIDING_PATTERN, experts,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned};

const GPT_OSS_SLOTS: &[Slot] = &[
    ATTN_NORM,
    ATTN_POST_NORM,
    ATTN_OUTPUT_BIAS,
    Slot::weight("blk.{}.attn_sinks", &[HEADS]),
    Slot::bias("blk.{}.ffn_gate_inp", &[EXPERTS]),
    Slot::bias("blk.{}.ffn_gate_exps", &[EXPERT_FF, EXPERTS]),
    Slot::bias("blk.{}.ffn_down_exps", &[EMBEDDING, EXPERTS]),
    Slot::bias("blk.{}.ffn_up_exps", &[EXPERT_FF, EXPERTS]),
];

pub(super) static GPT_OSS: Architecture = Architecture {
    name: "gpt-oss",
    keys: &[
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("attention.sliding_window", Kind::COUNT),
        SLIDING_PATTERN,
        SLIDING_BASE,
    ],
    slots: &[ENDS_APART, GPT_OSS_SLOTS, QKV, ATTN_OUTPUT, experts!(EXPERT_FF, &[])],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::ClampedSwiglu),
    },
};
