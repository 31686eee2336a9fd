//! OpenELM: layers that differ in heads and widths; queries, keys and values in one tensor.

use serde_json::Value;

use super::{
    Architecture, BASE, Fill,
    parameters::{self, Constant, FILE_TYPE, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{Config, Result, tokenizer::Kind};

pub(super) const OPENELM: Architecture = Architecture {
    name: "openelm",
    classes: &["OpenELMForCausalLM"],
    defaults: &[model(
        "openelm",
        &[&[
            default("num_hidden_layers", Fill::Given("num_transformer_layers")),
            count("max_context_length", 2048),
            count("ffn_dim_divisor", 256),
            count("head_dim", 128),
            number("rope_freq_constant", 10_000.0),
            default(WIDTHS, Fill::With(widths)),
            default(ROWS, Fill::With(rows)),
        ]],
    )],
    parameters: &[
        &[
            parameters::required("block_count", super::tensors::LAYERS),
            parameters::required("context_length", &["max_context_length"]),
            parameters::required("embedding_length", &["model_dim"]),
            parameters::required("feed_forward_length", &[WIDTHS]),
            parameters::required("attention.head_count", &["num_query_heads"]),
            parameters::required("attention.head_count_kv", &["num_kv_heads"]),
            parameters::required_number("rope.freq_base", &["rope_freq_constant"]),
            Parameter::Constant("attention.layer_norm_rms_epsilon", Constant::Number(1e-6)),
            parameters::required("rope.dimension_count", &["head_dim"]),
            parameters::required("attention.key_length", &["head_dim"]),
            parameters::required("attention.value_length", &["head_dim"]),
        ],
        FILE_TYPE,
    ],
    prefix: "transformer.",
    tensors: &[&[
        Rule::new("transformer.token_embeddings", "token_embd", &[VOCAB, WIDTH]),
        Rule::new("transformer.norm", "output_norm", &[WIDTH]),
        Rule::new("transformer.layers.{}.attn_norm", "blk.{}.attn_norm", &[WIDTH]),
        Rule::new(
            "transformer.layers.{}.attn.qkv_proj",
            "blk.{}.attn_qkv",
            &[Dim::Key(ROWS), WIDTH],
        ),
        Rule::new("transformer.layers.{}.attn.q_norm", "blk.{}.attn_q_norm", &[OF_HEAD]),
        Rule::new("transformer.layers.{}.attn.k_norm", "blk.{}.attn_k_norm", &[OF_HEAD]),
        Rule::new(
            "transformer.layers.{}.attn.out_proj",
            "blk.{}.attn_output",
            &[WIDTH, Dim::Product(&[Dim::Key("num_query_heads"), Dim::Key("head_dim")])],
        ),
        Rule::new("transformer.layers.{}.ffn_norm", "blk.{}.ffn_norm", &[WIDTH]),
        Rule::split(
            "transformer.layers.{}.ffn.proj_1",
            halves!(0, "blk.{}.ffn_gate", "blk.{}.ffn_up", INNER),
            &[Dim::Product(&[Dim::Number(2), Dim::Key(WIDTHS)]), WIDTH],
        ),
        Rule::new("transformer.layers.{}.ffn.proj_2", "blk.{}.ffn_down", &[WIDTH, INNER]),
    ]],
    tokenizers: &[Kind::SentencePiece],
    ..BASE
};

const WIDTHS: &str = "width of the feed-forward part of each layer";
const ROWS: &str = "rows of queries, keys and values of each layer";
const WIDTH: Dim = Dim::Key("model_dim");
const INNER: Dim = Dim::Key(WIDTHS);
const OF_HEAD: Dim = Dim::Key("head_dim");

/// A multiple of the width for each layer, brought to a multiple of the divisor, but not down by more
/// than a tenth.
fn widths(config: &Config) -> Result<Option<Value>> {
    const KEY: &str = "ffn_multipliers";
    let expected = "a list of positive numbers";
    let Some(factors) = config.get(KEY).and_then(Value::as_array) else {
        return Err(config.missing(KEY, expected));
    };
    let (width, divisor) =
        (config.require("model_dim")? as f64, config.require("ffn_dim_divisor")?);
    let width_of = |factor: &Value| {
        let factor = factor.as_f64().filter(|factor| *factor > 0.0 && *factor < 1e6);
        let exact = factor.ok_or_else(|| config.wrong(KEY, "another value", expected))? * width;
        let steps = (exact + divisor as f64 / 2.0) as u64 / divisor;
        let near = steps.saturating_mul(divisor).max(divisor);
        Ok(Value::from(if (near as f64) < 0.9 * exact {
            near.saturating_add(divisor)
        } else {
            near
        }))
    };
    factors.iter().map(width_of).collect::<Result<Vec<_>>>().map(|widths| Some(widths.into()))
}

fn rows(config: &Config) -> Result<Option<Value>> {
    let head = config.require("head_dim")?;
    let count = super::tensors::layers(config)?;
    let of_layer = |layer| {
        let keys = config.require_in("num_kv_heads", Some(layer))?;
        let heads = config
            .require_in("num_query_heads", Some(layer))?
            .saturating_add(keys.saturating_mul(2));
        Ok(Value::from(heads.saturating_mul(head)))
    };
    (0..count).map(of_layer).collect::<Result<Vec<_>>>().map(|rows| Some(rows.into()))
}
