//! BERT: learned positions, kinds of segments, norms after each part.

use super::{
    Architecture, BASE, encoder,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::tokenizer::Kind;

pub(super) const BERT: Architecture = Architecture {
    name: "bert",
    classes: &["BertModel", "BertForMaskedLM", "BertForSequenceClassification"],
    defaults: &[model("bert", &[SIZES, &[count("vocab_size", 30_522)]])],
    parameters: PARAMETERS,
    wrappers: &["bert."],
    endings: ENDINGS,
    tensors: &[EMBEDDINGS, POSITIONS, LAYERS, encoder::ONE_LAYER, encoder::HEADS_LEFT_OUT],
    tokenizers: &[Kind::WordPiece],
    ..BASE
};

pub(super) const PARAMETERS: &[&[Parameter]] = &[COMMON, KEY_LENGTHS, FILE_TYPE, encoder::ENCODER];

/// Sizes of the base model, which is what its class assumes.
pub(super) const SIZES: &[super::Default] = &[
    count("hidden_size", 768),
    count("num_hidden_layers", 12),
    count("num_attention_heads", 12),
    count("intermediate_size", 3072),
    count("max_position_embeddings", 512),
    count("type_vocab_size", 2),
    number("layer_norm_eps", 1e-12),
];

/// Norms of files that TensorFlow's were made into.
pub(super) const ENDINGS: &[(&str, &str)] = &[(".gamma", ".weight"), (".beta", ".bias")];

pub(super) const EMBEDDINGS: &[Rule] = &[
    Rule::new("embeddings.word_embeddings", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new(
        "embeddings.token_type_embeddings",
        "token_types",
        &[Dim::Key("type_vocab_size"), HIDDEN],
    ),
    Rule::new("embeddings.LayerNorm", "token_embd_norm", &[HIDDEN]).bias(),
];

const POSITIONS: &[Rule] = &[Rule::new(
    "embeddings.position_embeddings",
    "position_embd",
    &[Dim::Key("max_position_embeddings"), HIDDEN],
)];

pub(super) const LAYERS: &[Rule] = &[
    Rule::new("encoder.layer.{}.attention.self.query", "blk.{}.attn_q", &[HIDDEN, HIDDEN]).bias(),
    Rule::new("encoder.layer.{}.attention.self.key", "blk.{}.attn_k", &[HIDDEN, HIDDEN]).bias(),
    Rule::new("encoder.layer.{}.attention.self.value", "blk.{}.attn_v", &[HIDDEN, HIDDEN]).bias(),
    Rule::new("encoder.layer.{}.attention.output.dense", "blk.{}.attn_output", &[HIDDEN, HIDDEN])
        .bias(),
    Rule::new("encoder.layer.{}.attention.output.LayerNorm", "blk.{}.attn_output_norm", &[HIDDEN])
        .bias(),
    Rule::new("encoder.layer.{}.intermediate.dense", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
        .bias(),
    Rule::new("encoder.layer.{}.output.dense", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD]).bias(),
    Rule::new("encoder.layer.{}.output.LayerNorm", "blk.{}.layer_output_norm", &[HIDDEN]).bias(),
];
