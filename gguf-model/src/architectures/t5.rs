//! T5 and its encoder alone. Positions are a bias of attention, mostly stored in the first layer
//! only.

use super::shared::{EMBEDDING, FF, HEADS, KEYS, OUTPUT, TOKENS, VALUES};
use crate::{Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, When};

const BUCKETS: Size = Size::Of(Dimension::RelativeBuckets);
const ENCODER: &[Slot] = &[
    TOKENS,
    Slot::weight("enc.output_norm", &[EMBEDDING]),
    OUTPUT.optional(),
    Slot::weight("enc.blk.{}.attn_norm", &[EMBEDDING]),
    Slot::weight("enc.blk.{}.attn_rel_b", &[HEADS, BUCKETS]).when(&[When::First]),
    Slot::weight("enc.blk.{}.attn_rel_b", &[HEADS, BUCKETS])
        .need(Need::Sparse)
        .when(&[When::NotFirst]),
    Slot::weight("enc.blk.{}.attn_q", &[EMBEDDING, KEYS]),
    Slot::weight("enc.blk.{}.attn_k", &[EMBEDDING, KEYS]),
    Slot::weight("enc.blk.{}.attn_v", &[EMBEDDING, VALUES]),
    Slot::weight("enc.blk.{}.attn_o", &[VALUES, EMBEDDING]),
    Slot::weight("enc.blk.{}.ffn_norm", &[EMBEDDING]),
    Slot::weight("enc.blk.{}.ffn_gate", &[EMBEDDING, FF]).optional(),
    Slot::weight("enc.blk.{}.ffn_down", &[FF, EMBEDDING]),
    Slot::weight("enc.blk.{}.ffn_up", &[EMBEDDING, FF]),
];
const DECODER: &[Slot] = &[
    Slot::weight("dec.output_norm", &[EMBEDDING]),
    Slot::weight("dec.blk.{}.attn_norm", &[EMBEDDING]),
    Slot::weight("dec.blk.{}.attn_rel_b", &[HEADS, BUCKETS]).when(&[When::First]),
    Slot::weight("dec.blk.{}.attn_rel_b", &[HEADS, BUCKETS])
        .need(Need::Sparse)
        .when(&[When::NotFirst]),
    Slot::weight("dec.blk.{}.attn_q", &[EMBEDDING, KEYS]),
    Slot::weight("dec.blk.{}.attn_k", &[EMBEDDING, KEYS]),
    Slot::weight("dec.blk.{}.attn_v", &[EMBEDDING, VALUES]),
    Slot::weight("dec.blk.{}.attn_o", &[VALUES, EMBEDDING]),
    Slot::weight("dec.blk.{}.cross_attn_norm", &[EMBEDDING]),
    Slot::weight("dec.blk.{}.cross_attn_rel_b", &[HEADS, BUCKETS]).need(Need::Sparse),
    Slot::weight("dec.blk.{}.cross_attn_q", &[EMBEDDING, KEYS]),
    Slot::weight("dec.blk.{}.cross_attn_k", &[EMBEDDING, KEYS]),
    Slot::weight("dec.blk.{}.cross_attn_v", &[EMBEDDING, VALUES]),
    Slot::weight("dec.blk.{}.cross_attn_o", &[VALUES, EMBEDDING]),
    Slot::weight("dec.blk.{}.ffn_norm", &[EMBEDDING]),
    Slot::weight("dec.blk.{}.ffn_gate", &[EMBEDDING, FF]).optional(),
    Slot::weight("dec.blk.{}.ffn_down", &[FF, EMBEDDING]),
    Slot::weight("dec.blk.{}.ffn_up", &[EMBEDDING, FF]),
];

pub(super) static T5: Architecture = Architecture {
    name: "t5",
    keys: &[
        Key::required("attention.relative_buckets_count", Kind::COUNT),
        Key::optional("decoder_start_token_id", Kind::COUNT),
        Key::optional("decoder_block_count", Kind::Integer(1, crate::MAX_LAYERS)),
    ],
    slots: &[ENCODER, DECODER],
    graph: Graph { norm: Norm::Rms, rope: Rope::None, activation: None },
};

pub(super) static T5ENCODER: Architecture = Architecture {
    name: "t5encoder",
    keys: &[Key::required("attention.relative_buckets_count", Kind::COUNT)],
    slots: &[ENCODER],
    graph: Graph { norm: Norm::Rms, rope: Rope::None, activation: None },
};
