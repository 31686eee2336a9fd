//! DeepSeek-OCR: SAM's encoder, and CLIP's on what it makes of an image.

use std::path::Path;

use serde_json::Value;

use super::{Encoder, Kept, Projector, shared::*};
use crate::{
    Config, Result,
    architectures::{
        Architecture, ModelDefaults,
        parameters::{self, Constant, Parameter},
        tensors::{Dim, Rule, Step},
    },
    json::Object,
};

pub(super) const DEEPSEEK_OCR: Projector = Projector {
    classes: &["DeepseekOCRForCausalLM", "UnlimitedOCRForCausalLM"],
    name: "deepseekocr",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["sam_model.", "vision_model.", "projector.", "image_newline", "view_seperator"],
        prepare: both,
        family: &FAMILY,
    }],
    types: &[
        ("v.patch_embd.", Kept::F32),
        ("v.sam.pos_embd.", Kept::F32),
        (".attn.pos_h.", Kept::F32),
        (".attn.pos_w.", Kept::F32),
        ("v.sam.neck.", Kept::F32),
        ("v.sam.net_", Kept::F32),
    ],
};

const SAM_LAYERS: &str = "sam layers";
const SAM: Dim = Dim::Key("sam width");
const SAM_INNER: Dim = Dim::Product(&[Dim::Number(4), SAM]);
const SAM_THREE: Dim = Dim::Product(&[Dim::Number(3), SAM]);
const SAM_HEAD: Dim =
    Dim::Derived("size of a head of SAM", |config| config.quotient("sam width", "sam heads"));
/// Patches along a side of the largest image: 1024 by 16.
const SAM_SIDE: Dim = Dim::Number(64);
const SAM_PATCH: Dim = Dim::Number(16);
const NECK: Dim = Dim::Number(256);
const SIDE: Dim = Dim::Number(3);
const ONE: Dim = Dim::Number(1);
const FOUR_WIDTHS: Dim = Dim::Product(&[Dim::Number(4), WIDTH]);
const WINDOW: u64 = 14;
/// Distances between patches: of the whole image in some layers, of a window in the others.
const DISTANCES: Dim = Dim::InLayer("distances between patches", |config, layer| {
    let whole = config.get("sam global_attn_indexes").and_then(Value::as_array);
    let is_whole = whole.is_some_and(|whole| whole.contains(&layer.into()));
    let side = if is_whole { SAM_SIDE.size(config)? } else { WINDOW };
    Ok(side.saturating_mul(2).saturating_sub(1))
});
const FIRST: Dim = Dim::Derived("first of downsample_channels", |config| {
    config.require_in(CHANNELS_OF_SAM, Some(0))
});
const SECOND: Dim = Dim::Derived("second of downsample_channels", |config| {
    config.require_in(CHANNELS_OF_SAM, Some(1))
});
const CHANNELS_OF_SAM: &str = "sam downsample_channels";

/// The configurations of both encoders are in `width`.
fn both(_: &Path, part: &mut Object) -> Result<()> {
    let widths = part.get("width").and_then(Value::as_object).cloned().unwrap_or_default();
    let block = |name: &str| widths.get(name).and_then(Value::as_object).into_iter().flatten();
    part.extend(block("sam_vit_b").map(|(key, value)| (format!("sam {key}"), value.clone())));
    part.extend(block("clip-l-14-224").map(|(key, value)| (key.clone(), value.clone())));
    if let Some(layers) = part.get("layers").cloned() {
        part.insert("num_hidden_layers".into(), layers);
    }
    Ok(())
}

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "vision",
        values: &[&[
            same("hidden_size", "width"),
            same("num_attention_heads", "heads"),
            // As the reference's converter counts it; engines do not look at it.
            with("intermediate_size", |config| {
                Ok(Some(config.require("num_attention_heads")?.saturating_mul(4).into()))
            }),
            count("num_channels", 3),
            number("layer_norm_eps", 1e-6),
        ]],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("deepseekocr")),
            EPSILON,
            USE_GELU,
            Parameter::With(scale_factor),
            Parameter::With(|config, keys| {
                keys.set_count(
                    "vision.window_size",
                    config.positive("window_size")?.unwrap_or(WINDOW),
                );
                keys.set_count("vision.preproc_min_tiles", 2);
                keys.set_count("vision.preproc_max_tiles", tiles(config));
                Ok(())
            }),
            parameters::required("vision.sam.block_count", &[SAM_LAYERS]),
            parameters::required("vision.sam.embedding_length", &["sam width"]),
            parameters::required("vision.sam.head_count", &["sam heads"]),
        ],
    ],
    wrappers: &["model."],
    endings: &[
        ("neck.0.weight", "neck.first.weight"),
        ("neck.1.weight", "neck.second.weight"),
        ("neck.1.bias", "neck.second.bias"),
        ("neck.2.weight", "neck.third.weight"),
        ("neck.3.weight", "neck.fourth.weight"),
        ("neck.3.bias", "neck.fourth.bias"),
    ],
    tensors: &[SAM_TENSORS, CLIP_TENSORS],
    ..CLIP
};

/// Into how many parts an image is cut at most, by the code of each model.
fn tiles(config: &Config) -> u64 {
    let class = config.get("whole architectures").and_then(|classes| classes.get(0)?.as_str());
    if class == Some("UnlimitedOCRForCausalLM") { 32 } else { 9 }
}

