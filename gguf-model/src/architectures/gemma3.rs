//! Gemma 3: norms before and after each part, a sliding window in five of six layers; and its embedding
//! models, which attend in both directions and may end in two matrices after pooling.

use super::shared::{
    ATTN_OUTPUT, ATTN_POST_NORM, EMBEDDING, ENDS, FFN_POST_NORM, GATED, HEAD_NORMS, NORMS, QKV,
    SLIDING, SLIDING_BASE, SLIDING_PATTERN,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Norm, Rope, Size, Slot, Turned,
};

const GRAPH: Graph =
    Graph { norm: Norm::Rms, rope: Rope::Halves(Turned::Any), activation: Some(Activation::Gelu) };

pub(super) static GEMMA3: Architecture = Architecture {
    name: "gemma3",
    keys: &[
        SLIDING,
        SLIDING_PATTERN,
        SLIDING_BASE,
        Key::optional("final_logit_softcapping", Kind::Float),
    ],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, &[ATTN_POST_NORM], HEAD_NORMS, GATED, &[FFN_POST_NORM]],
    graph: GRAPH,
};

/// What the converter of llama.cpp adds with `--sentence-transformers-dense-modules`.
const DENSE: &[Slot] = &[
    Slot::weight("dense_2", &[EMBEDDING, Size::Of(Dimension::Dense2Out)]).optional(),
    Slot::weight("dense_3", &[Size::Of(Dimension::Dense3In), EMBEDDING]).optional(),
];

pub(super) static GEMMA_EMBEDDING: Architecture = Architecture {
    name: "gemma-embedding",
    keys: &[
        Key::required("attention.sliding_window", Kind::COUNT),
        SLIDING_PATTERN,
        SLIDING_BASE,
        Key::optional("dense_2_feat_in", Kind::COUNT),
        Key::optional("dense_2_feat_out", Kind::COUNT),
        Key::optional("dense_3_feat_in", Kind::COUNT),
        Key::optional("dense_3_feat_out", Kind::COUNT),
    ],
    slots: &[
        ENDS,
        DENSE,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        &[ATTN_POST_NORM],
        HEAD_NORMS,
        GATED,
        &[FFN_POST_NORM],
    ],
    graph: GRAPH,
};
