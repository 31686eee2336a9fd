//! MiniCPM3 and PLM: latent attention whose second matrix is whole.

use super::shared::{EMBEDDING, ENDS, ENDS_TIED, GATED, HEADS, KEY, NORMS, PLAIN, QUERIES};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned,
};

const QUERY_RANK: Size = Size::Of(Dimension::QueryRank);
const KV_RANK: Size = Size::Of(Dimension::KvRank);
const ROTARY: Size = Size::Of(Dimension::Rotary);
const VALUE: Size = Size::Of(Dimension::Value);
const STILL: Size = Size::Difference(&KEY, &ROTARY);
const PAIRS: Size = Size::Product(&[HEADS, Size::Sum(&[STILL, VALUE])]);

const LATENT: &[Slot] = &[
    Slot::weight("blk.{}.attn_kv_a_norm", &[KV_RANK]),
    Slot::weight("blk.{}.attn_kv_a_mqa", &[EMBEDDING, Size::Sum(&[KV_RANK, ROTARY])]),
    Slot::weight("blk.{}.attn_kv_b", &[KV_RANK, PAIRS]),
    Slot::weight("blk.{}.attn_output", &[Size::Product(&[HEADS, VALUE]), EMBEDDING]),
];

pub(super) static MINICPM3: Architecture = Architecture {
    name: "minicpm3",
    keys: &[
        Key::required("attention.q_lora_rank", Kind::COUNT),
        Key::required("attention.kv_lora_rank", Kind::COUNT),
    ],
    slots: &[
        ENDS,
        NORMS,
        &[
            Slot::weight("blk.{}.attn_q_a_norm", &[QUERY_RANK]),
            Slot::weight("blk.{}.attn_q_a", &[EMBEDDING, QUERY_RANK]),
            Slot::weight("blk.{}.attn_q_b", &[QUERY_RANK, QUERIES]),
        ],
        LATENT,
        GATED,
        &[
            Slot::weight("rope_factors_long", &[super::shared::HALF_ROTARY]).optional(),
            Slot::weight("rope_factors_short", &[super::shared::HALF_ROTARY]).optional(),
        ],
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Silu),
    },
};

pub(super) static PLM: Architecture = Architecture {
    name: "plm",
    keys: &[Key::required("attention.kv_lora_rank", Kind::COUNT)],
    slots: &[
        ENDS_TIED,
        NORMS,
        &[Slot::weight("blk.{}.attn_q", &[EMBEDDING, QUERIES])],
        LATENT,
        PLAIN,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Any),
        activation: Some(Activation::ReluSquared),
    },
};
