//! Kimi Linear: delta attention with a state in most layers, latent attention in the others.

use super::{
    Architecture, BASE, Fill, deepseek2, kda,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const KIMI_LINEAR: Architecture = Architecture {
    name: "kimi-linear",
    classes: &["KimiLinearForCausalLM", "KimiLinearModel"],
    defaults: &[model(
        "kimi_linear",
        &[
            &[
                count("model_max_length", 1_048_576),
                number("rms_norm_eps", 1e-5),
                count("first_k_dense_replace", 1),
                count("num_shared_experts", 1),
                count("num_experts_per_token", 8),
                count("topk_group", 1),
                number("routed_scaling_factor", 2.446),
                default("n_routed_experts", Fill::Same("num_experts")),
                default("n_shared_experts", Fill::Given("num_shared_experts")),
                flag(deepseek2::HAS_CORRECTION, true),
            ],
            parameters::SIGMOID_SCORES,
            LATENT,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[parameters::required("vocab_size", &["vocab_size"]), kda::KEY_HEADS_BY_LAYER],
        kda::SIZES,
        kda::RANKS,
        &[
            kda::LATENT_LENGTHS,
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::required("expert_shared_count", &["num_shared_experts"]),
            parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
            parameters::required_number("expert_weights_scale", &["routed_scaling_factor"]),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        kda::ATTENTION,
        kda::CONVOLUTIONS,
        kda::STATE,
        kda::DECAY,
        kda::GATE,
        &[Rule::exact(
            "model.layers.{}.self_attn.A_log",
            "blk.{}.ssm_a",
            &[Dim::Number(1), Dim::Number(1), HEADS, Dim::Number(1)],
        )
        .negative_exp()
        .in_layers(kda::has_state)],
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
    ],
    rename: |_, name| {
        let renamed = name
            .replace(".block_sparse_moe.", ".mlp.")
            .replace(".w1.", ".gate_proj.")
            .replace(".w2.", ".down_proj.")
            .replace(".w3.", ".up_proj.");
        (renamed != name).then_some(renamed)
    },
    needs_output: true,
    ..BASE
};

pub(super) const LATENT: &[super::Default] = &[
    count("kv_lora_rank", 512),
    count("qk_nope_head_dim", 128),
    count("qk_rope_head_dim", 64),
    count("v_head_dim", 128),
];
