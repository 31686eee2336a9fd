//! GPT-2: matrices stored by columns, learned positions.

use super::{
    Architecture, BASE, Fill,
    parameters::{self, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const GPT2: Architecture = Architecture {
    name: "gpt2",
    classes: &["GPT2LMHeadModel"],
    defaults: &[model(
        "gpt2",
        &[&[
            count("n_positions", 1024),
            default("n_ctx", Fill::Same("n_positions")),
            number("layer_norm_epsilon", 1e-5),
            flag("tie_word_embeddings", true),
            default("vocab_size", Fill::Whole(50_257)),
            or_null("n_inner", Fill::Size(Dim::Product(&[Dim::Number(4), Dim::Key("n_embd")]))),
        ]],
    )],
    parameters: &[&[
        parameters::required("block_count", &["n_layer"]),
        parameters::required("context_length", &["n_ctx"]),
        parameters::required("embedding_length", &["n_embd"]),
        Parameter::With(|config, keys| {
            keys.set_count(
                "feed_forward_length",
                Dim::Product(&[Dim::Number(4), Dim::Key("n_embd")]).size(config)?,
            );
            Ok(())
        }),
        parameters::required("attention.head_count", &["n_head"]),
        parameters::required_number("attention.layer_norm_epsilon", &["layer_norm_epsilon"]),
        Parameter::FileType,
    ]],
    prefix: "transformer.",
    tensors: &[&[
        Rule::new("transformer.wte", "token_embd", &[VOCAB, WIDTH]),
        Rule::new("transformer.wpe", "position_embd", &[Dim::Key("n_positions"), WIDTH]),
        Rule::new("transformer.ln_f", "output_norm", &[WIDTH]).bias(),
        Rule::new("lm_head", "output", &[VOCAB, WIDTH]).head(),
        Rule::new("transformer.h.{}.ln_1", "blk.{}.attn_norm", &[WIDTH]).bias(),
        Rule::new(
            "transformer.h.{}.attn.c_attn",
            "blk.{}.attn_qkv",
            &[WIDTH, Dim::Product(&[Dim::Number(3), Dim::Key("n_embd")])],
        )
        .transposed()
        .bias(),
        Rule::new("transformer.h.{}.attn.c_proj", "blk.{}.attn_output", &[WIDTH, WIDTH])
            .transposed()
            .bias(),
        Rule::new("transformer.h.{}.ln_2", "blk.{}.ffn_norm", &[WIDTH]).bias(),
        Rule::new("transformer.h.{}.mlp.c_fc", "blk.{}.ffn_up", &[WIDTH, INNER])
            .transposed()
            .bias(),
        Rule::new("transformer.h.{}.mlp.c_proj", "blk.{}.ffn_down", &[INNER, WIDTH])
            .transposed()
            .bias(),
    ]],
    ..BASE
};

const WIDTH: Dim = Dim::Key("n_embd");
const INNER: Dim = Dim::Key("n_inner");
