//! OLMo 1: norms without weights, queries, keys and values clamped in some models.

use super::{
    Architecture, BASE,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
};

pub(super) const OLMO: Architecture = Architecture {
    name: "olmo",
    classes: &["OlmoForCausalLM", "OLMoForCausalLM"],
    defaults: &[model("olmo", &[&[count("max_position_embeddings", 2048)], THETA, SAME_HEADS])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            Parameter::Constant("attention.layer_norm_epsilon", Constant::Number(1e-5)),
            parameters::number("attention.clamp_kqv", &["clip_qkv"]),
        ],
    ],
    tensors: &[EMBEDDING, ROTARY_ATTENTION, GATED_MLP],
    check: check_heads,
    ..BASE
};
