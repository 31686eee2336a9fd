//! InternVL: InternViT, whose layers have scales of their own.

use std::path::Path;

use serde_json::Value;

use super::{Encoder, Projector, shared::*};
use crate::{
    Result,
    architectures::{
        Architecture, Default, ModelDefaults,
        parameters::{Constant, Parameter},
        tensors::{Dim, Rule},
    },
    json::Object,
};

pub(super) const INTERNVL: Projector = Projector {
    classes: &["InternVisionModel", "InternVLChatModel"],
    name: "internvl",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_model.", "mlp1."],
        prepare: first_of_lists,
        family: &FAMILY,
    }],
    types: &[],
};

/// Sizes may be given for both directions.
fn first_of_lists(_: &Path, part: &mut Object) -> Result<()> {
    for key in ["image_size", "patch_size"] {
        let first = part.get(key).and_then(|value| value.get(0)).cloned();
        part.extend(first.map(|first| (key.to_owned(), first)));
    }
    Ok(())
}

const DEFAULTS: &[Default] = &[
    count("hidden_size", 3200),
    count("intermediate_size", 12_800),
    count("num_hidden_layers", 48),
    count("num_attention_heads", 25),
    count("num_channels", 3),
    count("image_size", 224),
    count("patch_size", 14),
    number("layer_norm_eps", 1e-6),
    text("hidden_act", "gelu"),
];

/// Patches that become one, in one direction: the ratio is 0.5.
const SCALE: Dim = Dim::Derived("1 / downsample_ratio", |config| {
    const KEY: &str = "whole downsample_ratio";
    let ratio = config.number(KEY)?.ok_or_else(|| config.missing(KEY, "a number"))?;
    let factor = 1.0 / ratio;
    if !(1.0..1024.0).contains(&factor) {
        return Err(config.wrong(KEY, &ratio.to_string(), "a number of at most 1"));
    }
    Ok(factor as u64)
});
const SQUARE: Dim = Dim::Product(&[WIDTH, SCALE, SCALE]);

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "intern_vit_6b",
        values: &[DEFAULTS],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("internvl")),
            EPSILON,
            ACTIVATION,
            Parameter::With(|config, keys| {
                keys.set_count("vision.projector.scale_factor", SCALE.size(config)?);
                for (key, from) in [
                    ("vision.preproc_min_tiles", "whole min_dynamic_patch"),
                    ("vision.preproc_max_tiles", "whole max_dynamic_patch"),
                ] {
                    // Older models have none.
                    if config.get(from).and_then(Value::as_u64) != Some(0)
                        && let Some(tiles) = config.positive(from)?
                    {
                        keys.set_count(key, tiles);
                    }
                }
                Ok(())
            }),
        ],
    ],
    wrappers: &["vision_model."],
    endings: &[
        ("mlp1.0.weight", "mlp1.norm.weight"),
        ("mlp1.0.bias", "mlp1.norm.bias"),
        ("mlp1.1.weight", "mlp1.first.weight"),
        ("mlp1.1.bias", "mlp1.first.bias"),
        ("mlp1.3.weight", "mlp1.second.weight"),
        ("mlp1.3.bias", "mlp1.second.bias"),
    ],
    tensors: &[&[
        Rule::exact(
            "embeddings.class_embedding",
            "v.class_embd",
            &[Dim::Number(1), Dim::Number(1), WIDTH],
        ),
        Rule::exact(
            "embeddings.position_embedding",
            "v.position_embd.weight",
            &[Dim::Number(1), PATCHES_AND_CLASS, WIDTH],
        ),
        Rule::new("embeddings.patch_embedding", "v.patch_embd", &[WIDTH, CHANNELS, PATCH, PATCH])
            .bias(),
        Rule::new("encoder.layers.{}.norm1", "v.blk.{}.ln1", &[WIDTH]).maybe_bias(),
        Rule::new("encoder.layers.{}.norm2", "v.blk.{}.ln2", &[WIDTH]).maybe_bias(),
        Rule::exact("encoder.layers.{}.ls1", "v.blk.{}.ls1.weight", &[WIDTH]),
        Rule::exact("encoder.layers.{}.ls2", "v.blk.{}.ls2.weight", &[WIDTH]),
        Rule::split("encoder.layers.{}.attn.qkv", APART, &[THREE_WIDTHS, WIDTH]).maybe_bias(),
        Rule::new("encoder.layers.{}.attn.q_norm", "v.blk.{}.attn_q_norm", &[WIDTH]).optional(),
        Rule::new("encoder.layers.{}.attn.k_norm", "v.blk.{}.attn_k_norm", &[WIDTH]).optional(),
        Rule::new("encoder.layers.{}.attn.proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH]).bias(),
        Rule::new("encoder.layers.{}.mlp.fc1", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
        Rule::new("encoder.layers.{}.mlp.fc2", "v.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
        Rule::new("mlp1.norm", "mm.model.mlp.0", &[SQUARE]).bias(),
        Rule::new("mlp1.first", "mm.model.mlp.1", &[TEXT_WIDTH, SQUARE]).bias(),
        Rule::new("mlp1.second", "mm.model.mlp.3", &[TEXT_WIDTH, TEXT_WIDTH]).bias(),
    ]],
    ..CLIP
};
