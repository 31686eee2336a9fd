//! Qwen2-VL, Qwen2.5-VL and EXAONE 4.5: patches of two images at a time, put together by four.

use super::{Encoder, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, Default, Fill, ModelDefaults,
    parameters::{self, Constant, Parameter},
    tensors::{Dim, Rule},
};

pub(super) const QWEN2VL: Projector = Projector {
    classes: &["Qwen2VLModel", "Qwen2VLForConditionalGeneration", "Sarashina2VisionForCausalLM"],
    name: "qwen2vl_merger",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["visual."],
        prepare: nothing,
        family: &Architecture {
            defaults: &[ModelDefaults {
                model_type: "qwen2_vl_vision",
                values: &[
                    &[
                        count("num_hidden_layers", 32),
                        count("embed_dim", 1280),
                        count("hidden_size", 3584),
                        count("mlp_ratio", 4),
                        // What is written as the width of the feed-forward part is that of the output.
                        always("intermediate_size", Fill::Given("hidden_size")),
                        always("hidden_size", Fill::Given("embed_dim")),
                    ],
                    COMMON_SIZES,
                    COMMON,
                ],
                in_wrapper: &[],
            }],
            parameters: &[
                VISION,
                &[Parameter::Constant("projector_type", Constant::Text("qwen2vl_merger")), EPSILON],
            ],
            tensors: &[
                AROUND,
                THREE,
                &[
                    Rule::new("blocks.{}.mlp.fc1", "v.blk.{}.ffn_up", &[WIDER, WIDTH]).bias(),
                    Rule::new("blocks.{}.mlp.fc2", "v.blk.{}.ffn_down", &[WIDTH, WIDER]).bias(),
                ],
            ],
            ..FAMILY
        },
    }],
    types: &[],
};

pub(super) const QWEN2_5VL: Projector = Projector {
    classes: &["Qwen2_5_VLForConditionalGeneration"],
    name: "qwen2.5vl_merger",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["visual."],
        prepare: nothing,
        family: &Architecture {
            defaults: &[ModelDefaults {
                model_type: "qwen2_5_vl_vision",
                values: &[WINDOWED, COMMON_SIZES, COMMON],
                in_wrapper: &[],
            }],
            parameters: &[
                VISION,
                &[
                    Parameter::Constant("projector_type", Constant::Text("qwen2.5vl_merger")),
                    USE_SILU,
                    Parameter::With(pattern),
                    EPSILON,
                ],
            ],
            tensors: &[AROUND, THREE, GATED],
            ..FAMILY
        },
    }],
    types: &[],
};

/// What Qwen2.5-VL's encoder assumes.
pub(super) const WINDOWED: &[Default] = &[
    count("num_hidden_layers", 32),
    count("hidden_size", 3584),
    count("intermediate_size", 3420),
    with("fullatt_block_indexes", |_| Ok(Some(vec![7, 15, 23, 31].into()))),
];

/// EXAONE 4.5: heads share keys and values, which stay in one matrix with the queries.
pub(super) const EXAONE4_5: Projector = Projector {
    classes: &["Exaone4_5_ForConditionalGeneration"],
    name: "exaone4_5",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["visual."],
        prepare: nothing,
        family: &Architecture {
            defaults: &[ModelDefaults {
                model_type: "exaone4_5_vision",
                values: &[
                    &[
                        count("num_hidden_layers", 32),
                        count("hidden_size", 3584),
                        count("intermediate_size", 3420),
                        always("layer_norm_eps", Fill::Given("rms_norm_eps")),
                        count("window_size", 112),
                        with("fullatt_block_indexes", |_| Ok(Some(vec![7, 15, 23, 31].into()))),
                    ],
                    &[same("layer_norm_eps", "whole rms_norm_eps"), number("layer_norm_eps", 1e-6)],
                    COMMON_SIZES,
                ],
                in_wrapper: &[],
            }],
            parameters: &[
                VISION,
                &[
                    Parameter::Constant("projector_type", Constant::Text("exaone4_5")),
                    USE_SILU,
                    parameters::required("vision.image_min_pixels", &["preprocessor min_pixels"]),
                    parameters::required("vision.image_max_pixels", &["preprocessor max_pixels"]),
                    parameters::count("vision.attention.head_count_kv", &["num_key_value_heads"]),
                    EPSILON,
                    parameters::count("vision.window_size", &["window_size"]),
                    Parameter::With(pattern),
                ],
            ],
            tensors: &[
                AROUND,
                &[Rule::new("blocks.{}.attn.qkv", "v.blk.{}.attn_qkv", &[GROUPED, WIDTH]).bias()],
                GATED,
            ],
            ..FAMILY
        },
    }],
    types: &[],
};

