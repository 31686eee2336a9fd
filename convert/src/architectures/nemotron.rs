//! Nemotron and Minitron: norms that count from one, squared ReLU, half of each head rotated.

use super::{
    Architecture, BASE,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    rope::Rope,
    shared::*,
    tensors::Rule,
};
use crate::tokenizer::Kind;

pub(super) const NEMOTRON: Architecture = Architecture {
    name: "nemotron",
    classes: &["NemotronForCausalLM"],
    defaults: &[model(
        "nemotron",
        &[
            &[
                count("max_position_embeddings", 4096),
                number("norm_eps", 1e-5),
                number("partial_rotary_factor", 0.5),
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
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::required_number(
                "attention.layer_norm_epsilon",
                &["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"],
            ),
            ROTATED,
            Parameter::With(|config, keys| {
                let factor = match config.number("factor")? {
                    Some(factor) => Some(factor),
                    None => Rope::read(config)?.number("factor")?,
                };
                let kind = if factor.is_some() { "linear" } else { "none" };
                keys.set("rope.scaling.type", kind);
                if let Some(factor) = factor {
                    keys.set_number("rope.scaling.factor", factor);
                }
                Ok(())
            }),
        ],
    ],
    tensors: &[
        EMBEDDING,
        ATTENTION,
        &[
            Rule::new("model.norm", "output_norm", &[HIDDEN]).bias().plus_one(),
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN])
                .bias()
                .plus_one(),
            Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
                .bias()
                .plus_one(),
            Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
                .bias_if("mlp_bias"),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
                .bias_if("mlp_bias"),
        ],
    ],
    check: check_heads,
    tokenizers: &[Kind::SentencePiece],
    last: &[
        ("tokenizer.ggml.padding_token_id", Constant::Count(0)),
        ("tokenizer.ggml.unknown_token_id", Constant::Count(1)),
    ],
    needs_output: true,
    ..BASE
};
