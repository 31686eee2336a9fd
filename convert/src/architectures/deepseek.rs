//! DeepSeek MoE, the first generation: Llama's attention, experts after some dense layers.

use super::{
    Architecture, BASE, deepseek2,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
};

pub(super) const DEEPSEEK: Architecture = Architecture {
    name: "deepseek",
    classes: &["DeepseekForCausalLM"],
    defaults: &[model(
        "deepseek",
        &[
            &[
                count("max_position_embeddings", 2048),
                number("rms_norm_eps", 1e-6),
                count("first_k_dense_replace", 0),
                count("n_shared_experts", 2),
                count("moe_intermediate_size", 1407),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            Parameter::Size("rope.dimension_count", HEAD),
            Parameter::Constant("rope.scaling.type", Constant::Text("none")),
            parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            Parameter::Constant("expert_weights_scale", Constant::Number(1.0)),
            parameters::required("expert_count", &["n_routed_experts"]),
            parameters::required("expert_shared_count", &["n_shared_experts"]),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ROTARY_ATTENTION,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
    ],
    check: check_heads,
    ..BASE
};
