//! SmallThinker: experts in all layers, chosen before attention.

use super::shared::{
    ATTN_OUTPUT, EMBEDDING, ENDS, EXPERT_FF, EXPERT_LENGTH, EXPERTS, NORMS, QKV_BY_VALUES, ROUTER,
    SLIDING, SLIDING_BASE, SLIDING_PATTERN, experts,
};
use crate::{Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned};

pub(super) static SMALLTHINKER: Architecture = Architecture {
    name: "smallthinker",
    keys: &[
        EXPERT_LENGTH,
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
        SLIDING,
        SLIDING_PATTERN,
        SLIDING_BASE,
    ],
    slots: &[ENDS, NORMS, QKV_BY_VALUES, ATTN_OUTPUT, experts!(EXPERT_FF, &[])],
    graph: Graph { norm: Norm::Rms, rope: Rope::Halves(Turned::Whole), activation: None },
};
