//! What several families have in common.

use serde_json::Value;

use crate::{
    Config, Result,
    json::describe,
    model::{Tensor, TensorData},
};

use super::{
    defaults::{Default, Fill, ModelDefaults},
    layers::{all_layers, layers},
    llama3,
    parameter::{Keys, Parameter},
    rope,
    rule::{Dim, Rule, Step, Target},
};

pub(super) const VOCAB: Dim = Dim::Key("vocab_size");
pub(super) const HIDDEN: Dim = Dim::Key("hidden_size");
pub(super) const FEED_FORWARD: Dim = Dim::Key("intermediate_size");
pub(super) const HEADS: Dim = Dim::Key("num_attention_heads");
pub(super) const KEY_HEADS: Dim = Dim::Key("num_key_value_heads");
/// The size of a head: `head_dim`, which config.json may leave out.
pub(super) const HEAD: Dim =
    Dim::Derived("size of a head", |config| match config.positive("head_dim")? {
        Some(size) => Ok(size),
        None => {
            let width = config.alias(&["hidden_size", "d_model"]).unwrap_or("hidden_size");
            config.quotient(width, "num_attention_heads")
        }
    });
pub(super) const QUERY: Dim = Dim::Product(&[HEADS, HEAD]);
pub(super) const KEY_VALUE: Dim = Dim::Product(&[KEY_HEADS, HEAD]);
pub(super) const TWO: Dim = Dim::Number(2);

pub(super) const fn default(key: &'static str, value: Fill) -> Default {
    Default { key, value, null: false, given: false }
}

pub(super) const fn or_null(key: &'static str, value: Fill) -> Default {
    Default { key, value, null: true, given: false }
}

/// A value that takes the place of the one given.
pub(super) const fn replaced(key: &'static str, value: Fill) -> Default {
    Default { key, value, null: false, given: true }
}

pub(super) const fn count(key: &'static str, value: u64) -> Default {
    default(key, Fill::Whole(value))
}

pub(super) const fn number(key: &'static str, value: f64) -> Default {
    default(key, Fill::Number(value))
}

pub(super) const fn flag(key: &'static str, value: bool) -> Default {
    default(key, Fill::Flag(value))
}

pub(super) const fn model(
    model_type: &'static str,
    values: &'static [&'static [Default]],
) -> ModelDefaults {
    ModelDefaults { model_type, values, in_wrapper: &[] }
}

/// As [`model`]; `in_wrapper` are the sizes that multimodal models leave out.
pub(super) const fn part(
    model_type: &'static str,
    in_wrapper: &'static [Default],
    values: &'static [&'static [Default]],
) -> ModelDefaults {
    ModelDefaults { model_type, values, in_wrapper }
}

/// Sizes that a class assumes: vocabulary, width, width of the feed-forward part, layers, heads.
pub(super) const fn sizes(
    [vocabulary, hidden, feed_forward, layers, heads]: [u64; 5],
) -> [Default; 5] {
    [
        count("vocab_size", vocabulary),
        count("hidden_size", hidden),
        count("intermediate_size", feed_forward),
        count("num_hidden_layers", layers),
        count("num_attention_heads", heads),
    ]
}

/// Filled in by families whose layers differ: the key and value heads of each layer.
pub(super) const KEY_HEADS_BY_LAYER: &str = "key and value heads of each layer";

/// As many key and value heads as query heads, where config.json has no number.
pub(super) const SAME_HEADS: &[Default] =
    &[or_null("num_key_value_heads", Fill::Same("num_attention_heads"))];

/// The most common base frequency.
pub(super) const THETA: &[Default] = &[number("rope_theta", 10_000.0)];

/// Refuses a head of its own, where the graph has none.
pub(super) fn only_tied(config: &Config) -> Result<()> {
    const TIED: &str = "tie_word_embeddings";
    if config.get(TIED).is_some() && !config.flag(TIED)? {
        let expected = "true: llama.cpp has no other output for it than the token embedding";
        return Err(config.wrong(TIED, "false", expected));
    }
    Ok(())
}

