//! Idefics 3 and SmolVLM: SigLIP, whose patches are put side by side.

use serde_json::Value;

use super::{Encoder, Kept, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, Default, ModelDefaults,
    parameters::{Constant, Parameter},
    tensors::{Dim, Rule},
};

pub(super) const IDEFICS3: Projector = Projector {
    classes: &["Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration"],
    name: "idefics3",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_model.", "vision_tower.", "connector."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[("v.patch_embd.", Kept::F32)],
};

const DEFAULTS: &[Default] = &[
    count("hidden_size", 1152),
    count("intermediate_size", 3072),
    count("num_hidden_layers", 12),
    count("num_attention_heads", 16),
    count("num_channels", 3),
    count("image_size", 224),
    count("patch_size", 32),
    number("layer_norm_eps", 1e-6),
    same(SCALE, "whole scale_factor"),
    count(SCALE, 2),
];

/// Patches side by side, in both directions.
const SCALE: &str = "scale factor";

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "idefics3_vision",
        values: &[DEFAULTS],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("idefics3")),
            EPSILON,
            Parameter::Count {
                key: "vision.projector.scale_factor",
                from: &[SCALE],
                required: true,
            },
            USE_GELU,
            Parameter::With(|config, keys| {
                const KEY: &str = "preprocessor size";
                let edge = config.get(KEY).and_then(|size| size.get("longest_edge"));
                let edge = match edge {
                    None => config.require("image_size")?,
                    Some(edge) => edge
                        .as_u64()
                        .or_else(|| edge.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as u64))
                        .filter(|edge| (1..=u64::from(u32::MAX)).contains(edge))
                        .ok_or_else(|| wrong(config, KEY, edge))?,
                };
                keys.set_count("vision.preproc_image_size", edge);
                Ok(())
            }),
        ],
    ],
    wrappers: TOWERS,
    tensors: &[
        SIGLIP_LAYERS,
        SIGLIP_ENDS,
        &[Rule::new(
            "connector.modality_projection.proj",
            "mm.model.fc",
            &[TEXT_WIDTH, Dim::Product(&[WIDTH, Dim::Key(SCALE), Dim::Key(SCALE)])],
        )],
    ],
    ..CLIP
};

fn wrong(config: &crate::Config, key: &str, found: &Value) -> crate::Error {
    config.wrong(key, &crate::json::describe(found), "a positive whole number as longest_edge")
}
