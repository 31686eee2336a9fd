//! Snowflake Arctic: a dense part beside the experts of each layer.

use super::{
    Architecture, BASE, llama, mixtral,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS},
    shared::*,
    tensors::Rule,
};
use crate::tokenizer::Kind;

pub(super) const ARCTIC: Architecture = Architecture {
    name: "arctic",
    classes: &["ArcticForCausalLM"],
    defaults: &[model(
        "arctic",
        &[
            &[
                count("max_position_embeddings", 4096),
                number("rms_norm_eps", 1e-5),
                number("rope_theta", 1e6),
                count("num_local_experts", 8),
                count("num_experts_per_tok", 1),
            ],
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, llama::ROPE],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        &[
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new(
                "model.layers.{}.post_attention_layernorm",
                "blk.{}.ffn_norm_exps",
                &[HIDDEN],
            ),
            Rule::new("model.layers.{}.residual_layernorm", "blk.{}.ffn_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.residual_mlp.w1", "blk.{}.ffn_gate", &[HIDDEN, HIDDEN]),
            Rule::new("model.layers.{}.residual_mlp.w2", "blk.{}.ffn_down", &[HIDDEN, HIDDEN]),
            Rule::new("model.layers.{}.residual_mlp.w3", "blk.{}.ffn_up", &[HIDDEN, HIDDEN]),
        ],
        ROTARY_ATTENTION,
        mixtral::EXPERTS,
    ],
    check: check_heads,
    tokenizers: &[Kind::SentencePiece],
    ..BASE
};
