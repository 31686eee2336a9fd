//! MiMo V2 Flash, V2.5 and Pro: values narrower than keys, attention sinks in the layers with a sliding
//! window, experts after a dense layer, layers that predict further tokens.

use serde_json::Value;

use crate::{Config, Result};

use super::{
    Architecture, BASE, Default,
    layers::{all_layers, layers},
    nextn::{self, Further},
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    rope,
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const MIMO2: Architecture = Architecture {
    name: "mimo2",
    classes: &["MiMoV2FlashForCausalLM", "MiMoV2ForCausalLM"],
    defaults: &[model("mimo_v2_flash", &[GIVEN]), model("mimo_v2", &[GIVEN])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            Parameter::With(by_layer),
            parameters::required("attention.value_length", &["v_head_dim"]),
            parameters::required("expert_count", &["n_routed_experts"]),
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            Parameter::With(|config, keys| {
                let share = rope::Rope::read(config)?.partial()?.unwrap_or(0.334);
                keys.set_count("rope.dimension_count", (HEAD.size(config)? as f64 * share) as u64);
                Ok(())
            }),
            parameters::required_number("attention.layer_norm_rms_epsilon", &["layernorm_epsilon"]),
            parameters::number("attention.value_scale", &["attention_value_scale"]),
            nextn::IF_ANY,
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        &[
            Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
                .in_layers(dense),
            Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
                .in_layers(dense),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
                .in_layers(dense),
            Rule::new("model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp", &[EXPERTS, HIDDEN])
                .in_layers(sparse),
            Rule::exact(
                "model.layers.{}.mlp.gate.e_score_correction_bias",
                "blk.{}.exp_probs_b.bias",
                &[EXPERTS],
            )
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.gate_proj",
                "blk.{}.ffn_gate_exps",
                &[WIDTH, HIDDEN],
            )
            .stacked("n_routed_experts")
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.up_proj",
                "blk.{}.ffn_up_exps",
                &[WIDTH, HIDDEN],
            )
            .stacked("n_routed_experts")
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.down_proj",
                "blk.{}.ffn_down_exps",
                &[HIDDEN, WIDTH],
            )
            .stacked("n_routed_experts")
            .in_layers(sparse),
            Rule::new("model.layers.{}.final_layernorm", "blk.{}.layer_output_norm", &[HIDDEN])
                .optional()
                .in_layers(nextn::is_further),
        ],
        nextn::NEXTN,
        nextn::OWN_ENDS,
    ],
    rename,
    further: Further::CountedOrNamed("num_nextn_predict_layers"),
    check,
    needs_output: true,
    ..BASE
};

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 131_072),
    number("layernorm_epsilon", 1e-5),
    number("rope_theta", 5_000_000.0),
    number("swa_rope_theta", 10_000.0),
    number("partial_rotary_factor", 0.334),
    number("attention_value_scale", 0.707),
    count("num_key_value_heads", 4),
    count("swa_num_key_value_heads", 8),
    count("head_dim", 192),
    count("v_head_dim", 128),
    count("n_routed_experts", 256),
    count("n_group", 1),
    count("topk_group", 1),
    count("num_experts_per_tok", 8),
    count("moe_intermediate_size", 2048),
    count("sliding_window", 128),
];

/// What the authors' names of further layers are, and of a layer's second norm in them.
fn rename(config: &Config, name: &str) -> Option<String> {
    let (layer, rest) = name.strip_prefix("model.mtp.layers.")?.split_once('.')?;
    let layer = layers(config).ok()?.checked_add(layer.parse().ok()?)?;
    let rest = rest.replace("pre_mlp_layernorm", "post_attention_layernorm");
    Some(format!("model.layers.{layer}.{rest}"))
}

/// Whether a list has a 1 for the layer.
fn listed(config: &Config, key: &str, layer: u64) -> bool {
    let list = config.get(key).and_then(Value::as_array);
    let at = usize::try_from(layer).unwrap_or(usize::MAX);
    list.and_then(|list| list.get(at)?.as_u64()) == Some(1)
}

/// Layers that predict further tokens have a sliding window too.
fn slides(config: &Config, layer: u64) -> bool {
    listed(config, PATTERN, layer) || nextn::is_further(config, layer)
}

