//! Phi-1, 1.5 and 2: a parallel block, biases, a part of each head rotated.

use super::{
    Architecture, BASE,
    parameters::{self, Constant, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const PHI2: Architecture = Architecture {
    name: "phi2",
    classes: &["PhiForCausalLM"],
    defaults: &[model(
        "phi",
        &[
            &[
                count("max_position_embeddings", 2048),
                number("layer_norm_eps", 1e-5),
                number("partial_rotary_factor", 0.5),
            ],
            SAME_HEADS,
        ],
    )],
    parameters: &[&[
        parameters::required("context_length", &["n_positions", "max_position_embeddings"]),
        parameters::required("embedding_length", &["hidden_size"]),
        Parameter::With(|config, keys| {
            keys.set_count(
                "feed_forward_length",
                Dim::Product(&[Dim::Number(4), Dim::Key("hidden_size")]).size(config)?,
            );
            Ok(())
        }),
        parameters::required("block_count", &["num_hidden_layers"]),
        parameters::required("attention.head_count", &["num_attention_heads"]),
        parameters::required("attention.head_count_kv", &["num_attention_heads"]),
        parameters::required_number(
            "attention.layer_norm_epsilon",
            &["layer_norm_epsilon", "layer_norm_eps"],
        ),
        ROTATED,
        Parameter::FileType,
        Parameter::Global("tokenizer.ggml.add_bos_token", Constant::Flag(false)),
    ]],
    tensors: &[&[
        Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
        Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).bias(),
        Rule::new("model.final_layernorm", "output_norm", &[HIDDEN]).bias(),
        Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).bias(),
        Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN]).bias(),
        Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN]).bias(),
        Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN]).bias(),
        Rule::new("model.layers.{}.self_attn.dense", "blk.{}.attn_output", &[HIDDEN, QUERY]).bias(),
        Rule::new("model.layers.{}.mlp.fc1", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN]).bias(),
        Rule::new("model.layers.{}.mlp.fc2", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD]).bias(),
    ]],
    ..BASE
};
