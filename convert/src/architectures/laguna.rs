//! Laguna: attention with a gate for each head or value, heads and rotation by the kind of attention,
//! experts after some dense layers.

use serde_json::{Value, json};

use super::{
    Architecture, BASE, Default, Fill,
    layers::layers,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    shared::*,
    spark,
    tensors::{Dim, Rule},
};
use crate::{
    Config, Result,
    json::describe,
    tokenizer::{Adjustment, Kind},
};

pub(super) const LAGUNA: Architecture = Architecture {
    name: "laguna",
    classes: &["LagunaForCausalLM"],
    defaults: &[model("laguna", &[GIVEN])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("vocab_size", &["vocab_size"]),
            Parameter::With(head_counts),
            parameters::count("attention.sliding_window", &["sliding_window"]),
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::required(
                "expert_shared_feed_forward_length",
                &["shared_expert_intermediate_size"],
            ),
            Parameter::Constant("expert_weights_norm", Constant::Flag(true)),
            parameters::required_number("expert_weights_scale", &["moe_routed_scaling_factor"]),
            Parameter::Constant("expert_gating_func", Constant::Count(2)),
            Parameter::With(|config, keys| {
                let leading = (0..layers(config)?).take_while(|layer| dense(config, *layer));
                keys.set_count("leading_dense_block_count", leading.count() as u64);
                Ok(())
            }),
            Parameter::With(|config, keys| spark::turned_by_kind(config, keys, 1.0)),
        ],
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, OWN_ATTENTION, HEAD_NORMS, MLP],
    check,
    tokenizers: &[Kind::ByteLevel],
    special: &[Adjustment::SecondEnd("</assistant>")],
    ..BASE
};

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 131_072),
    number("rms_norm_eps", 1e-6),
    count("head_dim", 128),
    count("num_key_value_heads", 8),
    count("num_experts", 256),
    count("num_experts_per_tok", 8),
    count("moe_intermediate_size", 512),
    count("sliding_window", 512),
    count("shared_expert_intermediate_size", 512),
    number("moe_routed_scaling_factor", 1.0),
    default(
        "rope_parameters",
        Fill::With(|_| {
            Ok(Some(json!({
                "full_attention": {"rope_type": "default", "rope_theta": 500_000.0,
                    "partial_rotary_factor": 0.5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0,
                    "partial_rotary_factor": 1.0},
            })))
        }),
    ),
    flag("gating", true),
];

/// The entry of a list for the layer.
fn entry<'c>(config: &'c Config, key: &str, layer: u64) -> Option<&'c Value> {
    let at = usize::try_from(layer).unwrap_or(usize::MAX);
    config.get(key).and_then(Value::as_array)?.get(at)
}

const HEADS_BY_LAYER: &str = "num_attention_heads_per_layer";

fn heads(config: &Config, layer: u64) -> Result<u64> {
    let Some(heads) = entry(config, HEADS_BY_LAYER, layer) else {
        return config.require("num_attention_heads");
    };
    let heads_of = heads.as_u64().filter(|n| (1..=u64::from(u16::MAX)).contains(n));
    let wrong = || config.wrong(HEADS_BY_LAYER, &describe(heads), "positive numbers of heads");
    heads_of.ok_or_else(wrong)
}

fn head_counts(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let heads = (0..layers(config)?)
        .map(|layer| heads(config, layer).map(|heads| i32::try_from(heads).unwrap_or(i32::MAX)));
    keys.set("attention.head_count", heads.collect::<Result<Vec<_>>>()?);
    Ok(())
}

/// Layers are dense as a list says; without one the first is.
fn dense(config: &Config, layer: u64) -> bool {
    match entry(config, "mlp_layer_types", layer) {
        Some(ty) => ty.as_str() == Some("dense"),
        None => layer == 0,
    }
}

fn sparse(config: &Config, layer: u64) -> bool {
    !dense(config, layer)
}

