//! Hy4: DeepSeek's latent attention with a gate and sinks, an indexer, several streams of states, experts
//! after some dense layers.

use serde_json::Value;

use super::{
    Architecture, BASE, Default, Fill, deepseek2, indexer,
    layers::{all_layers, layers},
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{Config, Result};

pub(super) const HY_V4: Architecture = Architecture {
    name: "hy_v4",
    classes: &["HYV4ForCausalLM"],
    defaults: &[model("hy_v4", &[GIVEN])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        deepseek2::OWN,
        &[
            Parameter::Constant("expert_gating_func", Constant::Count(2)),
            Parameter::With(|config, keys| {
                if let Some(limit) = config.get(LIMIT).and_then(Value::as_f64).filter(|n| *n > 0.0)
                {
                    let limits = (0..all_layers(config)?).map(|_| limit as f32);
                    keys.set("swiglu_clamp_exp", limits.collect::<Vec<f32>>());
                }
                Ok(())
            }),
            parameters::required("hyper_connection.count", &["hc_mult"]),
            parameters::required_number("hyper_connection.epsilon", &["hc_eps"]),
            parameters::required_number("hyper_connection.magnitude", &["hc_magnitude"]),
            Parameter::With(indexes),
        ],
    ],
    tensors: &[
        deepseek2::ENDS,
        OUTPUT_NORM,
        NORMS,
        deepseek2::LATENT_ATTENTION,
        OWN,
        indexer::RULES,
        deepseek2::DENSE_MLP,
        deepseek2::CORRECTION,
        EXPERTS,
    ],
    rename: |config, name| {
        let (layer, rest) = name.strip_prefix("model.mtp_layers.")?.split_once('.')?;
        let layer = layers(config).ok()?.checked_add(layer.parse().ok()?)?;
        Some(format!("model.layers.{layer}.{rest}"))
    },
    beyond: Some("layers that predict further tokens are not converted"),
    check: |config| {
        let first = config.get("indexer_types").and_then(|types| types.as_array()?.first());
        if first.is_some_and(|ty| ty.as_str() != Some("full")) {
            let expected = "\"full\" first: no layer before it has an indexer to share";
            return Err(config.wrong("indexer_types", "a list that begins otherwise", expected));
        }
        Ok(())
    },
    needs_output: true,
    ..BASE
};

const LIMIT: &str = "swiglu_limit";

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 262_144),
    number("rms_norm_eps", 1e-5),
    count("n_routed_experts", 256),
    count("n_shared_experts", 1),
    count("num_experts_per_tok", 8),
    count("moe_intermediate_size", 768),
    number("routed_scaling_factor", 2.827),
    number(LIMIT, 10.0),
    count("n_group", 1),
    count("topk_group", 1),
    flag("norm_topk_prob", true),
    count("q_lora_rank", 1536),
    count("kv_lora_rank", 512),
    count("qk_nope_head_dim", 192),
    count("qk_rope_head_dim", 64),
    count("v_head_dim", 256),
    default("first_k_dense_replace", Fill::With(leading)),
    count("first_k_dense_replace", 1),
    count("hc_mult", 4),
    number("hc_eps", 1e-6),
    number("hc_magnitude", 2.0),
    count("index_n_heads", 16),
    count("index_head_dim", 128),
    count("index_topk", 2048),
    flag(deepseek2::HAS_CORRECTION, true),
    // One group is no group.
    replaced("topk_group", Fill::With(|config| without_groups(config, "topk_group"))),
    replaced("n_group", Fill::With(|config| without_groups(config, "n_group"))),
];

fn without_groups(config: &Config, key: &str) -> Result<Option<Value>> {
    let one = config.positive(key)? == Some(1);
    Ok((one && config.positive("n_group")? == Some(1)).then_some(Value::Null))
}

/// Layers before the first with experts.
fn leading(config: &Config) -> Result<Option<Value>> {
    let types = config.get("mlp_layer_types").and_then(Value::as_array);
    let dense = |ty: &&Value| ty.as_str() == Some("dense");
    Ok(types.map(|types| types.iter().take_while(dense).count().into()))
}

