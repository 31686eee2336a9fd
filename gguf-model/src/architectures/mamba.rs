//! Mamba and Mamba 2, alone and beside attention: Granite 4, Bamba, Jamba.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT_BIAS, EMBEDDING, ENDS, EXPERTS, FF, FFN_DOWN, FFN_DOWN_BIAS, FFN_GATE,
    FFN_NORM, FFN_UP, FFN_UP_BIAS, KEYS, QUERIES, ROPE_FREQS, ROUTER, SHARED_FF, SHARED_LENGTH,
    VALUES, experts, shared_experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned,
    When,
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

pub(super) static JAMBA: Architecture = Architecture {
    name: "jamba",
    keys: KEYS_OF_MAMBA,
    slots: &[
        ENDS,
        &[ATTN_NORM, FFN_NORM],
        mamba!(&[When::NoAttention]),
        &[
            Slot::weight("blk.{}.ssm_dt_norm", &[RANK]).when(&[When::NoAttention]),
            Slot::weight("blk.{}.ssm_b_norm", &[STATE]).when(&[When::NoAttention]),
            Slot::weight("blk.{}.ssm_c_norm", &[STATE]).when(&[When::NoAttention]),
        ],
        ATTENTION_HERE,
        &[
            ROUTER.need(Need::Sparse),
            Slot::weight("blk.{}.ffn_gate_exps", &[EMBEDDING, FF, EXPERTS])
                .need(Need::With(JAMBA_ROUTER)),
            Slot::weight("blk.{}.ffn_down_exps", &[FF, EMBEDDING, EXPERTS])
                .need(Need::With(JAMBA_ROUTER)),
            Slot::weight("blk.{}.ffn_up_exps", &[EMBEDDING, FF, EXPERTS])
                .need(Need::With(JAMBA_ROUTER)),
            FFN_GATE.need(Need::Unless(JAMBA_ROUTER)),
            FFN_DOWN.need(Need::Unless(JAMBA_ROUTER)),
            FFN_UP.need(Need::Unless(JAMBA_ROUTER)),
        ],
    ],
    graph: GRAPH,
};

/// Where a layer of Jamba has it, it has experts.
const JAMBA_ROUTER: &str = "blk.{}.ffn_gate_inp.weight";

/// A layer of Nemotron-H is of one kind: a state space, attention, or a feed-forward part.
const FEED: &[When] = &[When::FeedForward];
const NEMOTRON_GRAPH: Graph =
    Graph { norm: Norm::Layer, rope: Rope::None, activation: Some(Activation::ReluSquared) };

pub(super) static NEMOTRON_H: Architecture = Architecture {
    name: "nemotron_h",
    keys: GROUP_KEYS,
    slots: &[
        ENDS,
        &[ATTN_NORM],
        mamba2!(&[When::NeitherPart]),
        ATTENTION_HERE,
        &[
            FFN_DOWN.when(FEED),
            FFN_UP.when(FEED),
            FFN_DOWN_BIAS.optional().when(FEED),
            FFN_UP_BIAS.optional().when(FEED),
        ],
    ],
    graph: NEMOTRON_GRAPH,
};

/// What an expert takes: compressed in some models.
const LATENT: Size = Size::Of(Dimension::ExpertLatent);

pub(super) static NEMOTRON_H_MOE: Architecture = Architecture {
    name: "nemotron_h_moe",
    keys: &[
        KEYS_OF_MAMBA[0],
        KEYS_OF_MAMBA[1],
        KEYS_OF_MAMBA[2],
        KEYS_OF_MAMBA[3],
        GROUP_KEYS[4],
        super::shared::EXPERT_LENGTH,
        SHARED_LENGTH,
        Key::optional("expert_shared_count", Kind::COUNT),
        Key::optional("expert_weights_norm", Kind::Bool),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("moe_latent_size", Kind::COUNT),
    ],
    slots: &[
        ENDS,
        &[ATTN_NORM],
        mamba2!(&[When::NeitherPart]),
        ATTENTION_HERE,
        &[
            ROUTER.when(FEED),
            Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).when(FEED),
            Slot::weight("blk.{}.ffn_latent_down", &[EMBEDDING, LATENT])
                .need(Need::Sparse)
                .when(FEED),
            Slot::weight("blk.{}.ffn_latent_up", &[LATENT, EMBEDDING])
                .need(Need::Sparse)
                .when(FEED),
            Slot::weight("blk.{}.ffn_down_exps", &[super::shared::EXPERT_FF, LATENT, EXPERTS])
                .when(FEED),
            Slot::weight("blk.{}.ffn_up_exps", &[LATENT, super::shared::EXPERT_FF, EXPERTS])
                .when(FEED),
            Slot::weight("blk.{}.ffn_down_shexp", &[SHARED_FF, EMBEDDING]).when(FEED),
            Slot::weight("blk.{}.ffn_up_shexp", &[EMBEDDING, SHARED_FF]).when(FEED),
            // A layer that predicts further tokens has attention and experts.
            Slot::weight("blk.{}.post_attention_norm", &[EMBEDDING]).when(&[When::Further]),
            Slot::weight(
                "blk.{}.nextn.eh_proj",
                &[Size::Product(&[Size::Is(2), EMBEDDING]), EMBEDDING],
            )
            .when(&[When::Further]),
            Slot::weight("blk.{}.nextn.enorm", &[EMBEDDING]).when(&[When::Further]),
            Slot::weight("blk.{}.nextn.hnorm", &[EMBEDDING]).when(&[When::Further]),
            Slot::weight("blk.{}.nextn.shared_head_norm", &[EMBEDDING]).when(&[When::Further]),
        ],
    ],
    graph: NEMOTRON_GRAPH,
};

/// Mamba 2 and attention side by side.
pub(super) static FALCON_H1: Architecture = Architecture {
    name: "falcon-h1",
    keys: GROUP_KEYS,
    slots: &[
        ENDS,
        &[
            Slot::weight("blk.{}.ssm_in", &[EMBEDDING, Size::Sum(&[INNER, CONVOLVED, RANK])]),
            Slot::weight("blk.{}.ssm_conv1d", &[CONV, CONVOLVED]),
            Slot::bias("blk.{}.ssm_conv1d", &[CONVOLVED]).optional(),
            Slot::bias("blk.{}.ssm_dt", &[RANK]),
            bare("blk.{}", "ssm_a", &[Size::Is(1), RANK]),
            bare("blk.{}", "ssm_d", &[Size::Is(1), RANK]),
            Slot::weight("blk.{}.ssm_norm", &[Size::Quotient(&INNER, &GROUPS), GROUPS]).optional(),
            Slot::weight("blk.{}.ssm_out", &[INNER, EMBEDDING]),
        ],
        super::shared::QKV,
        super::shared::ATTN_OUTPUT,
        &[ATTN_OUTPUT_BIAS.optional(), ATTN_NORM, bare("blk.{}", "ffn_norm", &[EMBEDDING])],
        ROPE_FREQS,
        super::shared::GATED,
        &[
            Slot::bias("blk.{}.ffn_gate", &[FF]).optional(),
            FFN_DOWN_BIAS.optional(),
            FFN_UP_BIAS.optional(),
        ],
    ],
    graph: Graph { rope: Rope::Halves(Turned::Any), ..GRAPH },
};
