//! Jina's embedding models of the second generation: BERT with ALiBi in place of positions, and gates.

use super::{
    Architecture, bert, encoder,
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const JINA_BERT_V2: Architecture = Architecture {
    name: "jina-bert-v2",
    classes: &["JinaBertModel", "JinaBertForMaskedLM"],
    parameters: bert::PARAMETERS,
    tensors: &[bert::EMBEDDINGS, ATTENTION, GATED, PLAIN, encoder::HEADS_LEFT_OUT],
    ..bert::BERT
};

const ATTENTION: &[Rule] = &[
    Rule::new("encoder.layer.{}.attention.self.query", "blk.{}.attn_q", &[HIDDEN, HIDDEN]).bias(),
    Rule::new("encoder.layer.{}.attention.self.key", "blk.{}.attn_k", &[HIDDEN, HIDDEN]).bias(),
    Rule::new("encoder.layer.{}.attention.self.value", "blk.{}.attn_v", &[HIDDEN, HIDDEN]).bias(),
    // The model for code has norms of queries and keys.
    Rule::new("encoder.layer.{}.attention.self.layer_norm_q", "blk.{}.attn_q_norm", &[HIDDEN])
        .maybe_bias()
        .optional(),
    Rule::new("encoder.layer.{}.attention.self.layer_norm_k", "blk.{}.attn_k_norm", &[HIDDEN])
        .maybe_bias()
        .optional(),
    Rule::new("encoder.layer.{}.attention.output.dense", "blk.{}.attn_output", &[HIDDEN, HIDDEN])
        .bias(),
    Rule::new("encoder.layer.{}.attention.output.LayerNorm", "blk.{}.attn_output_norm", &[HIDDEN])
        .bias(),
];

const TWICE: Dim = Dim::Product(&[Dim::Number(2), Dim::Key("intermediate_size")]);

/// As most have them.
const GATED: &[Rule] = &[
    Rule::new("encoder.layer.{}.mlp.gated_layers", "blk.{}.ffn_up", &[TWICE, HIDDEN])
        .maybe_bias()
        .form("names of the first models"),
    Rule::new("encoder.layer.{}.mlp.wo", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .bias()
        .form("names of the first models"),
    Rule::new("encoder.layer.{}.mlp.layernorm", "blk.{}.layer_output_norm", &[HIDDEN])
        .bias()
        .form("names of the first models"),
];

/// As the model for code has them.
const PLAIN: &[Rule] = &[
    Rule::new("encoder.layer.{}.layer_norm_1", "blk.{}.attn_norm_2", &[HIDDEN])
        .bias()
        .optional()
        .form("names of the model for code"),
    Rule::new("encoder.layer.{}.layer_norm_2", "blk.{}.layer_output_norm", &[HIDDEN])
        .bias()
        .form("names of the model for code"),
    Rule::new("encoder.layer.{}.mlp.up_gated_layer", "blk.{}.ffn_up", &[TWICE, HIDDEN])
        .maybe_bias()
        .form("names of the model for code"),
    Rule::new("encoder.layer.{}.mlp.down_layer", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .bias()
        .form("names of the model for code"),
];
