//! Granite, dense and of experts: Llama with scales.

use super::shared::{
    ATTN_OUTPUT, ATTN_OUTPUT_MAYBE_BIAS, ENDS, LLAMA_EXPERTS, LLAMA_MLP, LLAMA_SHARED, NORMS, QKV,
    SHARED_LENGTH,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Slot, Turned};

const GRANITE_KEYS: &[Key] = &[
    Key::required("logit_scale", Kind::Float),
    Key::optional("residual_scale", Kind::Float),
    Key::optional("embedding_scale", Kind::Float),
    Key::optional("attention.scale", Kind::Float),
    SHARED_LENGTH,
];
const SLOTS: &[&[Slot]] = &[
    ENDS,
    NORMS,
    QKV,
    ATTN_OUTPUT,
    ATTN_OUTPUT_MAYBE_BIAS,
    LLAMA_MLP,
    LLAMA_EXPERTS,
    LLAMA_SHARED,
];

pub(super) static GRANITE: Architecture = Architecture {
    name: "granite",
    keys: GRANITE_KEYS,
    slots: SLOTS,
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};

pub(super) static GRANITEMOE: Architecture = Architecture {
    name: "granitemoe",
    keys: GRANITE_KEYS,
    slots: SLOTS,
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
