//! Ernie 4.5, dense.

use super::shared::{ATTN_OUTPUT, ATTN_OUTPUT_MAYBE_BIAS, ENDS, GATED, NORMS, QKV_BY_VALUES};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Turned};

pub(super) static ERNIE4_5: Architecture = Architecture {
    name: "ernie4_5",
    keys: &[Key::optional("rope.dimension_sections", Kind::Sections)],
    slots: &[ENDS, NORMS, QKV_BY_VALUES, ATTN_OUTPUT, ATTN_OUTPUT_MAYBE_BIAS, GATED],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
