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
            or_null("n_inner", Fill::Sum(&[Dim(&["4", "n_embd"])])),
            default(HEAD_KEY, Fill::Quotient("n_embd", "n_head")),
            default(ALL_KEY, Fill::Sum(&[WIDTH, Dim(&["2", HEAD_KEY])])),
        ]],
    )],
    parameters: &[&[
        parameters::required("context_length", &["n_positions"]),
        parameters::required("embedding_length", &["n_embd"]),
        Parameter::With(|config, keys| {
            keys.set_count("feed_forward_length", Dim(&["4", "n_embd"]).size(config)?);
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
        Rule::new("transformer.wpe", "position_embd", &[Dim(&["n_positions"]), WIDTH]),
        Rule::new("transformer.ln_f", "output_norm", &[WIDTH]).bias(),
        Rule::new("lm_head", "output", &[VOCAB, WIDTH]).head(),
        Rule::new("transformer.h.{}.ln_1", "blk.{}.attn_norm", &[WIDTH]).bias(),
        Rule::new("transformer.h.{}.attn.c_attn", "blk.{}.attn_qkv", &[Dim(&[ALL_KEY]), WIDTH])
            .bias(),
        Rule::new("transformer.h.{}.attn.c_proj", "blk.{}.attn_output", &[WIDTH, WIDTH]).bias(),
        Rule::new("transformer.h.{}.ln_2", "blk.{}.ffn_norm", &[WIDTH]).bias(),
        Rule::new("transformer.h.{}.mlp.c_fc", "blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
        Rule::new("transformer.h.{}.mlp.c_proj", "blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
    ]],
    check,
    ..BASE
};

const WIDTH: Dim = Dim(&["n_embd"]);
const INNER: Dim = Dim(&["n_inner"]);
const HEAD_KEY: &str = "size of a head";
const ALL_KEY: &str = "queries and one head of keys and of values";

fn check(config: &Config) -> crate::Result<()> {
    if config.flag("multi_query")? {
        return Ok(());
    }
    Err(config.wrong("multi_query", "false", "true: llama.cpp has no graph for the other"))
}
