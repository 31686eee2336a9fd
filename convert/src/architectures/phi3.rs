//! Phi-3, 3.5 and 4: queries, keys and values in one tensor, gate and up in one tensor, and
//! factors for long contexts.

use serde_json::Value;

use crate::{Config, Result, model::Tensor, tokenizer::Adjustment};

use super::{
    Architecture, BASE, Fill,
    parameters::{self, Keys, Parameter},
    rope::{ORIGINAL, Rope},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const PHI3: Architecture = Architecture {
    name: "phi3",
    classes: &["Phi3ForCausalLM", "Phi4ForCausalLMV"],
    defaults: &[model(
        "phi3",
        &[
            &[
                count("max_position_embeddings", 4096),
                count(ORIGINAL, 4096),
                number("rms_norm_eps", 1e-5),
            ],
            THETA,
            SAME_HEADS,
            &[default(ORIGINAL_CONTEXT, Fill::With(original_context))],
        ],
    )],
    parameters: &[KEYS],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        &[
            Rule::new(
                "model.layers.{}.self_attn.qkv_proj",
                "blk.{}.attn_qkv",
                &[Dim::Sum(&[QUERY, KEY_VALUE, KEY_VALUE]), HIDDEN],
            ),
            Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY]),
            Rule::new(
                "model.layers.{}.mlp.gate_up_proj",
                "blk.{}.ffn_up",
                &[Dim::Product(&[Dim::Number(2), Dim::Key("intermediate_size")]), HIDDEN],
            ),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD]),
        ],
    ],
    check: check_heads,
    computed: factors,
    special: &[Adjustment::AddedTokensOfJson],
    ..BASE
};

pub(super) const KEYS: &[Parameter] = &[
    parameters::required("context_length", &["n_positions", "max_position_embeddings"]),
    parameters::required("rope.scaling.original_context_length", &[ORIGINAL_CONTEXT]),
    parameters::required("embedding_length", &["hidden_size"]),
    parameters::required("feed_forward_length", &["intermediate_size"]),
    parameters::required("block_count", &["num_hidden_layers"]),
    parameters::required("attention.head_count", &["num_attention_heads"]),
    parameters::required("attention.head_count_kv", &["num_key_value_heads"]),
    parameters::required_number("attention.layer_norm_rms_epsilon", &["rms_norm_eps"]),
    ROTATED,
    FREQUENCY,
    Parameter::FileType,
    // 0 tells Phi-4 from the others.
    Parameter::Whole {
        key: "attention.sliding_window",
        from: &["sliding_window"],
        otherwise: Some(0),
    },
];

/// The context before it was scaled.
pub(super) const ORIGINAL_CONTEXT: &str = "context before it was scaled";

/// This class declares it beside the RoPE block, and there it counts whatever the block says. But a
/// scaling without factors is none of this class: llama.cpp's converter then takes what the block says.
fn original_context(config: &Config) -> Result<Option<Value>> {
    let rope = Rope::read(config)?;
    let is_scaled = rope.kind()?.is_some_and(|kind| kind != "default");
    let has_factors = rope.numbers("long_factor")?.is_some_and(|factors| !factors.is_empty());
    let own = if is_scaled && !has_factors { rope.own_original_context()? } else { None };
    own.map_or_else(|| config.require(ORIGINAL), Ok).map(|context| Some(context.into()))
}

/// The factors for contexts longer and shorter than the original one. This class takes `yarn` for an
/// older name of `longrope`.
fn factors(config: &Config, keys: &mut Keys<'_>) -> Result<Vec<Tensor>> {
    factors_of(config, keys, longrope)
}

fn longrope(scale: f64, original: f64) -> f64 {
    (1.0 + scale.ln() / original.ln()).sqrt()
}

/// As [`factors`]; what attention is multiplied by with `yarn` follows from how many times longer the
/// context became, and from what it was.
pub(super) fn factors_of(
    config: &Config,
    keys: &mut Keys<'_>,
    yarn: fn(f64, f64) -> f64,
) -> Result<Vec<Tensor>> {
    let rope = Rope::read(config)?;
    let Some(long) = rope.numbers("long_factor")?.filter(|factors| !factors.is_empty()) else {
        return Ok(Vec::new());
    };
    let expected = "a list as long as long_factor, one number for each rotated pair";
    let pairs = rotated(config)?;
    let short = rope.numbers("short_factor")?.filter(|short| short.len() == long.len());
    let Some(short) = short.filter(|short| (short.len() as u64).checked_mul(2) == Some(pairs))
    else {
        return Err(config.wrong(&rope.shown("short_factor"), "of another length", expected));
    };
    let context = config.require("max_position_embeddings")? as f64;
    let original = config.require(ORIGINAL_CONTEXT)? as f64;
    let scale = context / original;
    let factor = match rope.kind()?.as_deref() {
        _ if scale <= 1.0 => 1.0,
        Some("su" | "longrope") => longrope(scale, original),
        Some("yarn") => yarn(scale, original),
        _ => {
            let key = rope.shown("rope_type");
            return Err(config.wrong(&key, "none that has factors", "su, longrope or yarn"));
        }
    };
    if !factor.is_finite() {
        return Err(config.wrong(ORIGINAL, &original.to_string(), "more than 1"));
    }
    keys.set_number("rope.scaling.attn_factor", factor);
    Ok(vec![vector("rope_factors_long.weight", long), vector("rope_factors_short.weight", short)])
}
