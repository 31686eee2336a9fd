//! Hunyuan-VL and HunyuanOCR: patches put together by convolutions, marks around an image.

use super::{Encoder, Kept, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, Default, ModelDefaults,
    parameters::{self, Constant, Parameter},
    tensors::{Dim, Rule, Step},
};

pub(super) const HUNYUAN_VL: Projector = Projector {
    classes: &["HunYuanVLForConditionalGeneration"],
    name: "hunyuanvl",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vit."],
        prepare: nothing,
        family: &FAMILY,
    }],
    // They are convolutions, which not all engines compute in BF16.
    types: &[("mm.0.weight", Kept::Float), ("mm.2.weight", Kept::Float)],
};

const DEFAULTS: &[Default] = &[
    count("hidden_size", 1152),
    count("intermediate_size", 4304),
    count("num_hidden_layers", 27),
    count("num_attention_heads", 16),
    count("num_channels", 3),
    count("patch_size", 16),
    count("spatial_merge_size", 2),
    same("image_size", "max_image_size"),
    count("image_size", 2048),
    number("rms_norm_eps", 1e-5),
    same("layer_norm_eps", "rms_norm_eps"),
];

const MERGE: Dim = Dim::Key("spatial_merge_size");
const TWICE: Dim = Dim::Product(&[TWO, WIDTH]);
const FOUR_TIMES: Dim = Dim::Product(&[Dim::Number(4), WIDTH]);
const ONE: Dim = Dim::Number(1);

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "hunyuan_vl_vision",
        values: &[DEFAULTS],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("hunyuanvl")),
            USE_GELU,
            EPSILON,
            parameters::required("vision.spatial_merge_size", &["spatial_merge_size"]),
            parameters::required("vision.image_min_pixels", &["preprocessor min_pixels"]),
            parameters::required("vision.image_max_pixels", &["preprocessor max_pixels"]),
        ],
    ],
    wrappers: &["model.vit.", "vit."],
    endings: &[
        ("perceive.proj.0.weight", "perceive.first.weight"),
        ("perceive.proj.0.bias", "perceive.first.bias"),
        ("perceive.proj.2.weight", "perceive.second.weight"),
        ("perceive.proj.2.bias", "perceive.second.bias"),
    ],
    tensors: &[&[
        Rule::new("embeddings.patch_embedding", "v.patch_embd", &[WIDTH, CHANNELS, PATCH, PATCH])
            .bias(),
        // The first position is that of a token for the whole image, which there is not.
        Rule::new("embeddings.position_embedding", "v.position_embd", &[PATCHES_AND_CLASS, WIDTH])
            .parts(&[&[Step::Narrow { axis: 0, from: Some(ONE), len: PATCHES }]]),
        Rule::new("layers.{}.input_layernorm", "v.blk.{}.ln1", &[WIDTH]).bias(),
        Rule::new("layers.{}.post_attention_layernorm", "v.blk.{}.ln2", &[WIDTH]).bias(),
        Rule::new("layers.{}.self_attn.q_proj", "v.blk.{}.attn_q", &[WIDTH, WIDTH]).bias(),
        Rule::new("layers.{}.self_attn.k_proj", "v.blk.{}.attn_k", &[WIDTH, WIDTH]).bias(),
        Rule::new("layers.{}.self_attn.v_proj", "v.blk.{}.attn_v", &[WIDTH, WIDTH]).bias(),
        Rule::new("layers.{}.self_attn.o_proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH]).bias(),
        Rule::new("layers.{}.mlp.dense_h_to_4h", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
        Rule::new("layers.{}.mlp.dense_4h_to_h", "v.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
        Rule::new("perceive.before_rms", "mm.pre_norm", &[WIDTH]),
        Rule::new("perceive.first", "mm.0", &[TWICE, WIDTH, MERGE, MERGE]).bias(),
        Rule::new("perceive.second", "mm.2", &[FOUR_TIMES, TWICE, ONE, ONE]).bias(),
        Rule::new("perceive.mlp", "mm.model.fc", &[TEXT_WIDTH, FOUR_TIMES]).bias(),
        Rule::new("perceive.after_rms", "mm.post_norm", &[TEXT_WIDTH]),
        Rule::exact("perceive.image_begin", "mm.image_begin", &[TEXT_WIDTH]),
        Rule::exact("perceive.image_end", "mm.image_end", &[TEXT_WIDTH]),
        Rule::exact("perceive.image_newline", "v.image_newline", &[FOUR_TIMES]),
        Rule::exact("perceive.image_sep", "v.view_seperator", &[TEXT_WIDTH]),
    ]],
    ..CLIP
};
