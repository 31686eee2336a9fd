//! DeepSeek V4: one head of keys that are values too, compressed over time in most layers; several streams of
//! states; experts in MXFP4, which tables choose by the token alone in the first layers.

use serde_json::Value;

use super::{
    Architecture, BASE, Default,
    layers::layers,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{Config, Result, json::describe};

pub(super) const DEEPSEEK4: Architecture = Architecture {
    name: "deepseek4",
    classes: &["DeepseekV4ForCausalLM"],
    defaults: &[model("deepseek_v4", &[GIVEN])],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, OWN],
    tensors: &[ENDS, ATTENTION, COMPRESSORS, INDEXERS, STREAMS_OF_LAYER, EXPERTS],
    prefix: "",
    rename,
    check,
    needs_output: true,
    ..BASE
};

const RATIOS: &str = "compress_ratios";

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 1_048_576),
    number("rms_norm_eps", 1e-6),
    number("rope_theta", 10_000.0),
    count("num_key_value_heads", 1),
    count("head_dim", 512),
    count("q_lora_rank", 1024),
    count("qk_rope_head_dim", 64),
    count("sliding_window", 128),
    count("n_shared_experts", 1),
    count("num_experts_per_tok", 6),
    count("num_hash_layers", 3),
    number("routed_scaling_factor", 1.5),
    flag("norm_topk_prob", true),
    number("swiglu_limit", 10.0),
    number("compress_rope_theta", 160_000.0),
    count("o_groups", 8),
    count("o_lora_rank", 1024),
    count("index_n_heads", 64),
    count("index_head_dim", 128),
    count("index_topk", 512),
    count("hc_mult", 4),
    count("hc_sinkhorn_iters", 20),
    number("hc_eps", 1e-6),
    or_null("scoring_func", super::Fill::Text("sqrtsoftplus")),
];

const OWN: &[Parameter] = &[
    parameters::required("rope.dimension_count", &["qk_rope_head_dim"]),
    parameters::required("attention.q_lora_rank", &["q_lora_rank"]),
    parameters::required("attention.sliding_window", &["sliding_window"]),
    parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
    parameters::required("expert_shared_count", &["n_shared_experts"]),
    parameters::required_number("expert_weights_scale", &["routed_scaling_factor"]),
    parameters::flag("expert_weights_norm", "norm_topk_prob"),
    Parameter::With(write_limits),
    parameters::required("attention.indexer.head_count", &["index_n_heads"]),
    parameters::required("attention.indexer.key_length", &["index_head_dim"]),
    parameters::required("attention.indexer.top_k", &["index_topk"]),
    parameters::required("attention.output_group_count", &["o_groups"]),
    parameters::required("attention.output_lora_rank", &["o_lora_rank"]),
    Parameter::With(|config, keys| {
        keys.set("attention.compress_ratios", ratios(config)?);
        Ok(())
    }),
    parameters::required_number("attention.compress_rope_freq_base", &["compress_rope_theta"]),
    parameters::required("hyper_connection.count", &["hc_mult"]),
    parameters::required("hyper_connection.sinkhorn_iterations", &["hc_sinkhorn_iters"]),
    parameters::required_number("hyper_connection.epsilon", &["hc_eps"]),
    parameters::whole("hash_layer_count", &["num_hash_layers"]),
    Parameter::Size("embedding_length_out", ALL_STREAMS),
];

/// The same bound in all layers, for the experts and the shared ones.
fn write_limits(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let limit = config.number("swiglu_limit")?.unwrap_or(0.0) as f32;
    let limits = (0..layers(config)?).map(|_| limit).collect::<Vec<f32>>();
    keys.set("swiglu_clamp_exp", limits.clone());
    keys.set("swiglu_clamp_shexp", limits);
    Ok(())
}

/// How many tokens the keys of each layer stand for.
fn ratios(config: &Config) -> Result<Vec<i32>> {
    let value = config.get(RATIOS);
    let wrong = || {
        let found = value.map_or("no such key".to_owned(), describe);
        config.wrong(RATIOS, &found, "a list with 0, 4 or 128 for each layer")
    };
    let ratios = value.and_then(Value::as_array).ok_or_else(wrong)?;
    let ratio = |value: &Value| match value.as_u64() {
        Some(ratio @ (0 | 4 | 128)) => Ok(ratio as i32),
        _ => Err(wrong()),
    };
    let ratios = ratios.iter().map(ratio).collect::<Result<Vec<i32>>>()?;
    if (ratios.len() as u64) < layers(config)? { Err(wrong()) } else { Ok(ratios) }
}

fn ratio(config: &Config, layer: u64) -> u64 {
    let at = usize::try_from(layer).unwrap_or(usize::MAX);
    let ratios = config.get(RATIOS).and_then(Value::as_array);
    ratios.and_then(|ratios| ratios.get(at)?.as_u64()).unwrap_or(0)
}

fn check(config: &Config) -> Result<()> {
    ratios(config)?;
    config.quotient("num_attention_heads", "o_groups").map(|_| ())
}