/// Each key and value head serves the same number of query heads.
pub(super) fn check_heads(config: &Config) -> Result<()> {
    config.quotient("num_attention_heads", "num_key_value_heads").map(|_| ())
}

/// Hugging Face keeps the two halves of a rotary pair half a head apart; models of Llama's graph
/// have them side by side in GGUF.
pub(super) const ROTARY_QUERY: &[&[Step]] =
    &[&[Step::Unfold(0, &[HEADS, TWO]), Step::Swap(1, 2), Step::Fold(0, 3)]];
/// As [`ROTARY_QUERY`].
pub(super) const ROTARY_KEY: &[&[Step]] =
    &[&[Step::Unfold(0, &[KEY_HEADS, TWO]), Step::Swap(1, 2), Step::Fold(0, 3)]];

pub(super) const EMBEDDING: &[Rule] = &[
    Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head(),
];

pub(super) const OUTPUT_NORM: &[Rule] = &[Rule::new("model.norm", "output_norm", &[HIDDEN])];

/// Norms before attention and before the feed-forward part.
pub(super) const NORMS: &[Rule] = &[
    Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN]),
];

pub(super) const ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .bias_if("attention_bias"),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias"),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias"),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .bias_if("attention_bias"),
];

/// [`ATTENTION`] with rotary pairs side by side.
pub(super) const ROTARY_ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .parts(ROTARY_QUERY)
        .bias_if("attention_bias"),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .parts(ROTARY_KEY)
        .bias_if("attention_bias"),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias"),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .bias_if("attention_bias"),
];

/// Attention of Qwen2: biases, but none on the output.
pub(super) const BIASED_ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN]).bias(),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN]).bias(),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN]).bias(),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY]),
];

/// Norms of queries and keys, one for all heads.
pub(super) const HEAD_NORMS: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", &[HEAD]),
    Rule::new("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", &[HEAD]),
];

/// Norms of all queries and of all keys.
pub(super) const WIDE_NORMS: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", &[QUERY]),
    Rule::new("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", &[KEY_VALUE]),
];

pub(super) const GATED_MLP: &[Rule] = &[
    Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
        .bias_if("mlp_bias"),
    Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
        .bias_if("mlp_bias"),
    Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .bias_if("mlp_bias"),
];

/// The frequency factors of `rope_type: llama3`.
pub(super) fn llama3_factors(config: &Config, _: &mut Keys<'_>) -> Result<Vec<Tensor>> {
    let factors = llama3::factors(config, HEAD.size(config)?)?;
    Ok(factors.into_iter().map(|factors| vector("rope_freqs.weight", factors)).collect())
}

pub(super) fn vector(name: &str, values: Vec<f32>) -> Tensor {
    Tensor {
        name: name.into(),
        shape: vec![values.len() as u64],
        data: TensorData::Computed(values),
    }
}

/// The part of a head that is rotated, as most families count it: of all heads together, then
/// divided.
pub(super) const ROTATED: Parameter = Parameter::With(|config, keys| {
    keys.set_count("rope.dimension_count", rotated(config)?);
    Ok(())
});

pub(super) fn rotated(config: &Config) -> Result<u64> {
    let share = rope::Rope::read(config)?.partial()?.unwrap_or(1.0);
    let (hidden, heads) = (HIDDEN.size(config)?, HEADS.size(config)?);
    Ok((share * hidden as f64) as u64 / heads)
}

/// As [`ROTATED`], counted for each head.
pub(super) const ROTATED_OF_HEAD: Parameter = Parameter::With(|config, keys| {
    let share = rope::Rope::read(config)?.partial()?.unwrap_or(1.0);
    let head = HIDDEN.size(config)? / HEADS.size(config)?;
    keys.set_count("rope.dimension_count", (share * head as f64) as u64);
    Ok(())
});

