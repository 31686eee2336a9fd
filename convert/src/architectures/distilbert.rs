//! DistilBERT: BERT with fewer layers, without kinds of segments, under names of its own.

use super::{
    Architecture, BASE, Fill, bert, encoder,
    parameters::{COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::tokenizer::Kind;

pub(super) const DISTILBERT: Architecture = Architecture {
    name: "bert",
    classes: &["DistilBertModel", "DistilBertForMaskedLM", "DistilBertForSequenceClassification"],
    defaults: &[model(
        "distilbert",
        &[&[
            count("vocab_size", 30_522),
            count("dim", 768),
            count("hidden_dim", 3072),
            count("n_layers", 6),
            count("n_heads", 12),
            count("max_position_embeddings", 512),
            default("hidden_size", Fill::Same("dim")),
        ]],
    )],
    parameters: &[
        &[Parameter::Constant("attention.layer_norm_epsilon", Constant::Number(1e-12))],
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        encoder::ENCODER,
    ],
    wrappers: &["distilbert."],
    endings: bert::ENDINGS,
    tensors: &[
        &[
            Rule::new("embeddings.word_embeddings", "token_embd", &[VOCAB, HIDDEN]),
            Rule::new(
                "embeddings.position_embeddings",
                "position_embd",
                &[Dim::Key("max_position_embeddings"), HIDDEN],
            ),
            Rule::new("embeddings.LayerNorm", "token_embd_norm", &[HIDDEN]).bias(),
            Rule::new("transformer.layer.{}.attention.q_lin", "blk.{}.attn_q", &[HIDDEN, HIDDEN])
                .bias(),
            Rule::new("transformer.layer.{}.attention.k_lin", "blk.{}.attn_k", &[HIDDEN, HIDDEN])
                .bias(),
            Rule::new("transformer.layer.{}.attention.v_lin", "blk.{}.attn_v", &[HIDDEN, HIDDEN])
                .bias(),
            Rule::new(
                "transformer.layer.{}.attention.out_lin",
                "blk.{}.attn_output",
                &[HIDDEN, HIDDEN],
            )
            .bias(),
            Rule::new("transformer.layer.{}.sa_layer_norm", "blk.{}.attn_output_norm", &[HIDDEN])
                .bias(),
            Rule::new("transformer.layer.{}.ffn.lin1", "blk.{}.ffn_up", &[WIDTH, HIDDEN]).bias(),
            Rule::new("transformer.layer.{}.ffn.lin2", "blk.{}.ffn_down", &[HIDDEN, WIDTH]).bias(),
            Rule::new(
                "transformer.layer.{}.output_layer_norm",
                "blk.{}.layer_output_norm",
                &[HIDDEN],
            )
            .bias(),
            Rule::new("pre_classifier", "cls", &[HIDDEN, HIDDEN])
                .bias()
                .when(|config| Ok(encoder::is_classifier(config))),
        ],
        encoder::LAST_LAYER,
        encoder::HEADS_LEFT_OUT,
    ],
    tokenizers: &[Kind::WordPiece],
    ..BASE
};

const WIDTH: Dim = Dim::Key("hidden_dim");