/// Rows of queries, keys and values where heads share the latter.
const GROUPED: Dim = Dim::Derived("rows of queries, keys and values", |config| {
    let head = config.quotient("hidden_size", "num_attention_heads")?;
    let shared = config.positive("num_key_value_heads")?;
    let shared = shared.map_or_else(|| config.require("num_attention_heads"), Ok)?;
    let both = head.saturating_mul(shared).saturating_mul(2);
    Ok(config.require("hidden_size")?.saturating_add(both))
});

const WIDER: Dim = Dim::Product(&[WIDTH, Dim::Key("mlp_ratio")]);
/// Values of as many patches as are put together.
pub(super) const SQUARE: Dim =
    Dim::Product(&[WIDTH, Dim::Key("spatial_merge_size"), Dim::Key("spatial_merge_size")]);

/// What all assume, after the number of layers.
pub(super) const COMMON_SIZES: &[Default] = &[
    same("num_attention_heads", "num_heads"),
    count("num_attention_heads", 16),
    same("num_channels", "in_channels"),
    count("num_channels", 3),
    count("patch_size", 14),
    count("spatial_merge_size", 2),
    // No image has this size, engines want a number.
    count("image_size", 560),
];

/// As [`COMMON_SIZES`], and the epsilon.
pub(super) const COMMON: &[Default] =
    &[always("layer_norm_eps", Fill::Given("whole rms_norm_eps")), number("layer_norm_eps", 1e-6)];

pub(super) const FAMILY: Architecture = Architecture {
    wrappers: &["model.visual.", "visual."],
    endings: &[
        ("merger.mlp.0.weight", "merger.mlp.first.weight"),
        ("merger.mlp.0.bias", "merger.mlp.first.bias"),
        ("merger.mlp.2.weight", "merger.mlp.second.weight"),
        ("merger.mlp.2.bias", "merger.mlp.second.bias"),
    ],
    ..CLIP
};

/// Queries, keys and values, which become three matrices.
pub(super) const THREE: &[Rule] =
    &[Rule::split("blocks.{}.attn.qkv", APART, &[THREE_WIDTHS, WIDTH]).bias()];

/// What is around them.
pub(super) const AROUND: &[Rule] = &[
    Rule::split_exact("patch_embed.proj.weight", TWO_IMAGES, TWO_PATCHES),
    Rule::new("blocks.{}.norm1", "v.blk.{}.ln1", &[WIDTH]).maybe_bias(),
    Rule::new("blocks.{}.norm2", "v.blk.{}.ln2", &[WIDTH]).maybe_bias(),
    Rule::new("blocks.{}.attn.proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH]).bias(),
    Rule::new("merger.ln_q", "v.post_ln", &[WIDTH]).maybe_bias(),
    Rule::new("merger.mlp.first", "mm.0", &[SQUARE, SQUARE]).bias(),
    Rule::new("merger.mlp.second", "mm.2", &[TEXT_WIDTH, SQUARE]).bias(),
];

pub(super) const GATED: &[Rule] = &[
    Rule::new("blocks.{}.mlp.gate_proj", "v.blk.{}.ffn_gate", &[INNER, WIDTH]).bias(),
    Rule::new("blocks.{}.mlp.up_proj", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
    Rule::new("blocks.{}.mlp.down_proj", "v.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
];
