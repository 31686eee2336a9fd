//! Mistral's models in Mistral's own format: Llama's graph, whose rotary pairs are side by side already.

use serde_json::Value;

use crate::{Config, Result};

use super::{
    Architecture, BASE, Fill, llama,
    parameter::Keys,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::Rule,
};

/// Models whose queries are not scaled with their position.
const MISTRAL_FORMAT: Architecture = Architecture {
    name: "llama",
    defaults: &[model(
        "mistral",
        &[
            &[
                number("rms_norm_eps", 1e-5),
                number("rope_theta", 10_000.0),
                count("max_position_embeddings", 32_768),
                or_null("head_dim", Fill::Quotient("hidden_size", "num_attention_heads")),
            ],
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, llama::WHOLE_HEAD, SCALING],
    tensors: TENSORS,
    check,
    tokenizers: llama::TOKENIZERS,
    ..BASE
};

/// Ministral 3 and later.
const SCALED: Architecture = Architecture { name: "mistral3", ..MISTRAL_FORMAT };

/// The graph of a model in this format.
pub(super) fn find(config: &Config) -> &'static Architecture {
    static PLAIN: Architecture = MISTRAL_FORMAT;
    static WITH_POSITIONS: Architecture = SCALED;
    if config.has("llama_4_scaling") { &WITH_POSITIONS } else { &PLAIN }
}

const TENSORS: &[&[Rule]] = &[&[
    Rule::new("tok_embeddings", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new("output", "output", &[VOCAB, HIDDEN]).head(),
    Rule::new("norm", "output_norm", &[HIDDEN]),
    Rule::new("layers.{}.attention_norm", "blk.{}.attn_norm", &[HIDDEN]),
    Rule::new("layers.{}.ffn_norm", "blk.{}.ffn_norm", &[HIDDEN]),
    Rule::new("layers.{}.attention.wq", "blk.{}.attn_q", &[QUERY, HIDDEN]),
    Rule::new("layers.{}.attention.wk", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN]),
    Rule::new("layers.{}.attention.wv", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN]),
    Rule::new("layers.{}.attention.wo", "blk.{}.attn_output", &[HIDDEN, QUERY]),
    Rule::new("layers.{}.feed_forward.w1", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN]),
    Rule::new("layers.{}.feed_forward.w3", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN]),
    Rule::new("layers.{}.feed_forward.w2", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD]),
]];

fn check(config: &Config) -> Result<()> {
    if config.get("moe").is_some() {
        let expected = "no experts, in Mistral's own format: take the files of transformers";
        return Err(config.wrong("moe", "a mixture of experts", expected));
    }
    check_heads(config)
}

const SCALING: &[Parameter] = &[Parameter::With(|config, keys| {
    if let Some(yarn) = config.get("yarn") {
        yarn_keys(config, yarn, keys)?;
    }
    if let Some(scaling) = config.get("llama_4_scaling") {
        let beta = within(config, scaling, "llama_4_scaling", "beta")?;
        keys.set_number("attention.temperature_scale", beta);
    }
    Ok(())
})];

fn yarn_keys(config: &Config, yarn: &Value, keys: &mut Keys<'_>) -> Result<()> {
    let number = |key| within(config, yarn, "yarn", key);
    let Some(applies) = yarn.get("apply_scale").and_then(Value::as_bool) else {
        return Err(config.missing("yarn.apply_scale", "true or false"));
    };
    let original = "original_max_position_embeddings";
    keys.set("rope.scaling.type", "yarn");
    keys.set_number("rope.scaling.factor", number("factor")?);
    keys.set_number("rope.scaling.yarn_beta_fast", number("beta")?);
    keys.set_number("rope.scaling.yarn_beta_slow", number("alpha")?);
    keys.set_number("rope.scaling.yarn_log_multiplier", if applies { 0.0 } else { 1.0 });
    let length = yarn.get(original).and_then(Value::as_u64).filter(|n| u32::try_from(*n).is_ok());
    match length {
        Some(length) => keys.set_count("rope.scaling.original_context_length", length),
        None => return Err(config.missing(&format!("yarn.{original}"), "a whole number")),
    }
    Ok(())
}

/// A positive number of a block.
fn within(config: &Config, block: &Value, name: &str, key: &str) -> Result<f64> {
    let shown = format!("{name}.{key}");
    let missing = || config.missing(&shown, "a positive number");
    let object = block.as_object().ok_or_else(missing)?;
    config.number_in(object, key, &shown)?.ok_or_else(missing)
}
