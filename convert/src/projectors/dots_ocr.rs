//! dots.ocr: a gated encoder without biases, patches put together by four.

use super::{Encoder, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, Default, Fill, ModelDefaults,
    parameters::{self, Constant, Parameter},
    tensors::{Dim, Rule},
};

pub(super) const DOTS_OCR: Projector = Projector {
    classes: &["DotsOCRForCausalLM"],
    name: "dots_ocr",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_tower."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

const DEFAULTS: &[Default] = &[
    count("hidden_size", 1536),
    count("intermediate_size", 4224),
    count("num_hidden_layers", 42),
    count("num_attention_heads", 12),
    count("num_channels", 3),
    count("patch_size", 14),
    count("spatial_merge_size", 2),
    number("rms_norm_eps", 1e-5),
    same("layer_norm_eps", "rms_norm_eps"),
    // Images of any size are read.
    always("image_size", Fill::Whole(0)),
];

const SQUARE: Dim =
    Dim::Product(&[WIDTH, Dim::Key("spatial_merge_size"), Dim::Key("spatial_merge_size")]);

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults { model_type: "dots_vit", values: &[DEFAULTS], in_wrapper: &[] }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("dots_ocr")),
            parameters::required("vision.image_min_pixels", &["preprocessor min_pixels"]),
            parameters::required("vision.image_max_pixels", &["preprocessor max_pixels"]),
            EPSILON,
            parameters::required("vision.projector.scale_factor", &["spatial_merge_size"]),
            USE_SILU,
        ],
    ],
    wrappers: &["vision_tower."],
    endings: &[
        ("merger.mlp.0.weight", "merger.mlp.first.weight"),
        ("merger.mlp.0.bias", "merger.mlp.first.bias"),
        ("merger.mlp.2.weight", "merger.mlp.second.weight"),
        ("merger.mlp.2.bias", "merger.mlp.second.bias"),
    ],
    tensors: &[&[
        Rule::new("patch_embed.patchifier.proj", "v.patch_embd", &[WIDTH, CHANNELS, PATCH, PATCH])
            .bias(),
        Rule::new("patch_embed.patchifier.norm", "v.pre_ln", &[WIDTH]),
        Rule::new("blocks.{}.norm1", "v.blk.{}.ln1", &[WIDTH]),
        Rule::new("blocks.{}.norm2", "v.blk.{}.ln2", &[WIDTH]),
        Rule::new("blocks.{}.attn.qkv", "v.blk.{}.attn_qkv", &[THREE_WIDTHS, WIDTH]).maybe_bias(),
        Rule::new("blocks.{}.attn.proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH]).maybe_bias(),
        Rule::new("blocks.{}.mlp.fc1", "v.blk.{}.ffn_gate", &[INNER, WIDTH]).maybe_bias(),
        Rule::new("blocks.{}.mlp.fc2", "v.blk.{}.ffn_down", &[WIDTH, INNER]).maybe_bias(),
        Rule::new("blocks.{}.mlp.fc3", "v.blk.{}.ffn_up", &[INNER, WIDTH]).maybe_bias(),
        Rule::new("post_trunk_norm", "mm.post_norm", &[WIDTH]),
        Rule::new("merger.ln_q", "mm.input_norm", &[WIDTH]).maybe_bias(),
        Rule::new("merger.mlp.first", "mm.0", &[SQUARE, SQUARE]).bias(),
        Rule::new("merger.mlp.second", "mm.2", &[TEXT_WIDTH, SQUARE]).bias(),
    ]],
    ..CLIP
};
