//! StableLM 3B, 2 and Zephyr: norms with biases, a part of each head rotated.

use super::{
    Architecture, BASE,
    parameters::{self, Parameter},
    shared::*,
    tensors::Rule,
};

pub(super) const STABLELM: Architecture = Architecture {
    name: "stablelm",
    classes: &["StableLmForCausalLM", "StableLMEpochForCausalLM", "LlavaStableLMEpochForCausalLM"],
    defaults: &[model(
        "stablelm",
        &[
            &[
                count("max_position_embeddings", 4096),
                count("num_key_value_heads", 32),
                number("layer_norm_eps", 1e-5),
                number("partial_rotary_factor", 0.25),
                flag("use_parallel_residual", false),
            ],
            THETA,
        ],
    )],
    parameters: &[&[
        parameters::required("context_length", &["max_position_embeddings"]),
        parameters::required("embedding_length", &["hidden_size"]),
        parameters::required("block_count", &["num_hidden_layers"]),
        parameters::required("feed_forward_length", &["intermediate_size"]),
        ROTATED_OF_HEAD,
        parameters::required("attention.head_count", &["num_attention_heads"]),
        parameters::required("attention.head_count_kv", &["num_key_value_heads"]),
        parameters::flag("use_parallel_residual", "use_parallel_residual"),
        parameters::required_number(
            "attention.layer_norm_epsilon",
            &["layer_norm_eps", "norm_eps"],
        ),
        Parameter::FileType,
    ]],
    tensors: &[
        EMBEDDING,
        GATED_MLP,
        &[
            Rule::new("model.norm", "output_norm", &[HIDDEN]).bias(),
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).bias(),
            // Models whose parts are parallel have one norm for both.
            Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
                .maybe_bias()
                .unless("use_parallel_residual"),
            Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
                .bias_if("use_qkv_bias"),
            Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
                .bias_if("use_qkv_bias"),
            Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
                .bias_if("use_qkv_bias"),
            Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY]),
            Rule::new(
                "model.layers.{}.self_attn.q_layernorm.norms.{}",
                "blk.{}.attn_q_norm",
                &[HEAD],
            )
            .stacked("num_attention_heads")
            .if_true("qk_layernorm"),
            Rule::new(
                "model.layers.{}.self_attn.k_layernorm.norms.{}",
                "blk.{}.attn_k_norm",
                &[HEAD],
            )
            .stacked("num_key_value_heads")
            .if_true("qk_layernorm"),
        ],
    ],
    check: check_heads,
    needs_output: true,
    ..BASE
};
