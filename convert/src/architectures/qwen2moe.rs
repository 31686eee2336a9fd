//! Qwen2 with experts: Qwen1.5-MoE and Qwen2-57B-A14B.

use super::{
    Architecture, BASE, Fill,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const QWEN2MOE: Architecture = Architecture {
    name: "qwen2moe",
    classes: &["Qwen2MoeForCausalLM"],
    defaults: &[model(
        "qwen2_moe",
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-6),
                count("num_key_value_heads", 16),
                count("intermediate_size", 5632),
                count("moe_intermediate_size", 1408),
                count("shared_expert_intermediate_size", 5632),
                default("num_experts", Fill::Given("num_local_experts")),
                count("num_experts", 60),
                count("num_experts_per_tok", 4),
                flag("qkv_bias", true),
            ],
            THETA,
            SAME_HEADS,
            HEAD_SIZE,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[parameters::count("expert_feed_forward_length", &["moe_intermediate_size"])],
        SHARED_WIDTH,
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION_BIASED, SHARED, EXPERTS],
    check: check_heads,
    needs_output: true,
    ..BASE
};

/// The width of the expert that all tokens pass.
pub(super) const SHARED_WIDTH: &[Parameter] =
    &[parameters::count("expert_shared_feed_forward_length", &["shared_expert_intermediate_size"])];

const ATTENTION_BIASED: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .bias_if("qkv_bias"),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .bias_if("qkv_bias"),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .bias_if("qkv_bias"),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY]),
];

const WIDTH: Dim = Dim(&["shared_expert_intermediate_size"]);

pub(super) const SHARED: &[Rule] = &[
    Rule::new(
        "model.layers.{}.mlp.shared_expert_gate",
        "blk.{}.ffn_gate_inp_shexp",
        &[Dim(&["1"]), HIDDEN],
    ),
    Rule::new(
        "model.layers.{}.mlp.shared_expert.gate_proj",
        "blk.{}.ffn_gate_shexp",
        &[WIDTH, HIDDEN],
    ),
    Rule::new("model.layers.{}.mlp.shared_expert.up_proj", "blk.{}.ffn_up_shexp", &[WIDTH, HIDDEN]),
    Rule::new(
        "model.layers.{}.mlp.shared_expert.down_proj",
        "blk.{}.ffn_down_shexp",
        &[HIDDEN, WIDTH],
    ),
];
