//! LFM2: short convolutions in most layers, attention in the others.

use super::shared::{
    EMBEDDING, EXPERT_FF, EXPERTS, FF, KEY, KEYS, NORMS, OUTPUT, ROUTER, TOKENS, VALUES, experts,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned, When,
};

const CACHE: Size = Size::Of(Dimension::ShortConv);
const OUT: Size = Size::Of(Dimension::EmbeddingOut);

const ENDS: &[Slot] = &[
    TOKENS,
    Slot::weight("token_embd_norm", &[EMBEDDING]),
    OUTPUT.optional(),
    Slot::weight("dense_2", &[EMBEDDING, OUT]).when(&[When::EmbeddingOut]).optional(),
    Slot::bias("dense_2", &[OUT]).when(&[When::EmbeddingOut]).optional(),
];
const ATTENTION: &[Slot] = &[
    Slot::weight("blk.{}.attn_q_norm", &[KEY]).when(&[When::Attention]),
    Slot::weight("blk.{}.attn_k_norm", &[KEY]).when(&[When::Attention]),
    Slot::weight("blk.{}.attn_q", &[EMBEDDING, EMBEDDING]).when(&[When::Attention]),
    Slot::weight("blk.{}.attn_k", &[EMBEDDING, KEYS]).when(&[When::Attention]),
    Slot::weight("blk.{}.attn_v", &[EMBEDDING, VALUES]).when(&[When::Attention]),
    Slot::weight("blk.{}.attn_output", &[EMBEDDING, EMBEDDING]).when(&[When::Attention]),
    Slot::weight("blk.{}.shortconv.conv", &[CACHE, EMBEDDING]).when(&[When::NoAttention]),
    Slot::weight(
        "blk.{}.shortconv.in_proj",
        &[EMBEDDING, Size::Product(&[Size::Is(3), EMBEDDING])],
    )
    .when(&[When::NoAttention]),
    Slot::weight("blk.{}.shortconv.out_proj", &[EMBEDDING, EMBEDDING]).when(&[When::NoAttention]),
];
const GRAPH: Graph =
    Graph { norm: Norm::Rms, rope: Rope::Halves(Turned::Any), activation: Some(Activation::Silu) };

pub(super) static LFM2: Architecture = Architecture {
    name: "lfm2",
    keys: &[Key::required("shortconv.l_cache", Kind::COUNT), super::shared::SLIDING],
    slots: &[ENDS, NORMS, ATTENTION, super::shared::GATED],
    graph: GRAPH,
};

pub(super) static LFM2MOE: Architecture = Architecture {
    name: "lfm2moe",
    keys: &[
        Key::required("shortconv.l_cache", Kind::COUNT),
        Key::optional("leading_dense_block_count", Kind::COUNT),
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("expert_gating_func", Kind::Integer(0, 4)),
    ],
    slots: &[
        ENDS,
        NORMS,
        ATTENTION,
        &[
            Slot::weight("blk.{}.ffn_gate", &[EMBEDDING, FF]).when(&[When::Leading]),
            Slot::weight("blk.{}.ffn_down", &[FF, EMBEDDING]).when(&[When::Leading]),
            Slot::weight("blk.{}.ffn_up", &[EMBEDDING, FF]).when(&[When::Leading]),
            Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).when(&[When::AfterLeading]),
        ],
        experts!(EXPERT_FF, &[When::AfterLeading]),
    ],
    graph: GRAPH,
};
