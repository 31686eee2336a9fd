//! ChatGLM and GLM-4: gate and up in one matrix.

use super::shared::{
    ATTN_NORM, ATTN_OUTPUT, ATTN_OUTPUT_SQUARE, ATTN_POST_NORM, EMBEDDING, ENDS, FF, FFN_DOWN,
    FFN_NORM, FFN_POST_NORM, NEXTN, NORMS, QKV,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned};

const GATE_AND_UP: &[Slot] =
    &[FFN_DOWN, Slot::weight("blk.{}.ffn_up", &[EMBEDDING, Size::Product(&[FF, Size::Is(2)])])];
pub(super) const SECTIONS: Key = Key::optional("rope.dimension_sections", Kind::Sections);
const NEIGHBOURS: Graph = Graph {
    norm: Norm::Rms,
    rope: Rope::Neighbours(Turned::Any),
    activation: Some(Activation::Silu),
};

pub(super) static CHATGLM: Architecture = Architecture {
    name: "chatglm",
    keys: &[],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT_SQUARE, GATE_AND_UP],
    graph: NEIGHBOURS,
};

pub(super) static GLM4: Architecture = Architecture {
    name: "glm4",
    keys: &[SECTIONS],
    slots: &[
        ENDS,
        &[ATTN_NORM, ATTN_POST_NORM, FFN_NORM, FFN_POST_NORM],
        QKV,
        ATTN_OUTPUT,
        GATE_AND_UP,
        NEXTN,
    ],
    graph: NEIGHBOURS,
};
