//! CodeShell: GPT-2's names, rotary positions, fewer heads of keys and values.

use super::{
    Architecture, BASE,
    parameters::{self, Constant, FILE_TYPE, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const CODESHELL: Architecture = Architecture {
    name: "codeshell",
    classes: &["CodeShellForCausalLM"],
    defaults: &[model(
        "codeshell",
        &[&[
            count("n_positions", 8192),
            count("num_query_groups", 8),
            number("layer_norm_epsilon", 1e-5),
        ]],
    )],
    parameters: &[
        &[
            parameters::required("context_length", &["n_positions"]),
            parameters::required("embedding_length", &["n_embd"]),
            Parameter::With(|config, keys| {
                keys.set_count(
                    "feed_forward_length",
                    Dim::Product(&[Dim::Number(4), Dim::Key("n_embd")]).size(config)?,
                );
                Ok(())
            }),
            parameters::required("block_count", super::tensors::LAYERS),
            parameters::required("attention.head_count", &["n_head"]),
            parameters::required("attention.head_count_kv", &["num_query_groups"]),
            parameters::required_number("attention.layer_norm_epsilon", &["layer_norm_epsilon"]),
        ],
        FILE_TYPE,
        &[
            Parameter::Constant("rope.freq_base", Constant::Number(10_000.0)),
            Parameter::Constant("rope.scaling.type", Constant::Text("linear")),
            Parameter::Constant("rope.scaling.factor", Constant::Number(1.0)),
        ],
    ],
    prefix: "transformer.",
    tensors: &[&[
        Rule::new("transformer.wte", "token_embd", &[VOCAB, WIDTH]),
        Rule::new("lm_head", "output", &[VOCAB, WIDTH]).head(),
        Rule::new("transformer.ln_f", "output_norm", &[WIDTH]).bias(),
        Rule::new("transformer.h.{}.ln_1", "blk.{}.attn_norm", &[WIDTH]).bias(),
        Rule::new("transformer.h.{}.attn.c_attn", "blk.{}.attn_qkv", &[ROWS, WIDTH]).bias(),
        Rule::new("transformer.h.{}.attn.c_proj", "blk.{}.attn_output", &[WIDTH, WIDTH]).bias(),
        Rule::new("transformer.h.{}.ln_2", "blk.{}.ffn_norm", &[WIDTH]).bias(),
        Rule::new("transformer.h.{}.mlp.c_fc", "blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
        Rule::new("transformer.h.{}.mlp.c_proj", "blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
    ]],
    needs_output: true,
    ..BASE
};

const HEAD: Dim = Dim::Derived("values of a head", |config| config.quotient("n_embd", "n_head"));
const ROWS: Dim = Dim::Sum(&[WIDTH, KEYS, KEYS]);
const WIDTH: Dim = Dim::Key("n_embd");
const INNER: Dim = Dim::Product(&[Dim::Number(4), Dim::Key("n_embd")]);
const KEYS: Dim = Dim::Product(&[Dim::Key("num_query_groups"), HEAD]);
