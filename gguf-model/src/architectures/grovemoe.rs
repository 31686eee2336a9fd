//! GroveMoE: Qwen3's experts, and smaller ones that groups of them share.

use super::shared::{
    ATTN_OUTPUT, EMBEDDING, ENDS, EXPERT_FF, EXPERTS, HEAD_NORMS, NORMS, QKV_BY_VALUES, ROUTER,
    experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned,
};

const SMALL: Size = Size::Of(Dimension::ChunkFeedForward);
const GROUPS: Size = Size::Quotient(&EXPERTS, &Size::Of(Dimension::GroupExperts));
const CHUNKS: &[Slot] = &[
    Slot::weight("blk.{}.ffn_gate_chexps", &[EMBEDDING, SMALL, GROUPS]),
    Slot::weight("blk.{}.ffn_down_chexps", &[SMALL, EMBEDDING, GROUPS]),
    Slot::weight("blk.{}.ffn_up_chexps", &[EMBEDDING, SMALL, GROUPS]),
];

pub(super) static GROVEMOE: Architecture = Architecture {
    name: "grovemoe",
    keys: &[
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::optional("expert_chunk_feed_forward_length", Kind::COUNT),
        Key::required("expert_group_scale", Kind::Float),
        Key::required("experts_per_group", Kind::Integer(1, 1024)),
    ],
    slots: &[ENDS, NORMS, QKV_BY_VALUES, ATTN_OUTPUT, HEAD_NORMS, experts!(EXPERT_FF, &[]), CHUNKS],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
