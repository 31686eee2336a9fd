//! Kimi's delta attention: layers with a state beside layers with latent attention, as several families
//! have them.

use serde_json::Value;

use crate::{Config, Result};

use super::{
    deepseek2,
    layers::layers,
    nextn,
    parameters::{self, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};

/// Where configurations keep the sizes of the layers with a state.
pub(super) const HEAD_KEYS: &[&str] = &["linear_attn_config.head_dim", "head_dim"];
/// As [`HEAD_KEYS`].
pub(super) const KERNEL_KEYS: &[&str] =
    &["linear_attn_config.short_conv_kernel_size", "short_conv_kernel_size"];

/// Whether a layer has attention: as lists say, or as each group's last layer has it. Lists that name
/// the layers count them from one.
pub(super) fn attends(config: &Config, layer: u64) -> bool {
    if nextn::is_further(config, layer) {
        return true;
    }
    let named = config.get("linear_attn_config.full_attn_layers").and_then(Value::as_array);
    if let Some(named) = named {
        return named.iter().any(|number| number.as_u64() == Some(layer + 1));
    }
    if let Some(group) = config.positive("layer_group_size").ok().flatten() {
        let rest = layers(config).is_ok_and(|layers| layer >= layers / group * group);
        return (layer + 1).is_multiple_of(group) || rest;
    }
    let types = config.get("layer_types").and_then(Value::as_array);
    let at = usize::try_from(layer).unwrap_or(usize::MAX);
    types.and_then(|types| types.get(at)?.as_str()) != Some("linear_attention")
}

pub(super) fn has_state(config: &Config, layer: u64) -> bool {
    !attends(config, layer)
}

/// One head of keys and values in layers with latent attention, none in the others.
pub(super) const KEY_HEADS_BY_LAYER: Parameter = Parameter::With(|config, keys| {
    let heads = |layer| i32::from(attends(config, layer));
    let heads: Vec<i32> = (0..super::tensors::all_layers(config)?).map(heads).collect();
    keys.set("attention.head_count_kv", heads);
    Ok(())
});

/// The sizes of the layers with a state.
pub(super) const SIZES: &[Parameter] = &[
    parameters::required("ssm.conv_kernel", KERNEL_KEYS),
    parameters::required("kda.head_dim", HEAD_KEYS),
];

/// The ranks of latent attention, and what of it turns.
pub(super) const RANKS: &[Parameter] = &[
    parameters::count("attention.q_lora_rank", &["q_lora_rank"]),
    parameters::required("attention.kv_lora_rank", &["kv_lora_rank"]),
    Parameter::With(|config, keys| {
        keys.set_count("rope.dimension_count", deepseek2::ROPE.size(config)?);
        let rank = config.require("kv_lora_rank")?;
        keys.set_count("attention.key_length", rank.saturating_add(deepseek2::ROPE.size(config)?));
        Ok(())
    }),
];

/// The length of values, which are the compressed ones.
pub(super) const VALUE_LENGTH: Parameter =
    parameters::required("attention.value_length", &["kv_lora_rank"]);

/// The sizes of latent attention before compression.
pub(super) const LATENT_LENGTHS: Parameter = Parameter::With(|config, keys| {
    let nope = config.require("qk_nope_head_dim")?;
    let key = nope.saturating_add(deepseek2::ROPE.size(config)?);
    keys.set_count("attention.key_length_mla", key);
    keys.set_count("attention.value_length_mla", config.require("v_head_dim")?);
    Ok(())
});

const ONE: Dim = Dim::Number(1);
const KERNEL: Dim =
    Dim::Derived("tokens that a convolution sees", |config| sized(config, KERNEL_KEYS));
pub(super) const HEAD_OF_STATE: Dim =
    Dim::Derived("size of a head of the state", |config| sized(config, HEAD_KEYS));
/// All heads of the state.
pub(super) const OF_STATE: Dim = Dim::Product(&[HEADS, HEAD_OF_STATE]);

fn sized(config: &Config, keys: &[&'static str]) -> Result<u64> {
    config.require(config.alias(keys).or(keys.first().copied()).unwrap_or_default())
}

const QUERY: Dim = Dim::Product(&[HEADS, QUERY_SIZE]);
/// Values of all heads: of the state, or of latent attention.
pub(super) const VALUES: Dim = Dim::Product(&[HEADS, VALUE_SIZE]);
const QUERY_SIZE: Dim = Dim::InLayer("size of a query of the layer", |config, layer| {
    if attends(config, layer) { QUERY_OF_LATENT.size(config) } else { HEAD_OF_STATE.size(config) }
});
const QUERY_OF_LATENT: Dim = Dim::Sum(&[Dim::Key("qk_nope_head_dim"), deepseek2::ROPE]);
const VALUE_SIZE: Dim = Dim::InLayer("size of a value of the layer", |config, layer| {
    if attends(config, layer) { config.require("v_head_dim") } else { HEAD_OF_STATE.size(config) }
});

fn has_queries(config: &Config, layer: u64) -> bool {
    !attends(config, layer) || config.get("q_lora_rank").is_none()
}

/// Latent attention, and what both kinds of layers have under one name.
pub(super) const ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .in_layers(has_queries),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, VALUES]),
    Rule::new(
        "model.layers.{}.self_attn.q_a_proj",
        "blk.{}.attn_q_a",
        &[deepseek2::QUERY_RANK, HIDDEN],
    )
    .with("q_lora_rank")
    .in_layers(attends),
    Rule::new(
        "model.layers.{}.self_attn.q_a_layernorm",
        "blk.{}.attn_q_a_norm",
        &[deepseek2::QUERY_RANK],
    )
    .with("q_lora_rank")
    .in_layers(attends),
    Rule::new(
        "model.layers.{}.self_attn.q_b_proj",
        "blk.{}.attn_q_b",
        &[deepseek2::QUERIES, deepseek2::QUERY_RANK],
    )
    .with("q_lora_rank")
    .in_layers(attends),
    deepseek2::KV_A.in_layers(attends),
    deepseek2::KV_A_NORM.in_layers(attends),
    deepseek2::KV_B.in_layers(attends),
];

