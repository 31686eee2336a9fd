//! Youtu-VL: SigLIP 2 with windows in most layers, patches as rows, put together by four.

use serde_json::Value;

use super::{Encoder, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, ModelDefaults,
    parameters::{self, Constant, Parameter},
    tensors::{Dim, Rule},
};

pub(super) const YOUTU_VL: Projector = Projector {
    classes: &["YoutuVLForConditionalGeneration"],
    name: "youtuvl",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["siglip2.", "merger."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

const FULL: &str = "fullatt_block_indexes";
const MERGE: Dim = Dim::KeyOr("spatial_merge_size", &TWO);
const SQUARE: Dim = Dim::Product(&[WIDTH, MERGE, MERGE]);

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "siglip2_vision_model",
        values: &[
            COLOURS,
            &[
                // No image has this size, engines want a number.
                count("image_size", 560),
                number("layer_norm_eps", 1e-6),
                text("hidden_act", "gelu_pytorch_tanh"),
            ],
        ],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("youtuvl")),
            EPSILON,
            Parameter::With(|config, keys| {
                const KEY: &str = "hidden_act";
                match config.get(KEY).and_then(Value::as_str) {
                    Some("silu") => keys.set("use_silu", true),
                    Some(
                        "gelu" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_new" | "gelu_accurate",
                    ) => keys.set("use_gelu", true),
                    other => {
                        let found = crate::json::describe(&other.unwrap_or_default().into());
                        return Err(config.wrong(KEY, &found, "silu or a kind of gelu"));
                    }
                }
                Ok(())
            }),
            Parameter::Size("vision.spatial_merge_size", MERGE),
            parameters::count("vision.window_size", &["window_size"]),
            Parameter::With(|config, keys| {
                let Some(value) = config.get(FULL) else {
                    return Err(config.missing(FULL, "a list of layers"));
                };
                let number =
                    |value: &Value| value.as_u64().and_then(|layer| i32::try_from(layer).ok());
                let layers: Option<Vec<i32>> =
                    value.as_array().and_then(|layers| layers.iter().map(number).collect());
                let Some(layers) = layers else {
                    let found = crate::json::describe(value);
                    return Err(config.wrong(FULL, &found, "a list of layers"));
                };
                keys.set("vision.wa_layer_indexes", layers);
                Ok(())
            }),
        ],
    ],
    wrappers: &["siglip2.vision_model."],
    endings: &[
        ("merger.mlp.0.weight", "merger.mlp.first.weight"),
        ("merger.mlp.0.bias", "merger.mlp.first.bias"),
        ("merger.mlp.2.weight", "merger.mlp.second.weight"),
        ("merger.mlp.2.bias", "merger.mlp.second.bias"),
    ],
    tensors: &[
        SIGLIP_LAYERS,
        SIGLIP_HEAD,
        &[
            Rule::new(
                "embeddings.patch_embedding",
                "v.patch_embd",
                &[WIDTH, Dim::Product(&[PATCH, PATCH, CHANNELS])],
            )
            .bias(),
            Rule::new("post_layernorm", "v.post_ln", &[WIDTH]).bias(),
            Rule::new("merger.ln_q", "mm.input_norm", &[WIDTH]).maybe_bias(),
            Rule::new("merger.mlp.first", "mm.0", &[SQUARE, SQUARE]).bias(),
            Rule::new("merger.mlp.second", "mm.2", &[TEXT_WIDTH, SQUARE]).bias(),
        ],
    ],
    ..CLIP
};
