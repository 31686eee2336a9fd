//! DeepSeek-OCR's text model: experts after some dense layers, heads of their own.

use super::deepseek2::MLP;
use super::shared::{ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS, EXPERT_FF, NORMS, qkv, shared_experts};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned,
    When,
};

const SHARED: Size = Size::Product(&[EXPERT_FF, Size::Of(Dimension::SharedExperts)]);
const QKV: &[Slot] = qkv!(EMBEDDING, EMBEDDING, EMBEDDING);

pub(super) static DEEPSEEK_OCR: Architecture = Architecture {
    name: "deepseek2-ocr",
    keys: &[
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_shared_count", Kind::COUNT),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
    ],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT_SQUARE,
        MLP,
        shared_experts!(SHARED, &[When::AfterLeading]),
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Any),
        activation: Some(Activation::Silu),
    },
};
