//! StarCoder2: biases everywhere, a plain feed-forward part.

use super::{Architecture, BASE, shared::*, tensors::Rule};

pub(super) const STARCODER2: Architecture = Architecture {
    name: "starcoder2",
    classes: &["Starcoder2ForCausalLM"],
    defaults: &[model(
        "starcoder2",
        &[
            &[
                count("max_position_embeddings", 4096),
                count("num_key_value_heads", 2),
                number("norm_epsilon", 1e-5),
                flag("use_bias", true),
                flag("tie_word_embeddings", true),
            ],
            THETA,
        ],
    )],
    tensors: &[
        EMBEDDING,
        &[
            Rule::new("model.norm", "output_norm", &[HIDDEN]).bias(),
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).bias(),
            Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
                .bias(),
            Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
                .bias_if("use_bias"),
            Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
                .bias_if("use_bias"),
            Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
                .bias_if("use_bias"),
            Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
                .bias_if("use_bias"),
            Rule::new("model.layers.{}.mlp.c_fc", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
                .bias_if("use_bias"),
            Rule::new("model.layers.{}.mlp.c_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
                .bias_if("use_bias"),
        ],
    ],
    check: check_heads,
    ..BASE
};