/// Whether each value has a gate of its own, not only each head.
fn by_value(config: &Config, layer: u64) -> Result<bool> {
    let (key, kind) = match entry(config, "gating_types", layer) {
        Some(kind) => ("gating_types", Some(kind)),
        None => ("gating", config.get("gating")),
    };
    match kind {
        Some(Value::Bool(true)) => Ok(false),
        Some(Value::String(kind)) if kind.replace('-', "_") == "per_head" => Ok(false),
        Some(Value::String(kind)) if kind.replace('-', "_") == "per_element" => Ok(true),
        other => {
            let found = other.map_or_else(|| "missing".to_owned(), describe);
            Err(config.wrong(key, &found, "\"per-head\" or \"per-element\""))
        }
    }
}

/// Lists are as long as there are layers, and the heads fit.
fn check(config: &Config) -> Result<()> {
    let expected = layers(config)?;
    for key in [HEADS_BY_LAYER, "mlp_layer_types", "gating_types", "layer_types"] {
        let Some(list) = config.get(key).and_then(Value::as_array) else { continue };
        if list.len() as u64 != expected {
            let expected = format!("{expected} entries, one for each layer");
            return Err(config.wrong(key, &format!("a list of {}", list.len()), &expected));
        }
    }
    let groups = config.require("num_key_value_heads")?;
    for layer in 0..expected {
        let heads = heads(config, layer)?;
        if !heads.is_multiple_of(groups) {
            let expected = format!("a divisor of the {heads} query heads of layer {layer}");
            return Err(config.wrong("num_key_value_heads", &groups.to_string(), &expected));
        }
    }
    Ok(())
}

const HEADS_HERE: Dim = Dim::InLayer("query heads of the layer", heads);
const QUERIES: Dim = Dim::Product(&[HEADS_HERE, HEAD]);
const GATES: Dim = Dim::InLayer("gates of the layer", |config, layer| {
    let gates = if by_value(config, layer)? { QUERIES } else { HEADS_HERE };
    gates.size_in(config, Some(layer))
});

const OWN_ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERIES, HIDDEN]),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN]),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN]),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERIES]),
    Rule::new("model.layers.{}.self_attn.g_proj", "blk.{}.attn_gate", &[GATES, HIDDEN]),
];

const COUNT: Dim = Dim::Key("num_experts");
const WIDTH: Dim = Dim::Key("moe_intermediate_size");
const SHARED: Dim = Dim::Key("shared_expert_intermediate_size");

const MLP: &[Rule] = &[
    Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .in_layers(dense),
    Rule::new("model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .in_layers(sparse),
    Rule::exact(
        "model.layers.{}.mlp.experts.e_score_correction_bias",
        "blk.{}.exp_probs_b.bias",
        &[COUNT],
    )
    .in_layers(sparse),
    Rule::new("model.layers.{}.mlp.experts.{}.gate_proj", "blk.{}.ffn_gate_exps", &[WIDTH, HIDDEN])
        .stacked("num_experts")
        .in_layers(sparse),
    Rule::new("model.layers.{}.mlp.experts.{}.up_proj", "blk.{}.ffn_up_exps", &[WIDTH, HIDDEN])
        .stacked("num_experts")
        .in_layers(sparse),
    Rule::new("model.layers.{}.mlp.experts.{}.down_proj", "blk.{}.ffn_down_exps", &[HIDDEN, WIDTH])
        .stacked("num_experts")
        .in_layers(sparse),
    Rule::new(
        "model.layers.{}.mlp.shared_expert.gate_proj",
        "blk.{}.ffn_gate_shexp",
        &[SHARED, HIDDEN],
    )
    .in_layers(sparse),
    Rule::new(
        "model.layers.{}.mlp.shared_expert.up_proj",
        "blk.{}.ffn_up_shexp",
        &[SHARED, HIDDEN],
    )
    .in_layers(sparse),
    Rule::new(
        "model.layers.{}.mlp.shared_expert.down_proj",
        "blk.{}.ffn_down_shexp",
        &[HIDDEN, SHARED],
    )
    .in_layers(sparse),
];
