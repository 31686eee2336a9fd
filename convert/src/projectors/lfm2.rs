//! LFM2-VL: SigLIP 2, whose patches come as rows.

use super::{Encoder, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, Default, Fill, ModelDefaults,
    parameters::{Constant, Parameter},
    tensors::{Dim, Rule},
};

pub(super) const LFM2: Projector = Projector {
    classes: &["Lfm2VlForConditionalGeneration"],
    name: "lfm2",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_tower.", "multi_modal_projector."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

const DEFAULTS: &[Default] = &[
    count("hidden_size", 768),
    count("intermediate_size", 3072),
    count("num_hidden_layers", 12),
    count("num_attention_heads", 12),
    count("num_channels", 3),
    count("num_patches", 256),
    count("patch_size", 16),
    number("layer_norm_eps", 1e-6),
    // Images of any size are read, engines want a number.
    always("image_size", Fill::Whole(256)),
    same(FACTOR, "whole downsample_factor"),
    count(FACTOR, 2),
    same(MIDDLE, "whole projector_hidden_size"),
    count(MIDDLE, 2560),
];

const FACTOR: &str = "patches put together";
const MIDDLE: &str = "width of the projector";
const SQUARE: Dim = Dim::Product(&[WIDTH, Dim::Key(FACTOR), Dim::Key(FACTOR)]);

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "siglip2_vision_model",
        values: &[DEFAULTS],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("lfm2")),
            EPSILON,
            Parameter::Count {
                key: "vision.projector.scale_factor",
                from: &[FACTOR],
                required: true,
            },
            USE_GELU,
            Parameter::With(|config, keys| {
                // Counted from the end: -1 is the last layer.
                const KEY: &str = "whole vision_feature_layer";
                let layers = config.require("num_hidden_layers")?;
                let from_end = match config.get(KEY) {
                    None => 1,
                    Some(value) => value
                        .as_i64()
                        .filter(|layer| *layer < 0)
                        .map(i64::unsigned_abs)
                        .filter(|layer| *layer <= layers)
                        .ok_or_else(|| {
                            let found = crate::json::describe(value);
                            config.wrong(KEY, &found, "a layer counted from the last, which is -1")
                        })?,
                };
                keys.set_count(
                    "vision.block_count",
                    layers.saturating_sub(from_end).saturating_add(1),
                );
                Ok(())
            }),
        ],
    ],
    wrappers: TOWERS,
    tensors: &[
        SIGLIP_LAYERS,
        SIGLIP_HEAD,
        &[
            Rule::exact(
                "embeddings.patch_embedding.weight",
                "v.patch_embd.weight",
                &[WIDTH, Dim::Product(&[PATCH, PATCH, CHANNELS])],
            )
            .parts(COLOURS_FIRST),
            Rule::exact("embeddings.patch_embedding.bias", "v.patch_embd.bias", &[WIDTH]),
            Rule::new(
                "embeddings.position_embedding",
                "v.position_embd",
                &[Dim::Key("num_patches"), WIDTH],
            ),
            Rule::new("post_layernorm", "v.post_ln", &[WIDTH]).bias(),
            Rule::new("multi_modal_projector.layer_norm", "mm.input_norm", &[SQUARE])
                .maybe_bias()
                .optional(),
            Rule::new("multi_modal_projector.linear_1", "mm.1", &[Dim::Key(MIDDLE), SQUARE])
                .maybe_bias(),
            Rule::new("multi_modal_projector.linear_2", "mm.2", &[TEXT_WIDTH, Dim::Key(MIDDLE)])
                .maybe_bias(),
        ],
    ],
    ..CLIP
};