fn sparse(config: &Config, layer: u64) -> bool {
    listed(config, "moe_layer_freq", layer) && !nextn::is_further(config, layer)
}

fn dense(config: &Config, layer: u64) -> bool {
    !sparse(config, layer)
}

const PATTERN: &str = "hybrid_layer_pattern";

fn key_heads(config: &Config, layer: u64) -> Result<u64> {
    let sliding = slides(config, layer);
    config.require(if sliding { "swa_num_key_value_heads" } else { "num_key_value_heads" })
}

fn by_layer(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let all = all_layers(config)?;
    let heads = (0..all).map(|layer| {
        key_heads(config, layer).map(|heads| i32::try_from(heads).unwrap_or(i32::MAX))
    });
    keys.set("attention.head_count_kv", heads.collect::<Result<Vec<_>>>()?);
    keys.set_count("attention.sliding_window", config.require("sliding_window")?);
    let sliding: Vec<i32> = (0..all).map(|layer| slides(config, layer).into()).collect();
    keys.set("attention.sliding_window_pattern", sliding);
    Ok(())
}

fn check(config: &Config) -> Result<()> {
    for (sliding, full) in [
        ("swa_head_dim", "head_dim"),
        ("swa_v_head_dim", "v_head_dim"),
        ("swa_num_attention_heads", "num_attention_heads"),
    ] {
        let expected = config.require(full)?;
        let found = config.positive(sliding)?.unwrap_or(expected);
        if found != expected {
            let expected = format!("{expected}, as {full} is: llama.cpp has one for both");
            return Err(config.wrong(sliding, &found.to_string(), &expected));
        }
    }
    let list = config.get(PATTERN).and_then(Value::as_array);
    let (found, expected) = (list.map_or(0, Vec::len) as u64, layers(config)?);
    if found != expected {
        let expected = format!("{expected} entries, one for each layer");
        return Err(config.wrong(PATTERN, &format!("a list of {found}"), &expected));
    }
    Ok(())
}

const EXPERTS: Dim = Dim::Key("n_routed_experts");
const WIDTH: Dim = Dim::Key("moe_intermediate_size");
const KEY_HEADS_HERE: Dim = Dim::InLayer("key and value heads of the layer", key_heads);
const VALUE: Dim = Dim::Key("v_head_dim");
const KEYS: Dim = Dim::Product(&[KEY_HEADS_HERE, HEAD]);
const VALUES: Dim = Dim::Product(&[KEY_HEADS_HERE, VALUE]);
const OUT: Dim = Dim::Product(&[HEADS, VALUE]);
const ALL: Dim = Dim::InLayer("queries, keys and values of the layer", all_rows);

/// One matrix of FP8 holds the rows of each rank that trained it one after the other, under scales
/// that count anew for each: neither config.json nor a shape tells the ranks for sure.
fn all_rows(config: &Config, layer: u64) -> Result<u64> {
    let method = "quantization_config.quant_method";
    if config.get(method).and_then(Value::as_str) == Some("fp8") {
        let expected = "no quantization: queries, keys and values in one matrix of FP8 are in the \
                        order of the machines that trained them; take the checkpoint in BF16";
        return Err(config.wrong(method, "\"fp8\"", expected));
    }
    Dim::Sum(&[QUERY, KEYS, VALUES]).size_in(config, Some(layer))
}

const THREE: &str = "three matrices";
const ONE: &str = "one matrix";

const ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .bias_if("attention_bias")
        .form(THREE),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEYS, HIDDEN])
        .bias_if("attention_bias")
        .form(THREE),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[VALUES, HIDDEN])
        .bias_if("attention_bias")
        .form(THREE),
    Rule::new("model.layers.{}.self_attn.qkv_proj", "blk.{}.attn_qkv", &[ALL, HIDDEN])
        .bias_if("attention_bias")
        .form(ONE),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, OUT]),
    Rule::exact(
        "model.layers.{}.self_attn.attention_sink_bias",
        "blk.{}.attn_sinks.weight",
        &[HEADS],
    )
    .optional(),
];