/// The base frequency alone.
pub(super) const FREQUENCY: Parameter = Parameter::With(|config, keys| {
    if let Some(theta) = rope::Rope::read(config)?.number("rope_theta")? {
        keys.set_number("rope.freq_base", theta);
    }
    Ok(())
});

/// Which layers have a sliding window, one flag each.
pub(super) fn sliding_layers(config: &Config, otherwise: fn(u64) -> bool) -> Result<Vec<bool>> {
    match config.get("layer_types").and_then(|types| types.as_array()) {
        Some(types) => {
            Ok(types.iter().map(|ty| ty.as_str() == Some("sliding_attention")).collect())
        }
        None => Ok((0..layers(config)?).map(otherwise).collect()),
    }
}

/// The bounds of the activation in each layer; `null`, and a layer behind the list, has none.
pub(super) fn limits(config: &Config, keys: &mut Keys<'_>, from: &str, key: &str) -> Result<()> {
    let Some(value) = config.get(from) else { return Ok(()) };
    let wrong = || {
        let expected = "a list of numbers or null, one for each layer";
        config.wrong(from, &describe(value), expected)
    };
    let mut limits = value.as_array().ok_or_else(wrong)?.iter();
    let limits = (0..all_layers(config)?).map(|_| match limits.next() {
        None | Some(Value::Null) => Ok(0.0),
        Some(limit) => {
            let limit = limit.as_f64().filter(|n| *n >= 0.0 && *n <= f64::from(f32::MAX));
            limit.map(|n| n as f32).ok_or_else(wrong)
        }
    });
    keys.set(key, limits.collect::<Result<Vec<f32>>>()?);
    Ok(())
}

const MOE_WIDTH: Dim = Dim::Key("moe_intermediate_size");
const EXPERT_COUNT: Dim = Dim::Key("num_experts");

/// The form in which each expert has tensors of its own.
pub(super) const APART: &str = "a tensor for each expert";
/// The form in which all experts of a layer are in one tensor.
pub(super) const IN_ONE: &str = "one tensor for all experts";

/// Experts of the Qwen families, in the order the reference converter stacks them.
pub(super) const EXPERTS: &[Rule] = &[
    Rule::new("model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp", &[EXPERT_COUNT, HIDDEN]),
    Rule::new(
        "model.layers.{}.mlp.experts.{}.down_proj",
        "blk.{}.ffn_down_exps",
        &[HIDDEN, MOE_WIDTH],
    )
    .stacked("num_experts")
    .form(APART),
    Rule::new(
        "model.layers.{}.mlp.experts.{}.gate_proj",
        "blk.{}.ffn_gate_exps",
        &[MOE_WIDTH, HIDDEN],
    )
    .stacked("num_experts")
    .form(APART),
    Rule::new("model.layers.{}.mlp.experts.{}.up_proj", "blk.{}.ffn_up_exps", &[MOE_WIDTH, HIDDEN])
        .stacked("num_experts")
        .form(APART),
    Rule::exact(
        "model.layers.{}.mlp.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        &[EXPERT_COUNT, HIDDEN, MOE_WIDTH],
    )
    .form(IN_ONE),
    Rule::split_exact(
        "model.layers.{}.mlp.experts.gate_up_proj",
        &[
            Target {
                name: "blk.{}.ffn_gate_exps.weight",
                parts: &[&[Step::Narrow { axis: 1, from: None, len: MOE_WIDTH }]],
            },
            Target {
                name: "blk.{}.ffn_up_exps.weight",
                parts: &[&[Step::Narrow { axis: 1, from: Some(MOE_WIDTH), len: MOE_WIDTH }]],
            },
        ],
        &[EXPERT_COUNT, Dim::Product(&[Dim::Number(2), Dim::Key("moe_intermediate_size")]), HIDDEN],
    )
    .form(IN_ONE),
];
