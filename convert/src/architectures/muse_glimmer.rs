//! Muse Glimmer, its text model: norms on both sides, gated attention, a sliding window in three of four
//! layers, no rotation in the others.

use serde_json::Value;

use crate::{
    Config, Result,
    model::Tensor,
    tokenizer::{Adjustment, Kind},
};

use super::{
    Architecture, BASE, Default, Fill, gemma,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    shared::*,
    tensors::{Rule, layers},
};

pub(super) const MUSE_GLIMMER: Architecture = Architecture {
    name: "muse-glimmer",
    classes: &["MuseGlimmerForConditionalGeneration"],
    defaults: &[part("muse_glimmer_text", SIZES, DEFAULTS)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required_number("final_logit_softcapping", &["final_logit_softcapping"]),
            parameters::required_number("logit_scale", &["output_multiplier"]),
            parameters::required("attention.sliding_window", &["sliding_window"]),
            Parameter::With(|config, keys| {
                let sliding = sliding_layers(config, |_| false)?;
                keys.set("attention.sliding_window_pattern", sliding);
                Ok(())
            }),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        gemma::FOUR_NORMS,
        ROTARY_ATTENTION,
        &[Rule::new("model.layers.{}.self_attn.gate_proj", "blk.{}.attn_gate", &[QUERY, HIDDEN])],
        GATED_MLP,
    ],
    check: check_heads,
    computed: head_norms,
    needs_output: true,
    tokenizers: &[Kind::ByteLevel],
    special: &[Adjustment::Roles(&[("eot", "<|eot|>")])],
    ..BASE
};

const SIZES: &[Default] = &sizes([202_048, 6656, 19_968, 52, 32]);

const DEFAULTS: &[&[Default]] = &[
    &[
        count("max_position_embeddings", 131_072),
        number("rms_norm_eps", 1e-5),
        count("num_key_value_heads", 2),
        count("head_dim", 128),
        count("sliding_window", 2048),
        number("final_logit_softcapping", 20.0),
        number("output_multiplier", 0.196_116_135_138_184_04),
        number(SCALE, 3.87),
        or_null("layer_types", Fill::With(kinds)),
    ],
    THETA,
];

const SCALE: &str = "qk_scale_factor";

/// Counted from the last layer, every fourth has full attention.
fn kinds(config: &Config) -> Result<Option<Value>> {
    let count = layers(config)?;
    let kind = |layer| {
        if (count - layer) % 4 == 1 { "full_attention" } else { "sliding_attention" }
    };
    Ok(Some((0..count).map(kind).collect()))
}

/// Queries and keys are normalized without weights; then queries are multiplied by one number, which
/// the weights of their norm hold.
fn head_norms(config: &Config, _: &mut Keys<'_>) -> Result<Vec<Tensor>> {
    let size = usize::try_from(HEAD.size(config)?).unwrap_or(usize::MAX);
    let scale = config.number(SCALE)?.unwrap_or(1.0) as f32;
    let norms = |layer| {
        [("q", scale), ("k", 1.0)].map(|(part, scale)| {
            vector(&format!("blk.{layer}.attn_{part}_norm.weight"), vec![scale; size])
        })
    };
    Ok((0..layers(config)?).flat_map(norms).collect())
}