fn compresses(config: &Config, layer: u64) -> bool {
    ratio(config, layer) != 0
}

/// Layers that take four tokens together choose the keys that they look at.
fn indexes(config: &Config, layer: u64) -> bool {
    ratio(config, layer) == 4
}

fn is_hashed(config: &Config, layer: u64) -> bool {
    layer < config.whole("num_hash_layers").ok().flatten().unwrap_or(0)
}

fn is_routed(config: &Config, layer: u64) -> bool {
    !is_hashed(config, layer)
}

/// Other parts than the text model, and what no graph uses.
fn rename(config: &Config, name: &str) -> Option<String> {
    if name.starts_with("mtp.") {
        return Some("mtp".to_owned());
    }
    if ["vision.", "aligner.", "image_"].iter().any(|part| name.starts_with(part)) {
        return Some("vision".to_owned());
    }
    // Tables route tokens of text in the first layers: their correction is of no use.
    let layer = name.strip_prefix("layers.")?.strip_suffix(".ffn.gate.bias")?;
    is_hashed(config, layer.parse().ok()?).then(|| "unused bias".to_owned())
}

const STREAMS: Dim = Dim::Key("hc_mult");
const ALL_STREAMS: Dim = Dim::Product(&[Dim::Key("hc_mult"), Dim::Key("hidden_size")]);
const MIXED: Dim = Dim::Product(&[Dim::Key("hc_mult"), Dim::Sum(&[TWO, Dim::Key("hc_mult")])]);
const THREE: Dim = Dim::Number(3);
const RANK: Dim = Dim::Key("q_lora_rank");
const GROUPS_OUT: Dim = Dim::Product(&[Dim::Key("o_groups"), Dim::Key("o_lora_rank")]);
const OF_GROUP: Dim = Dim::Derived("values of a group of heads", |config| {
    Ok(config.quotient("num_attention_heads", "o_groups")?.saturating_mul(HEAD.size(config)?))
});
const INDEX: Dim = Dim::Key("index_head_dim");
const TWICE_INDEX: Dim = Dim::Product(&[TWO, Dim::Key("index_head_dim")]);
const RATIO: Dim = Dim::InLayer("compress_ratios", |config, layer| Ok(ratio(config, layer)));
/// Where few tokens are taken together, they overlap with those before.
const COMPRESSED: Dim = Dim::InLayer("values of a compressed key", |config, layer| {
    let head = HEAD.size(config)?;
    Ok(if indexes(config, layer) { head.saturating_mul(2) } else { head })
});

