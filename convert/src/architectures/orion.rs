//! Orion: Llama's graph with norms by mean and variance, whose config.json says otherwise.

use super::{
    Architecture, BASE, baichuan,
    parameters::{self, FILE_TYPE},
    shared::*,
    tensors::Rule,
};
use crate::tokenizer::Kind;

pub(super) const ORION: Architecture = Architecture {
    name: "orion",
    classes: &["OrionForCausalLM"],
    defaults: &[model(
        "orion",
        &[&[count("max_position_embeddings", 4096), number("rms_norm_eps", 1e-5)], SAME_HEADS],
    )],
    parameters: &[
        FILE_TYPE,
        baichuan::LAYOUT,
        &[
            parameters::required(
                "context_length",
                &["max_sequence_length", "max_position_embeddings", "model_max_length"],
            ),
            parameters::required("embedding_length", &["hidden_size"]),
            parameters::required("block_count", super::tensors::LAYERS),
            parameters::required("feed_forward_length", &["intermediate_size"]),
            parameters::required("attention.head_count", &["num_attention_heads"]),
            parameters::required("attention.head_count_kv", &["num_key_value_heads"]),
            parameters::required_number("attention.layer_norm_epsilon", &["rms_norm_eps"]),
        ],
    ],
    tensors: &[
        EMBEDDING,
        &[
            Rule::new("model.norm", "output_norm", &[HIDDEN]).bias(),
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).bias(),
            Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
                .bias(),
        ],
        ATTENTION,
        GATED_MLP,
    ],
    needs_output: true,
    check: check_heads,
    tokenizers: &[Kind::SentencePiece],
    ..BASE
};
