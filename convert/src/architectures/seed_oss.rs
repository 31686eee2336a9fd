//! Seed-OSS: biases on queries, keys and values, heads of a size of their own.

use super::{Architecture, BASE, shared::*, tensors::Rule};

pub(super) const SEED_OSS: Architecture = Architecture {
    name: "seed_oss",
    classes: &["SeedOssForCausalLM"],
    defaults: &[model(
        "seed_oss",
        &[
            &[
                count("max_position_embeddings", 524_288),
                number("rms_norm_eps", 1e-6),
                count("num_key_value_heads", 8),
                count("head_dim", 128),
                flag("attention_bias", true),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        GATED_MLP,
        &[
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new(
                "model.layers.{}.post_attention_layernorm",
                "blk.{}.post_attention_norm",
                &[HIDDEN],
            ),
            Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
                .bias_if("attention_bias"),
            Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
                .bias_if("attention_bias"),
            Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
                .bias_if("attention_bias"),
            Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
                .bias_if("attention_out_bias"),
        ],
    ],
    check: check_heads,
    ..BASE
};