const ENDS: &[Rule] = &[
    Rule::new("embed", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new("norm", "output_norm", &[HIDDEN]),
    Rule::new("head", "output", &[VOCAB, HIDDEN]),
    Rule::exact("hc_head_fn", "output_hc_fn.weight", &[STREAMS, ALL_STREAMS]),
    Rule::exact("hc_head_base", "output_hc_base.weight", &[STREAMS]),
    Rule::exact("hc_head_scale", "output_hc_scale.weight", &[Dim::Number(1)]),
    Rule {
        exact: true,
        ..Rule::left_out("mtp", "layers that predict further tokens are not converted")
    },
    Rule {
        exact: true,
        ..Rule::left_out("vision", "they belong to another part than the text model")
    },
    Rule {
        exact: true,
        ..Rule::left_out("unused bias", "tables choose the experts of these layers")
    },
];

const ATTENTION: &[Rule] = &[
    Rule::new("layers.{}.attn_norm", "blk.{}.attn_norm", &[HIDDEN]),
    Rule::new("layers.{}.ffn_norm", "blk.{}.ffn_norm", &[HIDDEN]),
    Rule::exact("layers.{}.attn.attn_sink", "blk.{}.attn_sinks.weight", &[HEADS]),
    Rule::new("layers.{}.attn.wq_a", "blk.{}.attn_q_a", &[RANK, HIDDEN]),
    Rule::new("layers.{}.attn.q_norm", "blk.{}.attn_q_a_norm", &[RANK]),
    Rule::new("layers.{}.attn.wq_b", "blk.{}.attn_q_b", &[QUERY, RANK]),
    Rule::new("layers.{}.attn.wkv", "blk.{}.attn_kv", &[HEAD, HIDDEN]),
    Rule::new("layers.{}.attn.kv_norm", "blk.{}.attn_kv_a_norm", &[HEAD]),
    Rule::new("layers.{}.attn.wo_a", "blk.{}.attn_output_a", &[GROUPS_OUT, OF_GROUP]),
    Rule::new("layers.{}.attn.wo_b", "blk.{}.attn_output_b", &[HIDDEN, GROUPS_OUT]),
];

const COMPRESSORS: &[Rule] = &[
    Rule::exact(
        "layers.{}.attn.compressor.ape",
        "blk.{}.attn_compressor_ape.weight",
        &[RATIO, COMPRESSED],
    )
    .in_layers(compresses),
    Rule::new("layers.{}.attn.compressor.wkv", "blk.{}.attn_compressor_kv", &[COMPRESSED, HIDDEN])
        .in_layers(compresses),
    Rule::new(
        "layers.{}.attn.compressor.wgate",
        "blk.{}.attn_compressor_gate",
        &[COMPRESSED, HIDDEN],
    )
    .in_layers(compresses),
    Rule::new("layers.{}.attn.compressor.norm", "blk.{}.attn_compressor_norm", &[HEAD])
        .in_layers(compresses),
];

const INDEXERS: &[Rule] = &[
    Rule::new(
        "layers.{}.attn.indexer.wq_b",
        "blk.{}.indexer.attn_q_b",
        &[Dim::Product(&[Dim::Key("index_n_heads"), Dim::Key("index_head_dim")]), RANK],
    )
    .in_layers(indexes),
    Rule::new(
        "layers.{}.attn.indexer.weights_proj",
        "blk.{}.indexer.proj",
        &[Dim::Key("index_n_heads"), HIDDEN],
    )
    .in_layers(indexes),
    Rule::exact(
        "layers.{}.attn.indexer.compressor.ape",
        "blk.{}.indexer_compressor_ape.weight",
        &[RATIO, TWICE_INDEX],
    )
    .in_layers(indexes),
    Rule::new(
        "layers.{}.attn.indexer.compressor.wkv",
        "blk.{}.indexer_compressor_kv",
        &[TWICE_INDEX, HIDDEN],
    )
    .in_layers(indexes),
    Rule::new(
        "layers.{}.attn.indexer.compressor.wgate",
        "blk.{}.indexer_compressor_gate",
        &[TWICE_INDEX, HIDDEN],
    )
    .in_layers(indexes),
    Rule::new("layers.{}.attn.indexer.compressor.norm", "blk.{}.indexer_compressor_norm", &[INDEX])
        .in_layers(indexes),
];

const STREAMS_OF_LAYER: &[Rule] = &[
    Rule::exact("layers.{}.hc_attn_fn", "blk.{}.hc_attn_fn.weight", &[MIXED, ALL_STREAMS]),
    Rule::exact("layers.{}.hc_attn_base", "blk.{}.hc_attn_base.weight", &[MIXED]),
    Rule::exact("layers.{}.hc_attn_scale", "blk.{}.hc_attn_scale.weight", &[THREE]),
    Rule::exact("layers.{}.hc_ffn_fn", "blk.{}.hc_ffn_fn.weight", &[MIXED, ALL_STREAMS]),
    Rule::exact("layers.{}.hc_ffn_base", "blk.{}.hc_ffn_base.weight", &[MIXED]),
    Rule::exact("layers.{}.hc_ffn_scale", "blk.{}.hc_ffn_scale.weight", &[THREE]),
];

const COUNT: Dim = Dim::Key("n_routed_experts");
const WIDTH: Dim = Dim::Key("moe_intermediate_size");
const SHARED: Dim =
    Dim::Product(&[Dim::Key("n_shared_experts"), Dim::Key("moe_intermediate_size")]);

const EXPERTS: &[Rule] = &[
    Rule::new("layers.{}.ffn.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN]),
    Rule::exact("layers.{}.ffn.gate.bias", "blk.{}.exp_probs_b.bias", &[COUNT])
        .in_layers(is_routed),
    Rule::exact("layers.{}.ffn.gate.bias_vl", "blk.{}.exp_probs_b_vl.bias", &[COUNT]).optional(),
    Rule::exact(
        "layers.{}.ffn.gate.tid2eid",
        "blk.{}.ffn_gate_tid2eid.weight",
        &[VOCAB, Dim::Key("num_experts_per_tok")],
    )
    .numbers()
    .in_layers(is_hashed),
    Rule::new("layers.{}.ffn.experts.{}.w1", "blk.{}.ffn_gate_exps", &[WIDTH, HIDDEN])
        .mxfp4("layers.{}.ffn.experts.{}.w1.scale")
        .stacked("n_routed_experts"),
    Rule::new("layers.{}.ffn.experts.{}.w2", "blk.{}.ffn_down_exps", &[HIDDEN, WIDTH])
        .mxfp4("layers.{}.ffn.experts.{}.w2.scale")
        .stacked("n_routed_experts"),
    Rule::new("layers.{}.ffn.experts.{}.w3", "blk.{}.ffn_up_exps", &[WIDTH, HIDDEN])
        .mxfp4("layers.{}.ffn.experts.{}.w3.scale")
        .stacked("n_routed_experts"),
    Rule::new("layers.{}.ffn.shared_experts.w1", "blk.{}.ffn_gate_shexp", &[SHARED, HIDDEN]),
    Rule::new("layers.{}.ffn.shared_experts.w2", "blk.{}.ffn_down_shexp", &[HIDDEN, SHARED]),
    Rule::new("layers.{}.ffn.shared_experts.w3", "blk.{}.ffn_up_shexp", &[SHARED, HIDDEN]),
];