/// One for each of queries, keys and values: with an axis of one in between, or without.
pub(super) const CONVOLUTIONS: &[Rule] = &[
    Rule::new(
        "model.layers.{}.self_attn.q_conv1d",
        "blk.{}.ssm_conv1d_q",
        &[OF_STATE, ONE, KERNEL],
    )
    .form("three axes")
    .in_layers(has_state),
    Rule::new(
        "model.layers.{}.self_attn.k_conv1d",
        "blk.{}.ssm_conv1d_k",
        &[OF_STATE, ONE, KERNEL],
    )
    .form("three axes")
    .in_layers(has_state),
    Rule::new(
        "model.layers.{}.self_attn.v_conv1d",
        "blk.{}.ssm_conv1d_v",
        &[OF_STATE, ONE, KERNEL],
    )
    .form("three axes")
    .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.q_conv1d", "blk.{}.ssm_conv1d_q", &[OF_STATE, KERNEL])
        .parts(&[&[Step::Unfold(1, &[ONE])]])
        .form("two axes")
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.k_conv1d", "blk.{}.ssm_conv1d_k", &[OF_STATE, KERNEL])
        .parts(&[&[Step::Unfold(1, &[ONE])]])
        .form("two axes")
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.v_conv1d", "blk.{}.ssm_conv1d_v", &[OF_STATE, KERNEL])
        .parts(&[&[Step::Unfold(1, &[ONE])]])
        .form("two axes")
        .in_layers(has_state),
];

/// Keys and values that go into the state, and how much they count.
pub(super) const STATE: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[OF_STATE, HIDDEN])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[OF_STATE, HIDDEN])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.b_proj", "blk.{}.ssm_beta", &[HEADS, HIDDEN])
        .in_layers(has_state),
    Rule::exact("model.layers.{}.self_attn.dt_bias", "blk.{}.ssm_dt.bias", &[OF_STATE])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.o_norm", "blk.{}.ssm_norm", &[HEAD_OF_STATE])
        .in_layers(has_state),
];

/// How fast the state decays: a matrix of low rank.
pub(super) const DECAY: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.f_a_proj", "blk.{}.ssm_f_a", &[HEAD_OF_STATE, HIDDEN])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.f_b_proj", "blk.{}.ssm_f_b", &[OF_STATE, HEAD_OF_STATE])
        .in_layers(has_state),
];

/// What comes out of the state is gated: by a matrix of low rank.
pub(super) const GATE: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.g_a_proj", "blk.{}.ssm_g_a", &[HEAD_OF_STATE, HIDDEN])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.g_b_proj", "blk.{}.ssm_g_b", &[OF_STATE, HEAD_OF_STATE])
        .in_layers(has_state),
];
