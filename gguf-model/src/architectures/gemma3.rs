//! Gemma 3: norms before and after each part, a sliding window in five of six layers.

use super::shared::{
    ATTN_OUTPUT, ATTN_POST_NORM, ENDS, FFN_POST_NORM, GATED, HEAD_NORMS, NORMS, QKV, SLIDING,
    SLIDING_BASE, SLIDING_PATTERN,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Turned};

pub(super) static GEMMA3: Architecture = Architecture {
    name: "gemma3",
    keys: &[
        SLIDING,
        SLIDING_PATTERN,
        SLIDING_BASE,
        Key::optional("final_logit_softcapping", Kind::Float),
    ],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, &[ATTN_POST_NORM], HEAD_NORMS, GATED, &[FFN_POST_NORM]],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Halves(Turned::Any),
        activation: Some(Activation::Gelu),
    },
};
