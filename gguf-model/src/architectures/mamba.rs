//! Mamba and Mamba 2, alone and beside attention: Granite 4, Bamba, Jamba.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT_BIAS, EMBEDDING, ENDS, EXPERTS, FF, FFN_DOWN, FFN_DOWN_BIAS, FFN_GATE,
    FFN_NORM, FFN_UP, FFN_UP_BIAS, KEYS, QUERIES, ROPE_FREQS, ROUTER, SHARED_FF, SHARED_LENGTH,
    VALUES, experts, shared_experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When,
};

const CONV: Size = Size::Of(Dimension::SsmConv);
const INNER: Size = Size::Of(Dimension::SsmInner);
const STATE: Size = Size::Of(Dimension::SsmState);
const RANK: Size = Size::Of(Dimension::SsmRank);
const GROUPS: Size = Size::Of(Dimension::SsmGroups);
const STATES: Size = Size::Product(&[GROUPS, STATE]);
const CONVOLVED: Size = Size::Sum(&[INNER, STATES, STATES]);

pub(super) const KEYS_OF_MAMBA: &[Key] = &[
    Key::required("ssm.conv_kernel", Kind::COUNT),
    Key::required("ssm.inner_size", Kind::COUNT),
    Key::required("ssm.state_size", Kind::COUNT),
    Key::required("ssm.time_step_rank", Kind::COUNT),
];

/// A tensor without a suffix in its name is told here by its last part.
const fn bare(name: &'static str, suffix: &'static str, shape: &'static [Size]) -> Slot {
    Slot::weight(name, shape).suffix(suffix)
}

/// The parts of Mamba in layers of this kind.
macro_rules! mamba {
    ($when:expr) => {
        &[
            Slot::weight("blk.{}.ssm_in", &[EMBEDDING, Size::Product(&[Size::Is(2), INNER])])
                .when($when),
            Slot::weight("blk.{}.ssm_conv1d", &[CONV, INNER]).when($when),
            Slot::bias("blk.{}.ssm_conv1d", &[INNER]).when($when),
            Slot::weight("blk.{}.ssm_x", &[INNER, Size::Sum(&[RANK, STATE, STATE])]).when($when),
            Slot::weight("blk.{}.ssm_dt", &[RANK, INNER]).when($when),
            Slot::bias("blk.{}.ssm_dt", &[INNER]).when($when),
            bare("blk.{}", "ssm_a", &[STATE, INNER]).when($when),
            bare("blk.{}", "ssm_d", &[INNER]).when($when),
            Slot::weight("blk.{}.ssm_out", &[INNER, EMBEDDING]).when($when),
        ]
    };
}

/// The parts of Mamba 2 in layers of this kind.
macro_rules! mamba2 {
    ($when:expr) => {
        &[
            Slot::weight("blk.{}.ssm_in", &[EMBEDDING, Size::Sum(&[INNER, CONVOLVED, RANK])])
                .when($when),
            Slot::weight("blk.{}.ssm_conv1d", &[CONV, CONVOLVED]).when($when),
            Slot::bias("blk.{}.ssm_conv1d", &[CONVOLVED]).optional().when($when),
            Slot::bias("blk.{}.ssm_dt", &[RANK]).when($when),
            bare("blk.{}", "ssm_a", &[Size::Is(1), RANK]).when($when),
            bare("blk.{}", "ssm_d", &[Size::Is(1), RANK]).when($when),
            Slot::weight("blk.{}.ssm_norm", &[Size::Quotient(&INNER, &GROUPS), GROUPS]).when($when),
            Slot::weight("blk.{}.ssm_out", &[INNER, EMBEDDING]).when($when),
        ]
    };
}

/// Attention in the layers that have it.
pub(super) const ATTENTION_HERE: &[Slot] = &[
    Slot::weight("blk.{}.attn_q", &[EMBEDDING, QUERIES]).when(&[When::Attention]),
    Slot::weight("blk.{}.attn_k", &[EMBEDDING, KEYS]).when(&[When::Attention]),
    Slot::weight("blk.{}.attn_v", &[EMBEDDING, VALUES]).when(&[When::Attention]),
    Slot::bias("blk.{}.attn_q", &[QUERIES]).optional().when(&[When::Attention]),
    Slot::bias("blk.{}.attn_k", &[KEYS]).optional().when(&[When::Attention]),
    Slot::bias("blk.{}.attn_v", &[VALUES]).optional().when(&[When::Attention]),
    Slot::weight("blk.{}.attn_output", &[QUERIES, EMBEDDING]).when(&[When::Attention]),
    ATTN_OUTPUT_BIAS.optional().when(&[When::Attention]),
];

const GRAPH: Graph =
    Graph { norm: Norm::Rms, rope: Rope::None, activation: Some(Activation::Silu) };

pub(super) static MAMBA: Architecture = Architecture {
    name: "mamba",
    keys: &[
        KEYS_OF_MAMBA[0],
        KEYS_OF_MAMBA[1],
        KEYS_OF_MAMBA[2],
        KEYS_OF_MAMBA[3],
        Key::optional("ssm.dt_b_c_rms", Kind::Bool),
    ],
    slots: &[ENDS, &[ATTN_NORM], mamba!(&[])],
    graph: GRAPH,
};

const GROUP_KEYS: &[Key] = &[
    KEYS_OF_MAMBA[0],
    KEYS_OF_MAMBA[1],
    KEYS_OF_MAMBA[2],
    KEYS_OF_MAMBA[3],
    Key::required("ssm.group_count", Kind::Integer(1, u32::MAX)),
];

pub(super) static MAMBA2: Architecture = Architecture {
    name: "mamba2",
    keys: GROUP_KEYS,
    slots: &[ENDS, &[ATTN_NORM], mamba2!(&[])],
    graph: GRAPH,
};

pub(super) static GRANITE_HYBRID: Architecture = Architecture {
    name: "granitehybrid",
    keys: &[
        KEYS_OF_MAMBA[0],
        KEYS_OF_MAMBA[1],
        KEYS_OF_MAMBA[2],
        KEYS_OF_MAMBA[3],
        GROUP_KEYS[4],
        super::shared::LOGIT_SCALE,
        Key::optional("residual_scale", Kind::Float),
        Key::optional("embedding_scale", Kind::Float),
        Key::optional("attention.scale", Kind::Float),
        SHARED_LENGTH,
    ],
    slots: &[
        ENDS,
        &[ATTN_NORM, FFN_NORM],
        mamba2!(&[When::NoAttention]),
        ATTENTION_HERE,
        ROPE_FREQS,
        experts!(FF, &[When::Experts]),
        shared_experts!(SHARED_FF, &[When::Experts, When::SharedExperts]),
        &[
            FFN_GATE.when(&[When::NoExperts]),
            FFN_DOWN.when(&[When::NoExperts]),
            FFN_UP.when(&[When::NoExperts]),
            Slot::bias("blk.{}.ffn_gate", &[FF]).optional().when(&[When::NoExperts]),
            FFN_DOWN_BIAS.optional().when(&[When::NoExperts]),
            FFN_UP_BIAS.optional().when(&[When::NoExperts]),
        ],
    ],
    graph: Graph { rope: Rope::Neighbours(Turned::Any), ..GRAPH },
};
