//! GPT-NeoX and Pythia: queries, keys and values of each head together, all heads apart in GGUF.

use super::{
    Architecture, BASE,
    parameters::{self, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};

pub(super) const GPTNEOX: Architecture = Architecture {
    name: "gptneox",
    classes: &["GPTNeoXForCausalLM"],
    defaults: &[model(
        "gpt_neox",
        &[&[
            count("max_position_embeddings", 2048),
            number("layer_norm_eps", 1e-5),
            number("rotary_pct", 0.25),
            flag("attention_bias", true),
        ]],
    )],
    parameters: &[&[
        parameters::required("context_length", &["max_position_embeddings"]),
        parameters::required("embedding_length", &["hidden_size"]),
        parameters::required("block_count", &["num_hidden_layers"]),
        parameters::required("feed_forward_length", &["intermediate_size"]),
        Parameter::With(|config, keys| {
            let share = super::rope::Rope::read(config)?.partial()?;
            let share = share.or(config.number("rotary_pct")?).unwrap_or(0.25);
            let head = config.require("hidden_size")? / config.require("num_attention_heads")?;
            keys.set_count("rope.dimension_count", (share * head as f64) as u64);
            Ok(())
        }),
        parameters::required("attention.head_count", &["num_attention_heads"]),
        Parameter::Flag {
            key: "use_parallel_residual",
            from: "use_parallel_residual",
            otherwise: Some(true),
        },
        parameters::required_number("attention.layer_norm_epsilon", &["layer_norm_eps"]),
    ]],
    prefix: "gpt_neox.",
    tensors: &[&[
        Rule::new("gpt_neox.embed_in", "token_embd", &[VOCAB, HIDDEN]),
        Rule::new("embed_out", "output", &[VOCAB, HIDDEN]).head(),
        Rule::new("gpt_neox.final_layer_norm", "output_norm", &[HIDDEN]).bias(),
        Rule::new("gpt_neox.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).bias(),
        Rule::new("gpt_neox.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
            .bias(),
        Rule::new(
            "gpt_neox.layers.{}.attention.query_key_value",
            "blk.{}.attn_qkv",
            &[Dim::Product(&[Dim::Number(3), Dim::Key("hidden_size")]), HIDDEN],
        )
        .parts(&[&[Step::Unfold(0, &[HEADS, Dim::Number(3)]), Step::Swap(0, 1), Step::Fold(0, 3)]])
        .bias_if("attention_bias"),
        Rule::new("gpt_neox.layers.{}.attention.dense", "blk.{}.attn_output", &[HIDDEN, HIDDEN])
            .bias_if("attention_bias"),
        Rule::new("gpt_neox.layers.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
            .bias(),
        Rule::new(
            "gpt_neox.layers.{}.mlp.dense_4h_to_h",
            "blk.{}.ffn_down",
            &[HIDDEN, FEED_FORWARD],
        )
        .bias(),
    ]],
    needs_output: true,
    ..BASE
};
