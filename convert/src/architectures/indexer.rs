//! Indexers, which choose the tokens that attention looks at.

use serde_json::Value;

use crate::{Config, Result};

use super::{
    deepseek2, kda,
    layers::layers,
    parameters::{self, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

/// Its sizes.
pub(super) const KEYS: &[Parameter] = &[
    parameters::required("attention.indexer.head_count", &["index_n_heads"]),
    parameters::required("attention.indexer.key_length", &["index_head_dim"]),
    parameters::required("attention.indexer.top_k", &["index_topk"]),
];

/// Which layers have an indexer of their own.
pub(super) fn types(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    const TYPES: &str = "indexer_types";
    let Some(types) = config.get(TYPES).and_then(Value::as_array) else { return Ok(()) };
    let expected = layers(config)?;
    if types.len() as u64 != expected {
        let expected = format!("{expected} entries, one for each layer");
        return Err(config.wrong(TYPES, &format!("a list of {}", types.len()), &expected));
    }
    let full: Vec<bool> = types.iter().map(|ty| ty.as_str() == Some("full")).collect();
    keys.set("attention.indexer.types", full);
    Ok(())
}

/// An indexer, in the layers that have one of their own.
pub(super) const RULES: &[Rule] = &[
    Rule::new(
        "model.layers.{}.self_attn.indexer.wq_b",
        "blk.{}.indexer.attn_q_b",
        &[
            Dim::Product(&[Dim::Key("index_n_heads"), Dim::Key("index_head_dim")]),
            deepseek2::QUERY_RANK,
        ],
    )
    .in_layers(indexes),
    Rule::new("model.layers.{}.self_attn.indexer.wk", "blk.{}.indexer.attn_k", &[INDEX, HIDDEN])
        .in_layers(indexes),
    Rule::new("model.layers.{}.self_attn.indexer.k_norm", "blk.{}.indexer.k_norm", &[INDEX])
        .bias()
        .in_layers(indexes),
    Rule::new(
        "model.layers.{}.self_attn.indexer.weights_proj",
        "blk.{}.indexer.proj",
        &[Dim::Key("index_n_heads"), HIDDEN],
    )
    .in_layers(indexes),
];

/// As [`RULES`], where some layers have no attention.
pub(super) const RULES_OF_ATTENTION: &[Rule] = &[
    Rule::new(
        "model.layers.{}.self_attn.indexer.wq_b",
        "blk.{}.indexer.attn_q_b",
        &[
            Dim::Product(&[Dim::Key("index_n_heads"), Dim::Key("index_head_dim")]),
            deepseek2::QUERY_RANK,
        ],
    )
    .in_layers(indexes_where_it_attends),
    Rule::new("model.layers.{}.self_attn.indexer.wk", "blk.{}.indexer.attn_k", &[INDEX, HIDDEN])
        .in_layers(indexes_where_it_attends),
    Rule::new("model.layers.{}.self_attn.indexer.k_norm", "blk.{}.indexer.k_norm", &[INDEX])
        .bias()
        .in_layers(indexes_where_it_attends),
    Rule::new(
        "model.layers.{}.self_attn.indexer.weights_proj",
        "blk.{}.indexer.proj",
        &[Dim::Key("index_n_heads"), HIDDEN],
    )
    .in_layers(indexes_where_it_attends),
];

const INDEX: Dim = Dim::Key("index_head_dim");

/// Layers whose indexer is another's have none.
fn indexes(config: &Config, layer: u64) -> bool {
    let index = usize::try_from(layer).unwrap_or(usize::MAX);
    let types = config.get("indexer_types").and_then(Value::as_array);
    types.and_then(|types| types.get(index)).is_none_or(|ty| ty.as_str() == Some("full"))
}

/// As [`indexes`], where some layers have no attention.
pub(super) fn indexes_where_it_attends(config: &Config, layer: u64) -> bool {
    indexes(config, layer) && kda::attends(config, layer)
}
