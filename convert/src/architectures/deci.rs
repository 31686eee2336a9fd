//! DeciLM and NVIDIA's Llama-Nemotron: Llama whose layers differ in heads and widths, some without
//! attention, some without a feed-forward part.

use serde_json::Value;

use super::{
    Architecture, BASE, Default, Fill, llama,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    rope::Rope,
    shared::*,
    tensors::{Dim, Rule, Step, layers},
};
use crate::{Config, Result};

pub(super) const DECI: Architecture = Architecture {
    name: "deci",
    classes: &["DeciLMForCausalLM"],
    variant: |config| config.get("block_configs").is_none().then_some(&DECI_7B),
    defaults: &[model("nemotron-nas", DEFAULTS)],
    parameters: &[
        &[
            Parameter::With(|config, keys| {
                if let Some(theta) = Rope::read(config)?.number("rope_theta")? {
                    keys.set_number("rope.freq_base", theta);
                }
                Ok(())
            }),
            parameters::required("attention.head_count_kv", &[KEY_HEADS_BY_LAYER]),
            parameters::required("attention.head_count", &[HEADS_BY_LAYER]),
            parameters::required("feed_forward_length", &[WIDTHS_BY_LAYER]),
            parameters::required("block_count", super::tensors::LAYERS),
            parameters::required("context_length", &["max_position_embeddings"]),
            parameters::required("embedding_length", &["hidden_size"]),
            parameters::required_number("attention.layer_norm_rms_epsilon", &["rms_norm_eps"]),
            Parameter::With(|config, keys| {
                let size = HEAD.size(config)?;
                keys.set_count("attention.key_length", size);
                keys.set_count("attention.value_length", size);
                Ok(())
            }),
        ],
        FILE_TYPE,
        llama::ROPE,
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, LAYERS],
    computed: llama3_factors,
    tokenizers: llama::TOKENIZERS,
    ..BASE
};

/// The first DeciLM, whose layers differ in heads of keys alone.
const DECI_7B: Architecture = Architecture {
    variant: |_| None,
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, llama::ROPE],
    ..DECI
};

/// Whatever `head_dim` says.
const HEAD: Dim =
    Dim::Derived("size of a head", |config| config.quotient("hidden_size", "num_attention_heads"));
const HEADS_BY_LAYER: &str = "query heads of each layer";
const WIDTHS_BY_LAYER: &str = "width of the feed-forward part of each layer";
const HEADS_HERE: Dim = Dim::Key(HEADS_BY_LAYER);
const KEY_HEADS_HERE: Dim = Dim::Key(KEY_HEADS_BY_LAYER);
const QUERIES: Dim = Dim::Product(&[Dim::Key(HEADS_BY_LAYER), HEAD]);
const KEYS: Dim = Dim::Product(&[Dim::Key(KEY_HEADS_BY_LAYER), HEAD]);
const INNER: Dim = Dim::Key(WIDTHS_BY_LAYER);

const DEFAULTS: &[&[Default]] = &[
    &[count("max_position_embeddings", 4096), number("rms_norm_eps", 1e-5)],
    THETA,
    &[
        default("num_key_value_heads", Fill::Same("num_attention_heads")),
        default(KEY_HEADS_BY_LAYER, Fill::With(|config| by_layer(config, key_heads))),
        default(
            HEADS_BY_LAYER,
            Fill::With(|config| {
                by_layer(config, |config, layer| {
                    let heads = config.require("num_attention_heads")?;
                    let none = key_heads(config, layer)? == 0 && !is_linear(config, layer);
                    Ok(if none { 0 } else { heads })
                })
            }),
        ),
        default(WIDTHS_BY_LAYER, Fill::With(|config| by_layer(config, width))),
    ],
];

fn by_layer(
    config: &Config,
    number: impl Fn(&Config, u64) -> Result<u64>,
) -> Result<Option<Value>> {
    (0..layers(config)?)
        .map(|layer| number(config, layer).map(Value::from))
        .collect::<Result<_>>()
        .map(Some)
}

/// What config.json says of a part of a layer.
fn block<'c>(config: &'c Config, layer: u64, part: &str) -> Option<&'c Value> {
    let at = usize::try_from(layer).ok()?;
    config.get("block_configs")?.as_array()?.get(at)?.get(part)
}

fn key_heads(config: &Config, layer: u64) -> Result<u64> {
    const KEY: &str = "block_configs";
    if config.get(KEY).is_none() {
        return config.require_in(
            if config.get("num_key_value_heads_per_layer").is_some() {
                "num_key_value_heads_per_layer"
            } else {
                "num_key_value_heads"
            },
            Some(layer),
        );
    }
    let Some(attention) = block(config, layer, "attention") else {
        return Err(config.missing(KEY, "the attention of each layer"));
    };
    let heads = config.require("num_attention_heads")?;
    match attention.get("n_heads_in_group").filter(|value| !value.is_null()) {
        None => Ok(0),
        Some(group) => group
            .as_u64()
            .and_then(|group| heads.checked_div(group))
            .ok_or_else(|| config.wrong(KEY, &group.to_string(), "a positive n_heads_in_group")),
    }
}

/// The width of the feed-forward part: two thirds of a multiple, brought up to a multiple of 256.
fn width(config: &Config, layer: u64) -> Result<u64> {
    const MULTIPLE: u64 = 256;
    if config.get("block_configs").is_none() {
        return config.require("intermediate_size");
    }
    let factor = block(config, layer, "ffn").and_then(|ffn| ffn.get("ffn_mult")?.as_f64());
    let width = 2.0 * factor.unwrap_or(0.0) * config.require("hidden_size")? as f64 / 3.0;
    Ok((width as u64).div_ceil(MULTIPLE).saturating_mul(MULTIPLE).min(u64::from(u32::MAX)))
}

fn is_linear(config: &Config, layer: u64) -> bool {
    let linear = block(config, layer, "attention").and_then(|part| part.get("replace_with_linear"));
    linear == Some(&Value::Bool(true)) && key_heads(config, layer).is_ok_and(|heads| heads == 0)
}

fn attends(config: &Config, layer: u64) -> bool {
    key_heads(config, layer).is_ok_and(|heads| heads > 0)
}

fn mixes(config: &Config, layer: u64) -> bool {
    attends(config, layer) || is_linear(config, layer)
}

fn feeds(config: &Config, layer: u64) -> bool {
    width(config, layer).is_ok_and(|width| width > 0)
}

const LAYERS: &[Rule] = &[
    Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).in_layers(mixes),
    Rule::new("model.layers.{}.self_attn.linear_attn", "blk.{}.attn_output", &[HIDDEN, HIDDEN])
        .in_layers(is_linear),
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERIES, HIDDEN])
        .parts(&[&[Step::Unfold(0, &[HEADS_HERE, TWO]), Step::Swap(1, 2), Step::Fold(0, 3)]])
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEYS, HIDDEN])
        .parts(&[&[Step::Unfold(0, &[KEY_HEADS_HERE, TWO]), Step::Swap(1, 2), Step::Fold(0, 3)]])
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEYS, HIDDEN])
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERIES])
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
        .in_layers(feeds),
    Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[INNER, HIDDEN])
        .in_layers(feeds),
    Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[INNER, HIDDEN]).in_layers(feeds),
    Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, INNER])
        .in_layers(feeds),
];
