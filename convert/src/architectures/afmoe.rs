//! Trinity (AFMoE): norms on both sides, gated attention, experts after some dense layers.

use super::{
    Architecture, BASE, Fill, deepseek2, llama,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS},
    shared::*,
    tensors::Rule,
};

pub(super) const AFMOE: Architecture = Architecture {
    name: "afmoe",
    classes: &["AfmoeForCausalLM"],
    defaults: &[model(
        "afmoe",
        &[
            &[
                count("max_position_embeddings", 16_384),
                number("rms_norm_eps", 1e-5),
                count("num_dense_layers", 1),
                count("num_experts", 64),
                count("num_experts_per_tok", 6),
                count("num_shared_experts", 2),
                count("moe_intermediate_size", 1408),
                count("sliding_window", 1024),
                number("route_scale", 1.0),
                default("n_routed_experts", Fill::Same("num_experts")),
                default("n_shared_experts", Fill::Given("num_shared_experts")),
                default("first_k_dense_replace", Fill::Given("num_dense_layers")),
                flag(deepseek2::HAS_CORRECTION, true),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        llama::ROPE,
        &[
            parameters::whole("expert_shared_count", &["num_shared_experts"]),
            parameters::count("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::whole("leading_dense_block_count", &["num_dense_layers"]),
            parameters::flag("expert_weights_norm", "route_norm"),
            parameters::number("expert_weights_scale", &["route_scale"]),
            parameters::count("attention.sliding_window", &["sliding_window"]),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        &[
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new(
                "model.layers.{}.post_attention_layernorm",
                "blk.{}.post_attention_norm",
                &[HIDDEN],
            ),
            Rule::new("model.layers.{}.pre_mlp_layernorm", "blk.{}.ffn_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.post_mlp_layernorm", "blk.{}.post_ffw_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.self_attn.gate_proj", "blk.{}.attn_gate", &[QUERY, HIDDEN]),
        ],
        ATTENTION,
        HEAD_NORMS,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
    ],
    rename: |_, name| {
        let renamed = name
            .replace(".mlp.router.gate.", ".mlp.gate.")
            .replace(".mlp.expert_bias", ".mlp.gate.e_score_correction_bias");
        (renamed != name).then_some(renamed)
    },
    check: check_heads,
    computed: llama3_factors,
    tokenizers: llama::TOKENIZERS,
    special: llama::SPECIAL,
    ..BASE
};
