//! Refact: positions by ALiBi, one head of keys and values, a gate.

use super::{
    Architecture, BASE,
    parameters::{self, Constant, FILE_TYPE, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::tokenizer::Kind;

pub(super) const REFACT: Architecture = Architecture {
    name: "refact",
    classes: &["GPTRefactForCausalLM"],
    defaults: &[model(
        "gpt_refact",
        &[&[count("n_positions", 4096), number("layer_norm_epsilon", 1e-5)]],
    )],
    parameters: &[
        &[
            parameters::required("context_length", &["n_positions"]),
            parameters::required("embedding_length", &["n_embd"]),
            Parameter::Size("feed_forward_length", INNER),
            parameters::required("block_count", super::tensors::LAYERS),
            parameters::required("attention.head_count", &["n_head"]),
            Parameter::Constant("attention.head_count_kv", Constant::Count(1)),
            parameters::required_number(
                "attention.layer_norm_rms_epsilon",
                &["layer_norm_epsilon"],
            ),
        ],
        FILE_TYPE,
    ],
    prefix: "transformer.",
    tensors: &[&[
        Rule::new("transformer.wte", "token_embd", &[VOCAB, WIDTH]),
        Rule::new("lm_head", "output", &[VOCAB, WIDTH]).head(),
        Rule::new("transformer.ln_f", "output_norm", &[WIDTH]),
        Rule::new("transformer.h.{}.ln_1", "blk.{}.attn_norm", &[WIDTH]),
        Rule::new("transformer.h.{}.attn.q", "blk.{}.attn_q", &[WIDTH, WIDTH]),
        Rule::split(
            "transformer.h.{}.attn.kv",
            halves!(0, "blk.{}.attn_k", "blk.{}.attn_v", ONE_HEAD),
            &[Dim::Product(&[Dim::Number(2), HEAD]), WIDTH],
        ),
        Rule::new("transformer.h.{}.attn.c_proj", "blk.{}.attn_output", &[WIDTH, WIDTH]),
        Rule::new("transformer.h.{}.ln_2", "blk.{}.ffn_norm", &[WIDTH]),
        Rule::split(
            "transformer.h.{}.mlp.gate_up_proj",
            halves!(0, "blk.{}.ffn_gate", "blk.{}.ffn_up", INNER),
            &[Dim::Product(&[Dim::Number(2), INNER]), WIDTH],
        ),
        Rule::new("transformer.h.{}.mlp.c_proj", "blk.{}.ffn_down", &[WIDTH, INNER]),
    ]],
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};

const HEAD: Dim = Dim::Derived("values of a head", |config| config.quotient("n_embd", "n_head"));
const WIDTH: Dim = Dim::Key("n_embd");
/// Two thirds of four times the width, up to a multiple of 256.
const INNER: Dim = Dim::Derived("width of the feed-forward part", |config| {
    let inner = Dim::Product(&[Dim::Number(8), WIDTH]).size(config)? / 3;
    Ok(inner.div_ceil(256).saturating_mul(256))
});
const ONE_HEAD: Dim = HEAD;
