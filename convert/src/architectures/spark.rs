//! Spark X2.5: queries, keys and values in one matrix, a gate for each head, rotation by the kind of
//! attention.

use serde_json::Value;

use super::{
    Architecture, BASE,
    layers::layers,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    rope::Rope,
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{Config, Result, json::describe, tokenizer::Kind};

pub(super) const SPARK2_5: Architecture = Architecture {
    name: "spark2_5",
    classes: &["Spark2_5ForCausalLM"],
    defaults: &[model("spark2_5", &[&[number("rms_norm_eps", 1e-6)], SAME_HEADS])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::required("attention.sliding_window", &["sliding_window"]),
            Parameter::With(pattern),
            Parameter::With(|config, keys| turned_by_kind(config, keys, 1.0)),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        &[
            Rule::new("model.layers.{}.self_attn.q_k_v_proj", "blk.{}.attn_qkv", &[ALL, HIDDEN]),
            Rule::new("model.layers.{}.self_attn.g_proj", "blk.{}.attn_gate", &[HEADS, HIDDEN]),
            Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY]),
        ],
        GATED_MLP,
    ],
    check,
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};

const ALL: Dim = Dim::Sum(&[QUERY, KEY_VALUE, KEY_VALUE]);

/// Which layers have a sliding window, as a list has to say.
pub(super) fn pattern(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    const TYPES: &str = "layer_types";
    let expected = layers(config)?;
    let types = config.get(TYPES).and_then(Value::as_array);
    let types =
        types.ok_or_else(|| config.missing(TYPES, "the kind of attention of each layer"))?;
    if types.len() as u64 != expected {
        let expected = format!("{expected} entries, one for each layer");
        return Err(config.wrong(TYPES, &format!("a list of {}", types.len()), &expected));
    }
    let slides = |ty: &Value| match ty.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => {
            let expected = "\"sliding_attention\" and \"full_attention\" only";
            Err(config.wrong(TYPES, &describe(ty), expected))
        }
    };
    let sliding = types.iter().map(slides).collect::<Result<Vec<_>>>()?;
    keys.set("attention.sliding_window_pattern", sliding);
    Ok(())
}

/// How much of a head turns with full attention, and how much with a sliding window, if there are
/// layers with one.
pub(super) fn turned_by_kind(config: &Config, keys: &mut Keys<'_>, otherwise: f64) -> Result<()> {
    let rope = Rope::read(config)?;
    let head = HEAD.size(config)? as f64;
    let full = rope.partial()?.unwrap_or(otherwise);
    keys.set_count("rope.dimension_count", (head * full) as u64);
    if rope.has_sliding() {
        let sliding = rope.sliding_partial()?.unwrap_or(otherwise);
        keys.set_count("rope.dimension_count_swa", (head * sliding) as u64);
    }
    Ok(())
}

/// The graph is that of the published model.
fn check(config: &Config) -> Result<()> {
    for (key, expected) in [("gate_attn_act_mode", "sigmoid"), ("hidden_act", "gelu")] {
        let found = config.get(key);
        if found.and_then(Value::as_str) != Some(expected) {
            let found = found.map_or_else(|| "missing".to_owned(), describe);
            let expected = format!("{expected:?}: llama.cpp has no graph for another");
            return Err(config.wrong(key, &found, &expected));
        }
    }
    const GATE: &str = "headwise_attn_output_gate";
    if !config.flag(GATE)? {
        let expected = "true: llama.cpp has no graph for another gate";
        return Err(config.wrong(GATE, "false", expected));
    }
    check_heads(config)
}
