//! EXAONE 4: norms after each part, and of queries and keys; a sliding window in most layers.

use serde_json::Value;

use super::{
    Architecture, BASE,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Rule, layers},
};
use crate::{Config, Result};

pub(super) const EXAONE4: Architecture = Architecture {
    name: "exaone4",
    classes: &["Exaone4ForCausalLM"],
    defaults: &[model(
        "exaone4",
        &[
            &[
                count("vocab_size", 102_400),
                count("max_position_embeddings", 2048),
                number("rms_norm_eps", 1e-5),
                count("num_key_value_heads", 32),
                count("sliding_window", 4096),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, WINDOW],
    tensors: TENSORS,
    check: check_heads,
    computed: llama3_factors,
    ..BASE
};

/// The vocabulary and the sliding window.
pub(super) const WINDOW: &[Parameter] = &[
    parameters::required("vocab_size", &["vocab_size"]),
    parameters::count("attention.sliding_window", &["sliding_window"]),
    Parameter::With(|config, keys| {
        if let (Some(_), Some(flags)) = (config.get("sliding_window"), window(config)?) {
            keys.set("attention.sliding_window_pattern", flags);
        }
        Ok(())
    }),
];

pub(super) const TENSORS: &[&[Rule]] = &[
    EMBEDDING,
    OUTPUT_NORM,
    ATTENTION,
    HEAD_NORMS,
    GATED_MLP,
    &[
        Rule::new(
            "model.layers.{}.post_attention_layernorm",
            "blk.{}.post_attention_norm",
            &[HIDDEN],
        ),
        Rule::new("model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm", &[HIDDEN]),
    ],
];

/// Which layers have a sliding window: by `layer_types`, or by a pattern like "LLLG" or the number
/// of layers of which the last has none.
fn window(config: &Config) -> Result<Option<Vec<bool>>> {
    const KEY: &str = "sliding_window_pattern";
    if config.get("layer_types").is_some() {
        return sliding_layers(config, |_| false).map(Some);
    }
    let count = layers(config)?;
    let flags = match config.get(KEY) {
        Some(Value::String(pattern)) if !pattern.is_empty() => {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            pattern.chars().cycle().take(count).map(|kind| kind == 'L').collect()
        }
        Some(Value::Number(_)) => {
            let every = config.require(KEY)?;
            (1..=count).map(|layer| layer.checked_rem(every) != Some(0)).collect()
        }
        // The class assumes four.
        None => (1..=count).map(|layer| layer % 4 != 0).collect(),
        _ => return Ok(None),
    };
    Ok(Some(flags))
}
