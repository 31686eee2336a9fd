//! Hyper-parameters that most families have.

use crate::{Config, Result};

pub use super::parameter::*;

use super::{
    defaults::{Default, Fill},
    layers::all_layers,
    rope,
    shared::{HEAD, KEY_HEADS_BY_LAYER, or_null},
};

/// What the reference converter writes first for every text model that does not say otherwise.
pub const COMMON: &[Parameter] = &[
    Parameter::With(|config, keys| {
        keys.set_count("block_count", all_layers(config)?);
        Ok(())
    }),
    count("context_length", CONTEXT),
    count("embedding_length", &["hidden_size", "n_embd", "dim"]),
    count(
        "feed_forward_length",
        &[
            "prefix_dense_intermediate_size",
            "dense_intermediate_size",
            "intermediate_size",
            "n_inner",
            "hidden_dim",
        ],
    ),
    count("attention.head_count", &["num_attention_heads", "n_head", "n_heads"]),
    count("attention.head_count_kv", &[KEY_HEADS_BY_LAYER, "num_key_value_heads", "n_kv_heads"]),
    Parameter::With(causal),
    Parameter::With(rope::write),
    number("attention.layer_norm_rms_epsilon", &["rms_norm_eps", "norm_eps"]),
    number(
        "attention.layer_norm_epsilon",
        &["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"],
    ),
    whole("expert_count", &["num_local_experts", "num_experts", "n_routed_experts"]),
    whole("expert_used_count", &["num_experts_per_tok", "num_experts_per_token", "top_k_experts"]),
    count("expert_group_count", &["n_group"]),
    count("expert_group_used_count", &["topk_group"]),
    Parameter::With(gating),
];

/// Keys of config.json for the longest context, in the order they are looked for.
pub const CONTEXT: &[&str] = &[
    "max_position_embeddings",
    "n_ctx",
    "n_positions",
    "max_length",
    "max_sequence_length",
    "model_max_length",
];

/// Written after [`COMMON`] for models whose heads may have a size of their own.
pub const KEY_LENGTHS: &[Parameter] =
    &[count("attention.key_length", &["head_dim"]), count("attention.value_length", &["head_dim"])];

/// The size of a head, given or not.
pub(super) const HEAD_LENGTHS: Parameter = Parameter::With(|config, keys| {
    let size = HEAD.size(config)?;
    keys.set_count("attention.key_length", size);
    keys.set_count("attention.value_length", size);
    Ok(())
});

/// The place of the file type.
pub const FILE_TYPE: &[Parameter] = &[Parameter::FileType];

fn causal(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    if config.get("is_causal").is_some() && !config.flag("is_causal")? {
        keys.set("attention.causal", false);
    }
    Ok(())
}

/// Keys of config.json for how the router's scores become weights.
const SCORES: &[&str] = &[
    "score_function",
    "scoring_func",
    "score_func",
    "moe_router_activation",
    "moe_router_activation_func",
    "expert_selection_fn",
];

/// What classes assume that know no other way than sigmoid. llama.cpp assumes softmax for some of
/// them and loads no model of others; the reference converter writes what config.json says.
pub(super) const SIGMOID_SCORES: &[Default] = &[or_null(
    "scoring_func",
    Fill::With(|config| {
        let is_said = SCORES.iter().any(|key| config.get(key).is_some());
        Ok((!is_said && !config.like_reference()).then(|| "sigmoid".into()))
    }),
)];

/// How the router's scores become weights.
fn gating(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let Some(key) = config.alias(SCORES) else { return Ok(()) };
    let Some(value) = config.get(key) else { return Ok(()) };
    let function = match value.as_str() {
        Some("softmax") => 1u32,
        Some("sigmoid") => 2,
        Some("sqrtsoftplus") => 4,
        _ => {
            let expected = "softmax, sigmoid or sqrtsoftplus";
            return Err(config.wrong(key, &crate::json::describe(value), expected));
        }
    };
    keys.set("expert_gating_func", function);
    Ok(())
}
