//! PaddleOCR-VL: SigLIP for images of any size, patches put together by four.

use std::path::Path;

use serde_json::Value;

use super::{Encoder, Projector, shared::*};
use crate::{
    Result,
    architectures::{
        Architecture, Default, ModelDefaults,
        parameters::{self, Constant, Parameter},
        tensors::{Dim, Rule},
    },
    json::Object,
};

pub(super) const PADDLEOCR: Projector = Projector {
    classes: &["PaddleOCRVisionModel", "PaddleOCRVLForConditionalGeneration"],
    name: "paddleocr",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["visual.vision_model.", "vision_model.", "mlp_AR."],
        prepare: largest,
        family: &FAMILY,
    }],
    types: &[],
};

/// The size of the images that the positions are for.
const LEARNED: &str = "size of images with learned positions";

/// What is written as the size of an image is that of the largest.
fn largest(_: &Path, part: &mut Object) -> Result<()> {
    let learned = part.get("image_size").cloned().unwrap_or_else(|| 384.into());
    part.insert(LEARNED.into(), learned);
    let most = part.get("preprocessor max_pixels").and_then(Value::as_u64);
    part.extend(most.map(|pixels| ("image_size".to_owned(), pixels.isqrt().into())));
    Ok(())
}

const DEFAULTS: &[Default] = &[
    count("hidden_size", 1152),
    count("intermediate_size", 4304),
    count("num_hidden_layers", 27),
    count("num_attention_heads", 16),
    count("num_channels", 3),
    count("patch_size", 14),
    count("spatial_merge_size", 2),
    same("layer_norm_eps", "rms_norm_eps"),
];

const POSITIONS: Dim = Dim::Derived("patches of an image", |config| {
    let side = config.require(LEARNED)? / config.require("patch_size")?;
    Ok(side.saturating_mul(side))
});
const SQUARE: Dim =
    Dim::Product(&[WIDTH, Dim::Key("spatial_merge_size"), Dim::Key("spatial_merge_size")]);

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "paddleocr_vl_vision",
        values: &[DEFAULTS],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("paddleocr")),
            parameters::required("vision.image_max_pixels", &["preprocessor max_pixels"]),
            parameters::required("vision.image_min_pixels", &["preprocessor min_pixels"]),
            USE_GELU,
            Parameter::With(|config, keys| {
                let epsilon = config.number("rms_norm_eps")?.unwrap_or(1e-6);
                keys.set_number("vision.attention.layer_norm_epsilon", epsilon);
                Ok(())
            }),
        ],
    ],
    wrappers: &["visual.vision_model.", "model.vision_model.", "vision_model."],
    tensors: &[
        SIGLIP_LAYERS,
        SIGLIP_HEAD,
        &[
            Rule::new(
                "embeddings.patch_embedding",
                "v.patch_embd",
                &[WIDTH, CHANNELS, PATCH, PATCH],
            )
            .bias(),
            Rule::new("embeddings.position_embedding", "v.position_embd", &[POSITIONS, WIDTH]),
            Rule::left_out("embeddings.packing_position_embedding", "nothing reads them"),
            Rule::new("post_layernorm", "v.post_ln", &[WIDTH]).bias(),
            Rule::new("mlp_AR.pre_norm", "mm.input_norm", &[WIDTH]).bias(),
            Rule::new("mlp_AR.linear_1", "mm.1", &[SQUARE, SQUARE]).bias(),
            Rule::new("mlp_AR.linear_2", "mm.2", &[TEXT_WIDTH, SQUARE]).bias(),
        ],
    ],
    ..CLIP
};
