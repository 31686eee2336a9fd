//! Jais 2: norms by mean and variance, biases everywhere, no gate.

use super::{
    Architecture, BASE, llama,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS},
    shared::*,
    tensors::Rule,
};

pub(super) const JAIS2: Architecture = Architecture {
    name: "jais2",
    classes: &["Jais2ForCausalLM"],
    defaults: &[model(
        "jais2",
        &[
            &[
                count("max_position_embeddings", 8192),
                number("layer_norm_eps", 1e-5),
                flag("attention_bias", true),
                flag("mlp_bias", true),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, llama::WHOLE_HEAD],
    tensors: &[
        EMBEDDING,
        &[
            Rule::new("model.norm", "output_norm", &[HIDDEN]).bias(),
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).bias(),
            Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
                .bias(),
            Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
                .bias_if("mlp_bias"),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
                .bias_if("mlp_bias"),
        ],
        ATTENTION,
    ],
    check: check_heads,
    ..BASE
};
