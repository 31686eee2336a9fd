//! MiniCPM-V 4.6: SigLIP, four patches put together in between by attention, and four again at the end.

use serde_json::Value;

use super::{Encoder, Projector, nothing, shared::*};
use crate::{
    Config, Result,
    architectures::{
        Architecture, Default, Fill, ModelDefaults,
        parameters::{Constant, Parameter},
        tensors::{Dim, Rule},
    },
    json::describe,
};

pub(super) const MINICPMV4_6: Projector = Projector {
    classes: &["MiniCPMV4_6ForConditionalGeneration"],
    name: "minicpmv4_6",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_tower.", "merger."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

/// The size of an image that has a position for each patch; images are cut to another one.
const GRID: &str = "size of the grid of positions";
const LAYER: &str = "layer after which patches are put together";

const DEFAULTS: &[Default] = &[
    same(GRID, "image_size"),
    count(GRID, 224),
    same("image_size", "preprocessor scale_resolution"),
    always("image_size", Fill::Given("preprocessor scale_resolution")),
    same(LAYER, "whole insert_layer_id"),
    same(LAYER, "insert_layer_id"),
    count(LAYER, 6),
];

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "minicpmv4_6_vision",
        values: &[DEFAULTS, SIGLIP_DEFAULTS],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("minicpmv4_6")),
            Parameter::Constant("vision.projector.scale_factor", Constant::Count(4)),
            Parameter::With(|config, keys| {
                let layer = config.whole(LAYER)?.unwrap_or(6);
                keys.set("vision.wa_layer_indexes", vec![i32::try_from(layer).unwrap_or(i32::MAX)]);
                Ok(())
            }),
            USE_GELU,
            EPSILON,
        ],
    ],
    wrappers: TOWERS,
    rename: |_, name| {
        let rest = name.strip_prefix("merger.mlp.0.")?;
        Some(format!("merger.last.{rest}"))
    },
    check,
    tensors: &[
        SIGLIP_LAYERS,
        &[
            Rule::new(
                "embeddings.patch_embedding",
                "v.patch_embd",
                &[WIDTH, CHANNELS, PATCH, PATCH],
            )
            .bias(),
            Rule::new("embeddings.position_embedding", "v.position_embd", &[POSITIONS, WIDTH]),
            Rule::new("post_layernorm", "v.post_ln", &[WIDTH]).bias(),
            Rule::new("vit_merger.layer_norm1", "v.vit_merger.ln1", &[WIDTH]).bias(),
            Rule::new("vit_merger.self_attn.q_proj", "v.vit_merger.attn_q", &[WIDTH, WIDTH]).bias(),
            Rule::new("vit_merger.self_attn.k_proj", "v.vit_merger.attn_k", &[WIDTH, WIDTH]).bias(),
            Rule::new("vit_merger.self_attn.v_proj", "v.vit_merger.attn_v", &[WIDTH, WIDTH]).bias(),
            Rule::new("vit_merger.self_attn.out_proj", "v.vit_merger.attn_out", &[WIDTH, WIDTH])
                .bias(),
            Rule::new("vit_merger.pre_norm", "v.vit_merger.ds_ln", &[FOUR]).bias(),
            Rule::new("vit_merger.linear_1", "v.vit_merger.ds_ffn_up", &[FOUR_INNER, FOUR]).bias(),
            Rule::new("vit_merger.linear_2", "v.vit_merger.ds_ffn_down", &[WIDTH, FOUR_INNER])
                .bias(),
            Rule::new("merger.last.pre_norm", "mm.input_norm", &[FOUR]).bias(),
            Rule::new("merger.last.linear_1", "mm.up", &[FOUR, FOUR]).bias(),
            Rule::new("merger.last.linear_2", "mm.down", &[TEXT_WIDTH, FOUR]).bias(),
        ],
    ],
    ..CLIP
};

const POSITIONS: Dim = Dim::Derived("positions of patches", |config| {
    let side = config.require(GRID)? / config.require("patch_size")?;
    Ok(side.saturating_mul(side))
});
const FOUR: Dim = Dim::Product(&[Dim::Number(4), WIDTH]);
const FOUR_INNER: Dim = Dim::Product(&[Dim::Number(4), INNER]);

/// The other mode goes without the part in between.
fn check(config: &Config) -> Result<()> {
    const MODE: &str = "preprocessor downsample_mode";
    match config.get(MODE) {
        None => Ok(()),
        Some(Value::String(mode)) if mode == "16x" => Ok(()),
        Some(other) => {
            let expected = "\"16x\": sixteen patches become one";
            Err(config.wrong(MODE, &describe(other), expected))
        }
    }
}