/// Models whose attention sees everything have no indexer.
fn indexes(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    if config.get("indexer_types").is_none() {
        return Ok(());
    }
    for parameter in indexer::KEYS {
        parameter.write(config, keys)?;
    }
    indexer::types(config, keys)
}

const STREAMS: Dim = Dim::Key("hc_mult");
const ALL_STREAMS: Dim = Dim::Product(&[STREAMS, HIDDEN]);
const TWICE: Dim = Dim::Product(&[TWO, STREAMS]);
const VALUES: Dim = Dim::Product(&[HEADS, Dim::Key("v_head_dim")]);
const COUNT: Dim = Dim::Key("n_routed_experts");
const WIDTH: Dim = Dim::Key("moe_intermediate_size");
const SHARED: Dim = Dim::Product(&[Dim::Key("n_shared_experts"), WIDTH]);
const ONE: Dim = Dim::Number(1);

const OWN: &[Rule] = &[
    Rule::exact("model.hc_head.hc_head_fn", "output_hc_fn.weight", &[STREAMS, ALL_STREAMS]),
    Rule::exact("model.hc_head.hc_head_base", "output_hc_base.weight", &[STREAMS]),
    Rule::exact("model.hc_head.hc_head_scale", "output_hc_scale.weight", &[ONE]),
    Rule::exact(
        "model.layers.{}.hc_attn_layer.hc_pre.hc_fn",
        "blk.{}.hc_attn_fn.weight",
        &[TWICE, ALL_STREAMS],
    ),
    Rule::exact(
        "model.layers.{}.hc_attn_layer.hc_pre.hc_base",
        "blk.{}.hc_attn_base.weight",
        &[TWICE],
    ),
    Rule::exact(
        "model.layers.{}.hc_attn_layer.hc_pre.hc_scale",
        "blk.{}.hc_attn_scale.weight",
        &[TWO],
    ),
    Rule::exact(
        "model.layers.{}.hc_mlp_layer.hc_pre.hc_fn",
        "blk.{}.hc_ffn_fn.weight",
        &[TWICE, ALL_STREAMS],
    ),
    Rule::exact(
        "model.layers.{}.hc_mlp_layer.hc_pre.hc_base",
        "blk.{}.hc_ffn_base.weight",
        &[TWICE],
    ),
    Rule::exact(
        "model.layers.{}.hc_mlp_layer.hc_pre.hc_scale",
        "blk.{}.hc_ffn_scale.weight",
        &[TWO],
    ),
    Rule::exact(
        "model.layers.{}.self_attn.learnable_sink_param",
        "blk.{}.attn_sinks.weight",
        &[HEADS],
    ),
    Rule::new("model.layers.{}.self_attn.linear_gate", "blk.{}.attn_gate", &[VALUES, HIDDEN]),
];

const EXPERTS: &[Rule] = &[
    Rule::new("model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .in_layers(deepseek2::sparse),
    Rule::exact(
        "model.layers.{}.mlp.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        &[COUNT, HIDDEN, WIDTH],
    )
    .in_layers(deepseek2::sparse),
    Rule::split_exact(
        "model.layers.{}.mlp.experts.gate_up_proj",
        halves!(1, "blk.{}.ffn_gate_exps.weight", "blk.{}.ffn_up_exps.weight", WIDTH),
        &[COUNT, Dim::Product(&[TWO, WIDTH]), HIDDEN],
    )
    .in_layers(deepseek2::sparse),
    Rule::new(
        "model.layers.{}.mlp.shared_experts.gate_proj",
        "blk.{}.ffn_gate_shexp",
        &[SHARED, HIDDEN],
    )
    .in_layers(deepseek2::sparse),
    Rule::new(
        "model.layers.{}.mlp.shared_experts.up_proj",
        "blk.{}.ffn_up_shexp",
        &[SHARED, HIDDEN],
    )
    .in_layers(deepseek2::sparse),
    Rule::new(
        "model.layers.{}.mlp.shared_experts.down_proj",
        "blk.{}.ffn_down_shexp",
        &[HIDDEN, SHARED],
    )
    .in_layers(deepseek2::sparse),
];
