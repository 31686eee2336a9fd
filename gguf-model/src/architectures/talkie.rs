//! Talkie: norms without weights; gains scale heads, parts and layers.

use super::shared::{ATTN_OUTPUT, GATED, HEADS, OUTPUT, QKV_BY_VALUES, TOKENS};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned};

const ONE: &[Size] = &[Size::Is(1)];

pub(super) static TALKIE: Architecture = Architecture {
    name: "talkie",
    keys: &[Key::required("logit_scale", Kind::Float)],
    slots: &[
        &[TOKENS, OUTPUT],
        QKV_BY_VALUES,
        ATTN_OUTPUT,
        &[
            Slot::weight("blk.{}.attn_q_norm", &[Size::Is(1), HEADS]),
            Slot::weight("blk.{}.layer_output_scale", ONE),
        ],
        GATED,
    ],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
