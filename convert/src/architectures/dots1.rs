//! dots.llm1: DeepSeek's experts, attention with norms of queries and keys.

use super::{
    Architecture, BASE, deepseek2,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
};

pub(super) const DOTS1: Architecture = Architecture {
    name: "dots1",
    classes: &["Dots1ForCausalLM"],
    defaults: &[model(
        "dots1",
        &[
            &[
                count("vocab_size", 152_064),
                count("max_position_embeddings", 2048),
                number("rms_norm_eps", 1e-6),
                count("num_key_value_heads", 32),
                count("first_k_dense_replace", 0),
                number("routed_scaling_factor", 1.0),
                flag("norm_topk_prob", false),
                flag(deepseek2::HAS_CORRECTION, true),
                count("n_group", 1),
                count("topk_group", 1),
            ],
            parameters::SIGMOID_SCORES,
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::count("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
            parameters::whole("expert_shared_count", &["n_shared_experts"]),
            parameters::number("expert_weights_scale", &["routed_scaling_factor"]),
            Parameter::Flag {
                key: "expert_weights_norm",
                from: "norm_topk_prob",
                otherwise: Some(false),
            },
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        HEAD_NORMS,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
    ],
    check: check_heads,
    needs_output: true,
    ..BASE
};
