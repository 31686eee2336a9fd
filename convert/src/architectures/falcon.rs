//! Falcon: groups of query heads, each with its key and value head, taken apart.

use crate::{Config, Result};

use super::{
    Architecture, BASE, Fill,
    parameters::{self, Constant, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};

pub(super) const FALCON: Architecture = Architecture {
    name: "falcon",
    classes: &["FalconForCausalLM", "RWForCausalLM"],
    defaults: &[model(
        "falcon",
        &[&[
            default("hidden_size", Fill::Given("n_embed")),
            default("num_hidden_layers", Fill::Given("n_layer")),
            default("num_attention_heads", Fill::Given("n_head")),
            number("layer_norm_epsilon", 1e-5),
            default(
                "ffn_hidden_size",
                Fill::Size(Dim::Product(&[Dim::Number(4), Dim::Key("hidden_size")])),
            ),
            flag("tie_word_embeddings", true),
        ]],
    )],
    parameters: &[&[
        Parameter::With(|config, keys| {
            // Of the first models; the reference converter has it for all. Falcon 2 says 8192.
            let mut context = 2048;
            if !config.like_reference()
                && let Some(longest) = config.positive("max_position_embeddings")?
            {
                context = longest;
            }
            keys.set_count("context_length", context);
            Ok(())
        }),
        Parameter::Constant("tensor_data_layout", Constant::Text("jploski")),
        parameters::required("embedding_length", &["hidden_size"]),
        Parameter::With(|config, keys| {
            keys.set_count("feed_forward_length", INNER.size(config)?);
            Ok(())
        }),
        parameters::required("block_count", &["num_hidden_layers"]),
        parameters::required("attention.head_count", &["num_attention_heads"]),
        Parameter::With(|config, keys| {
            keys.set_count("attention.head_count_kv", GROUPS.size(config)?);
            Ok(())
        }),
        parameters::required_number("attention.layer_norm_epsilon", &["layer_norm_epsilon"]),
        Parameter::FileType,
    ]],
    prefix: "transformer.",
    tensors: &[&[
        Rule::new("transformer.word_embeddings", "token_embd", &[VOCAB, HIDDEN]),
        Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head(),
        Rule::new("transformer.ln_f", "output_norm", &[HIDDEN]).bias(),
        // One norm for both parts of a layer, or one for each.
        Rule::new("transformer.h.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN])
            .bias()
            .form("one norm"),
        Rule::new("transformer.h.{}.ln_mlp", "blk.{}.attn_norm", &[HIDDEN])
            .bias()
            .form("two norms"),
        Rule::new("transformer.h.{}.ln_attn", "blk.{}.attn_norm_2", &[HIDDEN])
            .bias()
            .form("two norms"),
        Rule::new(
            "transformer.h.{}.self_attention.query_key_value",
            "blk.{}.attn_qkv",
            &[Dim::Product(&[GROUPS, HEADS_OF_GROUP, HEAD]), HIDDEN],
        )
        .parts(&[
            &[BY_GROUP, Step::Narrow { axis: 1, from: None, len: QUERIES }, Step::Fold(0, 3)],
            &[
                BY_GROUP,
                Step::Narrow { axis: 1, from: Some(QUERIES), len: Dim::Number(1) },
                Step::Fold(0, 3),
            ],
            &[
                BY_GROUP,
                Step::Narrow { axis: 1, from: Some(QUERIES), len: TWO },
                Step::Narrow { axis: 1, from: Some(Dim::Number(1)), len: Dim::Number(1) },
                Step::Fold(0, 3),
            ],
        ])
        .maybe_bias(),
        Rule::new("transformer.h.{}.self_attention.dense", "blk.{}.attn_output", &[HIDDEN, HIDDEN])
            .maybe_bias(),
        Rule::new("transformer.h.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up", &[INNER, HIDDEN])
            .maybe_bias(),
        Rule::new("transformer.h.{}.mlp.dense_4h_to_h", "blk.{}.ffn_down", &[HIDDEN, INNER])
            .maybe_bias(),
    ]],
    check: |config| {
        // What llama.cpp's graph of Falcon does otherwise.
        for (key, graph) in [("alibi", false), ("parallel_attn", true)] {
            // Falcon-40B's layers are parallel, whatever this key says.
            let is_read = key == "alibi" || !config.flag("new_decoder_architecture")?;
            if config.get(key).is_some() && config.flag(key)? != graph && is_read {
                let expected = format!("{graph}, the only form that llama.cpp computes");
                return Err(config.wrong(key, &(!graph).to_string(), &expected));
            }
        }
        Ok(())
    },
    ..BASE
};

/// The number of key and value heads. Falcon-7B has one for all queries, whatever `num_kv_heads`
/// says, unless `multi_query` is false. The original files of Falcon-40B say `n_head_kv` alone.
fn groups(config: &Config) -> Result<u64> {
    let stated = match config.positive("num_kv_heads")? {
        Some(stated) => Some(stated),
        None => config.positive("n_head_kv")?,
    };
    let groups = match config.get("new_decoder_architecture") {
        Some(_) => config.flag("new_decoder_architecture")?,
        None => config.get("n_head_kv").is_some(),
    };
    let shared = config.get("multi_query").is_none() || config.flag("multi_query")?;
    if shared && !groups {
        return Ok(1);
    }
    stated.map_or_else(|| config.require("num_attention_heads"), Ok)
}

const GROUPS: Dim = Dim::Derived("groups of heads", groups);
const QUERIES: Dim = Dim::Derived("query heads in a group", |config| {
    const HEADS: &str = "num_attention_heads";
    let (heads, groups) = (config.require(HEADS)?, groups(config)?);
    match heads.checked_rem(groups) {
        Some(0) => Ok(heads / groups),
        _ => {
            let expected = format!("a multiple of the {groups} groups of heads");
            Err(config.wrong(HEADS, &heads.to_string(), &expected))
        }
    }
});
/// A group of one key and value head has them and its query heads.
const HEADS_OF_GROUP: Dim = Dim::Sum(&[QUERIES, TWO]);
const INNER: Dim = Dim::Key("ffn_hidden_size");
const BY_GROUP: Step = Step::Unfold(0, &[GROUPS, HEADS_OF_GROUP]);
