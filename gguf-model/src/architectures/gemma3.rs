//! Gemma 3, and its embedding models with two dense layers behind.

use super::shared::{
    ATTN_OUTPUT, ATTN_POST_NORM, EMBEDDING, ENDS, FFN_POST_NORM, GATED, HEAD_NORMS, NORMS, QKV,
    SLIDING, SLIDING_BASE, SLIDING_PATTERN,
};
use crate::{Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot};

pub(super) static GEMMA3: Architecture = Architecture {
    name: "gemma3",
    keys: &[
        SLIDING,
        SLIDING_PATTERN,
        SLIDING_BASE,
        Key::optional("final_logit_softcapping", Kind::Float),
        Key::optional("dense_2_feat_in", Kind::COUNT),
        Key::optional("dense_2_feat_out", Kind::COUNT),
        Key::optional("dense_3_feat_in", Kind::COUNT),
        Key::optional("dense_3_feat_out", Kind::COUNT),
    ],
    slots: &[
        ENDS,
        &[
            Slot::weight("dense_2", &[EMBEDDING, Size::Of(Dimension::SecondDense)]).optional(),
            Slot::weight("dense_3", &[Size::Of(Dimension::ThirdDense), EMBEDDING]).optional(),
        ],
        NORMS,
        QKV,
        ATTN_OUTPUT,
        &[ATTN_POST_NORM],
        HEAD_NORMS,
        GATED,
        &[FFN_POST_NORM],
    ],
    graph: Graph { norm: Norm::Rms, rope: Rope::Halves, activation: Some(Activation::Gelu) },
};
