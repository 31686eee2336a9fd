//! ModernBERT: rotary positions, a sliding window in most layers, gates, norms before each part.

use super::{
    Architecture, BASE, Fill, encoder,
    parameters::{self, COMMON, Constant, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::tokenizer::Kind;

pub(super) const MODERN_BERT: Architecture = Architecture {
    name: "modern-bert",
    classes: &["ModernBertModel", "ModernBertForMaskedLM", "ModernBertForSequenceClassification"],
    defaults: &[model(
        "modernbert",
        &[&[
            count("vocab_size", 50_368),
            count("hidden_size", 768),
            count("intermediate_size", 1152),
            count("num_hidden_layers", 22),
            count("num_attention_heads", 12),
            count("max_position_embeddings", 8192),
            count("local_attention", 128),
            number("norm_eps", 1e-5),
            // llama.cpp wants it under this name, which published files have besides.
            default("layer_norm_eps", Fill::Given("norm_eps")),
            number("global_rope_theta", 160_000.0),
            number("local_rope_theta", 10_000.0),
            default("hidden_activation", Fill::Text("gelu")),
            default("classifier_pooling", Fill::Text("cls")),
        ]],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        parameters::FILE_TYPE,
        encoder::ENCODER,
        &[
            parameters::required("attention.sliding_window", &["local_attention"]),
            parameters::count("attention.sliding_window_pattern", &["global_attn_every_n_layers"]),
            Parameter::Constant("rope.scaling.type", Constant::Text("none")),
            parameters::required("vocab_size", &["vocab_size"]),
            Parameter::With(|config, keys| {
                let activation = config.get("hidden_activation").and_then(|value| value.as_str());
                if let Some(activation) = activation.filter(|name| !name.is_empty()) {
                    keys.set("hidden_activation", activation);
                }
                Ok(())
            }),
            Parameter::Global("tokenizer.ggml.add_bos_token", Constant::Flag(true)),
            Parameter::Global("tokenizer.ggml.add_eos_token", Constant::Flag(true)),
            Parameter::Global("tokenizer.ggml.add_sep_token", Constant::Flag(true)),
        ],
    ],
    wrappers: &["model."],
    prefix: "",
    tensors: &[
        &[
            Rule::new("embeddings.tok_embeddings", "token_embd", &[VOCAB, HIDDEN]),
            Rule::new("embeddings.norm", "token_embd_norm", &[HIDDEN]).bias_if("norm_bias"),
            Rule::new("final_norm", "output_norm", &[HIDDEN]).bias_if("norm_bias"),
            // The embeddings come out of a norm already.
            Rule::new("layers.{}.attn_norm", "blk.{}.attn_norm", &[HIDDEN])
                .bias_if("norm_bias")
                .in_layers(|_, layer| layer > 0),
            Rule::new(
                "layers.{}.attn.Wqkv",
                "blk.{}.attn_qkv",
                &[Dim::Product(&[Dim::Number(3), Dim::Key("hidden_size")]), HIDDEN],
            )
            .bias_if("attention_bias"),
            Rule::new("layers.{}.attn.Wo", "blk.{}.attn_output", &[HIDDEN, HIDDEN])
                .bias_if("attention_bias"),
            Rule::new("layers.{}.mlp_norm", "blk.{}.ffn_norm", &[HIDDEN]).bias_if("norm_bias"),
            // Gate and up in one.
            Rule::new(
                "layers.{}.mlp.Wi",
                "blk.{}.ffn_up",
                &[Dim::Product(&[Dim::Number(2), Dim::Key("intermediate_size")]), HIDDEN],
            )
            .bias_if("mlp_bias"),
            Rule::new("layers.{}.mlp.Wo", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
                .bias_if("mlp_bias"),
            Rule::new("head.dense", "cls", &[HIDDEN, HIDDEN]).bias_if("classifier_bias").optional(),
            Rule::new("head.norm", "cls.norm", &[HIDDEN]).bias_if("norm_bias").optional(),
        ],
        encoder::LAST_LAYER,
        &[Rule::left_out("decoder", "embeddings are made without the head that predicts words")],
    ],
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};
