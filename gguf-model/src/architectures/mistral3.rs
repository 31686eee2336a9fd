//! Mistral 3 and Ministral 3: Llama with YaRN and scaled attention.

use super::shared::{
    ATTN_OUTPUT, ATTN_OUTPUT_MAYBE_BIAS, ENDS, LLAMA_EXPERTS, LLAMA_MLP, NORMS, QKV,
};
use crate::{Activation, Architecture, Graph, Key, Kind, Norm, Rope, Turned};

pub(super) static MISTRAL3: Architecture = Architecture {
    name: "mistral3",
    keys: &[
        Key::optional("attention.temperature_scale", Kind::Float),
        Key::optional("rope.scaling.yarn_beta_fast", Kind::Float),
        Key::optional("rope.scaling.yarn_beta_slow", Kind::Float),
        Key::optional("rope.scaling.yarn_log_multiplier", Kind::Float),
    ],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, ATTN_OUTPUT_MAYBE_BIAS, LLAMA_MLP, LLAMA_EXPERTS],
    graph: Graph {
        norm: Norm::Rms,
        rope: Rope::Neighbours(Turned::Whole),
        activation: Some(Activation::Silu),
    },
};
