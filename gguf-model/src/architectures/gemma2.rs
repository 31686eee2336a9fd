//! Gemma 2: norms before and after each part, soft caps, a sliding window in every second layer.

use super::shared::{
    ATTN_OUTPUT, ATTN_POST_NORM, ENDS_TIED, FFN_POST_NORM, GATED, NORMS, QKV, SLIDING,
    SLIDING_BASE, SLIDING_PATTERN,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Turned};

pub(super) static GEMMA2: Architecture = Architecture {
    name: "gemma2",
    keys: &[
        SLIDING,
        SLIDING_PATTERN,
        SLIDING_BASE,
        Key::optional("attn_logit_softcapping", Kind::Float),
        Key::optional("final_logit_softcapping", Kind::Float),
    ],
    slots: &[ENDS_TIED, NORMS, QKV, ATTN_OUTPUT, &[ATTN_POST_NORM], GATED, &[FFN_POST_NORM]],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Gelu),
    },
};
