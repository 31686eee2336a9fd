//! Ling 3.0 VL: Qwen3-VL's encoder, whose output two matrices take outside of it.

use super::{Encoder, Projector, nothing, qwen2vl::SQUARE, qwen3vl, shared::*};
use crate::architectures::{
    Architecture, ModelDefaults,
    parameters::{self, Constant, Parameter},
    tensors::{Dim, Rule},
};

pub(super) const LING3VL: Projector = Projector {
    classes: &["BailingMoeV3VLForConditionalGeneration"],
    name: "ling3vl",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["visual.", "linear_proj."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "qwen3_vl_vision",
        values: &[qwen3vl::DEFAULTS],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("ling3vl")),
            USE_GELU,
            parameters::count("vision.spatial_merge_size", &["spatial_merge_size"]),
            EPSILON,
        ],
    ],
    wrappers: &["model.visual.", "visual."],
    endings: &[
        ("linear_proj.0.weight", "linear_proj.first.weight"),
        ("linear_proj.0.bias", "linear_proj.first.bias"),
        ("linear_proj.2.weight", "linear_proj.second.weight"),
        ("linear_proj.2.bias", "linear_proj.second.bias"),
    ],
    tensors: &[
        qwen3vl::TOWER,
        &[
            Rule::exact("patch_embed.proj.bias", "v.patch_embd.bias", &[WIDTH]).optional(),
            Rule::new("merger.norm", "mm.input_norm", &[WIDTH]).bias(),
            Rule::new("linear_proj.first", "mm.0", &[ROWS, SQUARE]).bias(),
            Rule::new("linear_proj.second", "mm.2", &[TEXT_WIDTH, ROWS]).bias(),
        ],
    ],
    ..CLIP
};

/// No key says how wide the output is in between.
const ROWS: Dim = Dim::Key("linear_proj_0_weight rows");
