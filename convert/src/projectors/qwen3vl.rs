//! Qwen3-VL and Qwen 3.5: what some layers see goes to the text model's first layers as well.

use serde_json::Value;

use super::{Encoder, Projector, nothing, qwen2vl::SQUARE, shared::*};
use crate::{
    Config, Result,
    architectures::{
        Architecture, Default, Fill, ModelDefaults,
        parameters::{self, Constant, Parameter},
        tensors::{Dim, Rule},
    },
};

pub(super) const QWEN3VL: Projector = Projector {
    classes: &[
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
        "Qwen4ExpForConditionalGeneration",
    ],
    name: "qwen3vl_merger",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["visual."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

pub(super) const DEFAULTS: &[Default] = &[
    count("num_hidden_layers", 27),
    count("hidden_size", 1152),
    count("intermediate_size", 4304),
    same("num_attention_heads", "num_heads"),
    count("num_attention_heads", 16),
    same("num_channels", "in_channels"),
    count("num_channels", 3),
    count("patch_size", 16),
    count("spatial_merge_size", 2),
    count("num_position_embeddings", 2304),
    with("image_size", |config| {
        let positions = config.require("num_position_embeddings")?;
        let size = (positions as f64).sqrt() * config.require("patch_size")? as f64;
        Ok(Some((size as u64).into()))
    }),
    always("layer_norm_eps", Fill::Given("text rms_norm_eps")),
    number("layer_norm_eps", 1e-6),
];

/// What is written of every such encoder after its sizes.
pub(super) const AFTER: &[Parameter] = &[
    USE_GELU,
    parameters::count("vision.spatial_merge_size", &["spatial_merge_size"]),
    EPSILON,
    Parameter::With(|config, keys| {
        let layers = config.require("num_hidden_layers")?;
        let deep = deep(config)?;
        let flags: Vec<bool> = (0..layers).map(|layer| deep.contains(&layer)).collect();
        keys.set("vision.is_deepstack_layers", flags);
        Ok(())
    }),
];

pub(super) const FAMILY: Architecture = Architecture {
    defaults: &[
        ModelDefaults { model_type: "qwen3_vl_vision", values: &[DEEP, DEFAULTS], in_wrapper: &[] },
        ModelDefaults {
            model_type: "qwen3_vl_moe_vision",
            values: &[DEEP, DEFAULTS],
            in_wrapper: &[],
        },
        ModelDefaults { model_type: "qwen3_5_vision", values: &[DEFAULTS], in_wrapper: &[] },
        ModelDefaults { model_type: "qwen3_5_moe_vision", values: &[DEFAULTS], in_wrapper: &[] },
        ModelDefaults { model_type: "qwen4_exp_vision", values: &[DEFAULTS], in_wrapper: &[] },
    ],
    parameters: &[
        VISION,
        &[Parameter::Constant("projector_type", Constant::Text("qwen3vl_merger"))],
        AFTER,
    ],
    wrappers: &["model.visual.", "visual."],
    // In the checkpoint they are numbered one after the other, in GGUF by their layers.
    rename: |config, name| {
        let (number, rest) = name.strip_prefix("deepstack_merger_list.")?.split_once('.')?;
        Some(format!("deepstack.{}.{rest}", numbered(config, number)?))
    },
    check: |config| {
        let (layers, deep) = (config.require("num_hidden_layers")?, deep(config)?);
        if deep.len() as u64 > layers {
            let found = format!("a list of {}", deep.len());
            return Err(config.wrong(INDEXES, &found, "at most as many as there are layers"));
        }
        match deep.iter().find(|layer| **layer >= layers) {
            Some(layer) => {
                let expected = format!("layers 0 to {}", layers.saturating_sub(1));
                Err(config.wrong(INDEXES, &format!("a list with {layer}"), &expected))
            }
            None => Ok(()),
        }
    },
    tensors: &[
        TOWER,
        &[
            Rule::exact("patch_embed.proj.bias", "v.patch_embd.bias", &[WIDTH]),
            Rule::new("merger.norm", "v.post_ln", &[WIDTH]).bias(),
            Rule::new("merger.linear_fc1", "mm.0", &[SQUARE, SQUARE]).bias(),
            Rule::new("merger.linear_fc2", "mm.2", &[TEXT_WIDTH, SQUARE]).bias(),
            Rule::new("deepstack.{}.norm", "v.deepstack.{}.norm", &[SQUARE])
                .bias()
                .in_layers(is_deep),
            Rule::new("deepstack.{}.linear_fc1", "v.deepstack.{}.fc1", &[SQUARE, SQUARE])
                .bias()
                .in_layers(is_deep),
            Rule::new("deepstack.{}.linear_fc2", "v.deepstack.{}.fc2", &[TEXT_WIDTH, SQUARE])
                .bias()
                .in_layers(is_deep),
        ],
    ],
    ..CLIP
};

/// The layers, and what comes before them.
pub(super) const TOWER: &[Rule] = &[
    Rule::split_exact("patch_embed.proj.weight", TWO_IMAGES, TWO_PATCHES),
    Rule::new("pos_embed", "v.position_embd", &[Dim::Key("num_position_embeddings"), WIDTH]),
    Rule::new("blocks.{}.norm1", "v.blk.{}.ln1", &[WIDTH]).bias(),
    Rule::new("blocks.{}.norm2", "v.blk.{}.ln2", &[WIDTH]).bias(),
    Rule::new("blocks.{}.attn.qkv", "v.blk.{}.attn_qkv", &[THREE_WIDTHS, WIDTH]).bias(),
    Rule::new("blocks.{}.attn.proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH]).bias(),
    Rule::new("blocks.{}.mlp.linear_fc1", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
    Rule::new("blocks.{}.mlp.linear_fc2", "v.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
];

const INDEXES: &str = "deepstack_visual_indexes";

pub(super) const DEEP: &[Default] = &[with(INDEXES, |_| Ok(Some(vec![8, 16, 24].into())))];

/// The layers whose output goes to the text model's first layers.
fn deep(config: &Config) -> Result<Vec<u64>> {
    let Some(value) = config.get(INDEXES) else { return Ok(Vec::new()) };
    let layers: Option<Vec<u64>> =
        value.as_array().and_then(|layers| layers.iter().map(Value::as_u64).collect());
    layers.ok_or_else(|| config.wrong(INDEXES, &crate::json::describe(value), "a list of layers"))
}

/// The layer of the merger of this number.
pub(super) fn numbered(config: &Config, number: &str) -> Option<u64> {
    let number: usize = number.parse().ok()?;
    deep(config).ok()?.get(number).copied()
}

fn is_deep(config: &Config, layer: u64) -> bool {
    deep(config).is_ok_and(|layers| layers.contains(&layer))
}
