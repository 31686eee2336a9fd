//! StarCoder and SantaCoder: GPT-2 whose heads share keys and values, matrices stored by rows.

use super::{
    Architecture, BASE, Fill,
    parameters::{self, Constant, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::Config;

pub(super) const STARCODER: Architecture = Architecture {
    name: "starcoder",
    classes: &["GPTBigCodeForCausalLM"],
    defaults: &[model(
        "gpt_bigcode",
        &[&[
            count("vocab_size", 50_257),
            count("n_positions", 1024),
            number("layer_norm_epsilon", 1e-5),
            flag("tie_word_embeddings", true),
            flag("multi_query", true),
            or_null("n_inner", Fill::Size(Dim::Product(&[Dim::Number(4), Dim::Key("n_embd")]))),
        ]],
    )],
    parameters: &[&[
        parameters::required("context_length", &["n_positions"]),
        parameters::required("embedding_length", &["n_embd"]),
        Parameter::With(|config, keys| {
            keys.set_count(
                "feed_forward_length",
                Dim::Product(&[Dim::Number(4), Dim::Key("n_embd")]).size(config)?,
            );
            Ok(())
        }),
        parameters::required("block_count", &["n_layer"]),
        parameters::required("attention.head_count", &["n_head"]),
        Parameter::Constant("attention.head_count_kv", Constant::Count(1)),
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
            &[QUERIES_AND_ONE_HEAD, WIDTH],
        )
        .bias(),
        Rule::new("transformer.h.{}.attn.c_proj", "blk.{}.attn_output", &[WIDTH, WIDTH]).bias(),
        Rule::new("transformer.h.{}.ln_2", "blk.{}.ffn_norm", &[WIDTH]).bias(),
        Rule::new("transformer.h.{}.mlp.c_fc", "blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
        Rule::new("transformer.h.{}.mlp.c_proj", "blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
    ]],
    check,
    ..BASE
};

const WIDTH: Dim = Dim::Key("n_embd");
const INNER: Dim = Dim::Key("n_inner");
const QUERIES_AND_ONE_HEAD: Dim = Dim::Sum(&[
    WIDTH,
    Dim::Product(&[
        TWO,
        Dim::Derived("size of a head", |config| config.quotient("n_embd", "n_head")),
    ]),
]);

fn check(config: &Config) -> crate::Result<()> {
    if config.flag("multi_query")? {
        return Ok(());
    }
    Err(config.wrong("multi_query", "false", "true: llama.cpp has no graph for the other"))
}
