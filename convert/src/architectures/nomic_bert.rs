//! Nomic BERT: BERT with rotary positions and gates, without biases.

use serde_json::Value;

use super::{
    Architecture, BASE, Fill, bert, encoder,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{Config, Result, json::describe, tokenizer::Kind};

pub(super) const NOMIC_BERT: Architecture = Architecture {
    name: "nomic-bert",
    classes: &["NomicBertModel"],
    defaults: &[model(
        "nomic_bert",
        &[&[count("type_vocab_size", 2), default("max_trained_positions", Fill::Whole(2048))]],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        encoder::ENCODER,
        &[Parameter::With(|config, keys| {
            keys.set_count("context_length", positions(config)?);
            Ok(())
        })],
    ],
    wrappers: &["bert."],
    endings: bert::ENDINGS,
    tensors: &[
        &[
            Rule::new("embeddings.word_embeddings", "token_embd", &[VOCAB, WIDTH]),
            Rule::new(
                "embeddings.token_type_embeddings",
                "token_types",
                &[Dim::Key("type_vocab_size"), WIDTH],
            ),
            Rule::new("emb_ln", "token_embd_norm", &[WIDTH]).bias(),
            Rule::new(
                "encoder.layers.{}.attn.Wqkv",
                "blk.{}.attn_qkv",
                &[Dim::Product(&[Dim::Number(3), Dim::Key("n_embd")]), WIDTH],
            ),
            Rule::new("encoder.layers.{}.attn.out_proj", "blk.{}.attn_output", &[WIDTH, WIDTH]),
            Rule::new("encoder.layers.{}.norm1", "blk.{}.attn_output_norm", &[WIDTH]).bias(),
            Rule::new("encoder.layers.{}.mlp.fc11", "blk.{}.ffn_up", &[INNER, WIDTH]),
            Rule::new("encoder.layers.{}.mlp.fc12", "blk.{}.ffn_gate", &[INNER, WIDTH]),
            Rule::new("encoder.layers.{}.mlp.fc2", "blk.{}.ffn_down", &[WIDTH, INNER]),
            Rule::new("encoder.layers.{}.norm2", "blk.{}.layer_output_norm", &[WIDTH]).bias(),
        ],
        encoder::HEADS_LEFT_OUT,
    ],
    check,
    tokenizers: &[Kind::WordPiece],
    ..BASE
};

const WIDTH: Dim = Dim::Key("n_embd");
const INNER: Dim = Dim::Key("n_inner");

/// Texts that the model was trained on have less positions than its code admits.
fn positions(config: &Config) -> Result<u64> {
    match (config.require("n_positions")?, config.require("max_trained_positions")?) {
        (8192, 2048) => Ok(2048),
        (2048, 2048) => Ok(512),
        (other, _) => Err(config.wrong("n_positions", &other.to_string(), "2048 or 8192")),
    }
}

/// The graph in llama.cpp is for the settings of the published models.
fn check(config: &Config) -> Result<()> {
    let expect = |key: &str, expected: Value, shown: &str| {
        let same = |value: &Value| match (value.as_f64(), expected.as_f64()) {
            (Some(found), Some(expected)) => found == expected,
            _ => *value == expected,
        };
        match config.get(key) {
            Some(value) if !same(value) => Err(config.wrong(key, &describe(value), shown)),
            _ => Ok(()),
        }
    };
    if config.whole("moe_every_n_layers")?.is_some_and(|every| every > 0) {
        let expected = "a model without experts (with experts it is nomic-bert-moe, which is not \
                        supported)";
        return Err(config.wrong("moe_every_n_layers", "set", expected));
    }
    expect("activation_function", "swiglu".into(), "swiglu")?;
    for key in ["causal", "qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "prenorm"] {
        expect(key, false.into(), "false")?;
    }
    expect("rotary_emb_interleaved", false.into(), "false")?;
    expect("rotary_emb_fraction", 1.0.into(), "1")
}
