//! Qwen3 with experts, such as Qwen3-30B-A3B.

use super::{
    Architecture, BASE, Fill,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
};

pub(super) const QWEN3MOE: Architecture = Architecture {
    name: "qwen3moe",
    classes: &["Qwen3MoeForCausalLM"],
    defaults: &[model(
        "qwen3_moe",
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-6),
                count("num_key_value_heads", 4),
                count("intermediate_size", 6144),
                count("moe_intermediate_size", 768),
                default("num_experts", Fill::Given("num_local_experts")),
                count("num_experts", 128),
                count("num_experts_per_tok", 8),
            ],
            THETA,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, WIDTH],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION, HEAD_NORMS, EXPERTS],
    check: check_heads,
    ..BASE
};

/// The width of an expert.
pub(super) const WIDTH: &[Parameter] =
    &[parameters::count("expert_feed_forward_length", &["moe_intermediate_size"])];
