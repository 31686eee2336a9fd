//! Janus-Pro: SigLIP, and as many linear layers as its configuration says.

use serde_json::Value;

use super::{Encoder, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, Default, ModelDefaults,
    parameters::{Constant, Parameter},
    tensors::{Dim, Rule},
};

pub(super) const JANUS: Projector = Projector {
    classes: &["JanusForConditionalGeneration"],
    name: "janus_pro",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_model.", "aligner."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

const DEFAULTS: &[Default] = &[
    count("hidden_size", 1024),
    count("num_hidden_layers", 24),
    count("num_attention_heads", 16),
    count("num_channels", 3),
    count("image_size", 384),
    count("patch_size", 16),
    number("layer_norm_eps", 1e-6),
    number("mlp_ratio", 4.0),
    with("intermediate_size", |config| {
        let ratio = config.number("mlp_ratio")?.unwrap_or(4.0);
        let width = config.require("hidden_size")? as f64 * ratio;
        Ok(Some((width.round_ties_even() as u64).into()))
    }),
    count("projection_dim", 2048),
    count("depth", 2),
    text("hidden_act", "gelu"),
];

/// What the first linear layer takes, and the others.
const INPUT: Dim = Dim::InLayer("hidden_size or projection_dim", |config, layer| {
    config.require(if layer == 0 { "hidden_size" } else { "projection_dim" })
});
const OUTPUT: Dim = Dim::Key("projection_dim");

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "janus_vision_model",
        values: &[DEFAULTS],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("janus_pro")),
            EPSILON,
            Parameter::With(|config, keys| {
                match config.get("hidden_act").and_then(Value::as_str).map(str::to_lowercase) {
                    Some(act) if act == "gelu" => keys.set("use_gelu", true),
                    Some(act) if act == "silu" => keys.set("use_silu", true),
                    _ => {}
                }
                Ok(())
            }),
        ],
    ],
    wrappers: &["model.vision_model.", "vision_model.", "model."],
    rename: |_, name| {
        if let Some(rest) = name.strip_prefix("aligner.fc1.") {
            return Some(format!("aligner.0.{rest}"));
        }
        let (number, rest) = name.strip_prefix("aligner.hidden_layers.")?.split_once('.')?;
        let number: u64 = number.parse().ok()?;
        Some(format!("aligner.{}.{rest}", number.checked_add(1)?))
    },
    tensors: &[
        SIGLIP_ENDS,
        &[
            Rule::new("encoder.layers.{}.layer_norm1", "v.blk.{}.ln1", &[WIDTH]).bias(),
            Rule::new("encoder.layers.{}.layer_norm2", "v.blk.{}.ln2", &[WIDTH]).bias(),
            Rule::new("encoder.layers.{}.self_attn.q_proj", "v.blk.{}.attn_q", &[WIDTH, WIDTH])
                .maybe_bias(),
            Rule::new("encoder.layers.{}.self_attn.k_proj", "v.blk.{}.attn_k", &[WIDTH, WIDTH])
                .maybe_bias(),
            Rule::new("encoder.layers.{}.self_attn.v_proj", "v.blk.{}.attn_v", &[WIDTH, WIDTH])
                .maybe_bias(),
            Rule::new(
                "encoder.layers.{}.self_attn.projection_layer",
                "v.blk.{}.attn_out",
                &[WIDTH, WIDTH],
            )
            .maybe_bias(),
            Rule::new("encoder.layers.{}.mlp.fc1", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
            Rule::new("encoder.layers.{}.mlp.fc2", "v.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
            Rule::new("aligner.{}", "mm.{}", &[OUTPUT, INPUT]).bias().counted("depth"),
        ],
    ],
    ..CLIP
};