const SAM_TENSORS: &[Rule] = &[
    Rule::exact("sam_model.pos_embed", "v.sam.pos_embd.weight", &[ONE, SAM_SIDE, SAM_SIDE, SAM]),
    Rule::new(
        "sam_model.patch_embed.proj",
        "v.sam.patch_embd",
        &[SAM, CHANNELS, SAM_PATCH, SAM_PATCH],
    )
    .bias(),
    Rule::new("sam_model.blocks.{}.norm1", "v.sam.blk.{}.pre_ln", &[SAM])
        .bias()
        .counted(SAM_LAYERS),
    Rule::new("sam_model.blocks.{}.norm2", "v.sam.blk.{}.post_ln", &[SAM])
        .bias()
        .counted(SAM_LAYERS),
    Rule::exact(
        "sam_model.blocks.{}.attn.rel_pos_h",
        "v.sam.blk.{}.attn.pos_h.weight",
        &[DISTANCES, SAM_HEAD],
    )
    .counted(SAM_LAYERS),
    Rule::exact(
        "sam_model.blocks.{}.attn.rel_pos_w",
        "v.sam.blk.{}.attn.pos_w.weight",
        &[DISTANCES, SAM_HEAD],
    )
    .counted(SAM_LAYERS),
    Rule::new("sam_model.blocks.{}.attn.qkv", "v.sam.blk.{}.attn.qkv", &[SAM_THREE, SAM])
        .bias()
        .counted(SAM_LAYERS),
    Rule::new("sam_model.blocks.{}.attn.proj", "v.sam.blk.{}.attn.out", &[SAM, SAM])
        .bias()
        .counted(SAM_LAYERS),
    Rule::new("sam_model.blocks.{}.mlp.lin1", "v.sam.blk.{}.mlp.lin1", &[SAM_INNER, SAM])
        .bias()
        .counted(SAM_LAYERS),
    Rule::new("sam_model.blocks.{}.mlp.lin2", "v.sam.blk.{}.mlp.lin2", &[SAM, SAM_INNER])
        .bias()
        .counted(SAM_LAYERS),
    Rule::exact("sam_model.neck.first.weight", "v.sam.neck.0.weight", &[NECK, SAM, ONE, ONE]),
    Rule::exact("sam_model.neck.second.weight", "v.sam.neck.1.weight", &[NECK]),
    Rule::exact("sam_model.neck.second.bias", "v.sam.neck.1.bias", &[NECK]),
    Rule::exact("sam_model.neck.third.weight", "v.sam.neck.2.weight", &[NECK, NECK, SIDE, SIDE]),
    Rule::exact("sam_model.neck.fourth.weight", "v.sam.neck.3.weight", &[NECK]),
    Rule::exact("sam_model.neck.fourth.bias", "v.sam.neck.3.bias", &[NECK]),
    Rule::new("sam_model.net_2", "v.sam.net_2", &[FIRST, NECK, SIDE, SIDE]),
    Rule::new("sam_model.net_3", "v.sam.net_3", &[SECOND, FIRST, SIDE, SIDE]),
];

const CLIP_TENSORS: &[Rule] = &[
    Rule::exact("vision_model.embeddings.class_embedding", "v.class_embd", &[WIDTH]),
    Rule::new(
        "vision_model.embeddings.patch_embedding",
        "v.patch_embd",
        &[WIDTH, CHANNELS, PATCH, PATCH],
    ),
    Rule::new(
        "vision_model.embeddings.position_embedding",
        "v.position_embd",
        &[PATCHES_AND_CLASS, WIDTH],
    ),
    Rule::new("vision_model.pre_layrnorm", "v.pre_ln", &[WIDTH]).bias(),
    Rule::new("vision_model.transformer.layers.{}.layer_norm1", "v.blk.{}.ln1", &[WIDTH]).bias(),
    Rule::new("vision_model.transformer.layers.{}.layer_norm2", "v.blk.{}.ln2", &[WIDTH]).bias(),
    Rule::new(
        "vision_model.transformer.layers.{}.self_attn.qkv_proj",
        "v.blk.{}.attn_qkv",
        &[THREE_WIDTHS, WIDTH],
    )
    .bias(),
    Rule::new(
        "vision_model.transformer.layers.{}.self_attn.out_proj",
        "v.blk.{}.attn_out",
        &[WIDTH, WIDTH],
    )
    .bias(),
    Rule::new(
        "vision_model.transformer.layers.{}.mlp.fc1",
        "v.blk.{}.ffn_up",
        &[FOUR_WIDTHS, WIDTH],
    )
    .bias(),
    Rule::new(
        "vision_model.transformer.layers.{}.mlp.fc2",
        "v.blk.{}.ffn_down",
        &[WIDTH, FOUR_WIDTHS],
    )
    .bias(),
    Rule::new("projector.layers", "mm.model.fc", &[TEXT_WIDTH, Dim::Sum(&[SECOND, WIDTH])]).bias(),
    Rule::exact("image_newline", "v.image_newline", &[TEXT_WIDTH]),
    Rule::exact("view_seperator", "v.view_seperator", &[TEXT_WIDTH])
        .parts(&[&[Step::Unfold(0, &[ONE])]]),
];
