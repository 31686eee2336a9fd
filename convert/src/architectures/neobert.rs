//! NeoBERT: rotary positions, gates, norms by the root mean square before each part.

use super::{
    Architecture, BASE, encoder,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::tokenizer::Kind;

pub(super) const NEO_BERT: Architecture = Architecture {
    name: "neo-bert",
    classes: &["NeoBERT", "NeoBERTLMHead", "NeoBERTForSequenceClassification"],
    defaults: &[model(
        "neobert",
        &[&[count("max_length", 1024), number("norm_eps", 1e-6), count("intermediate_size", 3072)]],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        encoder::ENCODER,
        &[
            Parameter::Size("feed_forward_length", INNER),
            Parameter::Constant("rope.freq_base", Constant::Number(10_000.0)),
            Parameter::Constant("rope.scaling.type", Constant::Text("none")),
            parameters::required_number("attention.layer_norm_rms_epsilon", &["norm_eps"]),
            // The state of the first token stands for the text.
            Parameter::Constant("pooling_type", Constant::Count(2)),
        ],
    ],
    wrappers: &["model."],
    prefix: "",
    tensors: &[
        &[
            Rule::new("encoder", "token_embd", &[VOCAB, HIDDEN]),
            Rule::new("layer_norm", "enc.output_norm", &[HIDDEN]),
            Rule::new("transformer_encoder.{}.attention_norm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new(
                "transformer_encoder.{}.qkv",
                "blk.{}.attn_qkv",
                &[Dim::Product(&[Dim::Number(3), Dim::Key("hidden_size")]), HIDDEN],
            ),
            Rule::new("transformer_encoder.{}.wo", "blk.{}.attn_output", &[HIDDEN, HIDDEN]),
            Rule::new("transformer_encoder.{}.ffn_norm", "blk.{}.ffn_norm", &[HIDDEN]),
            Rule::new(
                "transformer_encoder.{}.ffn.w12",
                "blk.{}.ffn_up",
                &[Dim::Product(&[Dim::Number(2), INNER]), HIDDEN],
            ),
            Rule::new("transformer_encoder.{}.ffn.w3", "blk.{}.ffn_down", &[HIDDEN, INNER]),
            Rule::new("dense", "cls", &[HIDDEN, HIDDEN]).bias().optional(),
            Rule::left_out("decoder", "embeddings are made without the head that predicts words"),
        ],
        encoder::LAST_LAYER,
    ],
    tokenizers: &[Kind::WordPiece],
    ..BASE
};

const INNER: Dim = Dim::Derived("two thirds of intermediate_size", |config| {
    Ok(config.require("intermediate_size")? * 2 / 3)
});
