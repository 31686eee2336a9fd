//! Gemma 3n: several streams of states that predict each other (AltUp), learned residuals of low rank
//! (LAuReL), vectors of tokens for each layer, layers that borrow keys and values.

use super::shared::{
    ATTN_OUTPUT, ATTN_POST_NORM, EMBEDDING, ENDS, FFN_POST_NORM, GATED, HEAD_NORMS, NORMS, QKV,
    SLIDING_BASE, VOCABULARY,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned,
};

const INPUT: Size = Size::Of(Dimension::PerLayerInput);
const INPUTS: Size = Size::Product(&[INPUT, Size::Of(Dimension::Layers)]);

/// llama.cpp has these as fixed numbers.
const STREAMS: Size = Size::Is(4);
const OTHER_STREAMS: Size = Size::Is(3);
const RANK: Size = Size::Is(64);

const ALTUP: &[Slot] = &[
    Slot::weight("altup_proj", &[EMBEDDING, EMBEDDING, OTHER_STREAMS]),
    Slot::weight("altup_unembd_proj", &[EMBEDDING, EMBEDDING, OTHER_STREAMS]),
    Slot::weight("blk.{}.altup_correct_coef", &[STREAMS, STREAMS]),
    Slot::weight("blk.{}.altup_correct_scale", &[EMBEDDING]),
    Slot::weight("blk.{}.altup_predict_coef", &[STREAMS, Size::Is(16)]),
    Slot::weight("blk.{}.altup_router", &[EMBEDDING, STREAMS]),
    Slot::weight("blk.{}.altup_router_norm", &[EMBEDDING]),
];

const LAUREL: &[Slot] = &[
    Slot::weight("blk.{}.laurel_l", &[EMBEDDING, RANK]),
    Slot::weight("blk.{}.laurel_r", &[RANK, EMBEDDING]),
    Slot::weight("blk.{}.laurel_post_norm", &[EMBEDDING]),
];

const PER_LAYER: &[Slot] = &[
    Slot::weight("per_layer_token_embd", &[INPUTS, VOCABULARY]),
    Slot::weight("per_layer_model_proj", &[EMBEDDING, INPUTS]),
    Slot::weight("per_layer_proj_norm", &[INPUT]),
    Slot::weight("blk.{}.inp_gate", &[EMBEDDING, INPUT]),
    Slot::weight("blk.{}.proj", &[INPUT, EMBEDDING]),
    Slot::weight("blk.{}.post_norm", &[EMBEDDING]),
];

pub(super) static GEMMA3N: Architecture = Architecture {
    name: "gemma3n",
    keys: &[
        Key::required("attention.sliding_window", Kind::COUNT),
        Key::required("attention.sliding_window_pattern", Kind::Pattern),
        SLIDING_BASE,
        Key::required("embedding_length_per_layer_input", Kind::COUNT),
        Key::optional("final_logit_softcapping", Kind::Float),
    ],
    slots: &[
        ENDS,
        ALTUP,
        PER_LAYER,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        &[ATTN_POST_NORM],
        HEAD_NORMS,
        GATED,
        &[FFN_POST_NORM],
        LAUREL,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Gelu),
    },
};
