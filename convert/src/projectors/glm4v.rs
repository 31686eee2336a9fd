//! GLM-4V, GLM-4.5V, GLM-OCR and GLM-5.3: patches put together by a convolution, a gated projector.

use serde_json::Value;

use super::{Encoder, Projector, nothing, shared::*};
use crate::{
    Config, Result,
    architectures::{
        Architecture, Default, ModelDefaults,
        parameters::{self, Constant, Keys, Parameter},
        tensors::{Dim, Rule},
    },
};

pub(super) const GLM4V: Projector = Projector {
    classes: &[
        "Glm4vForConditionalGeneration",
        "Glm4vMoeForConditionalGeneration",
        "GlmOcrForConditionalGeneration",
    ],
    name: "glm4v",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["visual."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

/// GLM-5.3 Flash: norms of queries and keys, no learned positions.
pub(super) const GLM5V: Projector = Projector {
    classes: &["Glm5NextForConditionalGeneration"],
    name: "glm5v",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["visual."],
        prepare: nothing,
        family: &Architecture {
            parameters: &[
                VISION,
                &[
                    Parameter::Constant("projector_type", Constant::Text("glm5v")),
                    Parameter::With(activation),
                    EPSILON,
                    parameters::required("vision.spatial_merge_size", &["spatial_merge_size"]),
                    parameters::number("vision.swiglu_clamp", &["swiglu_limit"]),
                    Parameter::With(|config, keys| {
                        pixels(config, keys, "preprocessor min_image_tokens", "min")?;
                        pixels(config, keys, "preprocessor max_image_tokens", "max")
                    }),
                ],
            ],
            ..FAMILY
        },
    }],
    types: &[],
};

/// The preprocessor counts tokens, each of which stands for so many patches.
fn pixels(config: &Config, keys: &mut Keys<'_>, from: &str, which: &str) -> Result<()> {
    let Some(tokens) = config.positive(from)? else { return Ok(()) };
    let side = |key: &str, otherwise| config.positive(key).map(|size| size.unwrap_or(otherwise));
    let side =
        side("preprocessor patch_size", 14)?.saturating_mul(side("preprocessor merge_size", 2)?);
    let pixels = tokens.saturating_mul(side.saturating_mul(side));
    keys.set_count(&format!("vision.image_{which}_pixels"), pixels);
    Ok(())
}

const DEFAULTS: &[Default] = &[
    count("num_hidden_layers", 24),
    count("hidden_size", 1536),
    count("intermediate_size", 13_696),
    count("out_hidden_size", 4096),
    same("num_attention_heads", "num_heads"),
    count("num_attention_heads", 12),
    same("num_channels", "in_channels"),
    count("num_channels", 3),
    count("image_size", 336),
    count("patch_size", 14),
    count("spatial_merge_size", 2),
    text("hidden_act", "silu"),
    number("rms_norm_eps", 1e-5),
    same("layer_norm_eps", "rms_norm_eps"),
];

const OUTPUT: Dim = Dim::Key("out_hidden_size");
const MERGE: Dim = Dim::Key("spatial_merge_size");

fn is_ocr(config: &Config) -> bool {
    config.get("model_type").and_then(Value::as_str) == Some("glm_ocr_vision")
}

fn is_glm5(config: &Config) -> bool {
    let ty = config.get("model_type").and_then(Value::as_str);
    ty.is_some_and(|ty| ty.starts_with("glm5"))
}

/// The width of the feed-forward parts of the layers.
const LAYER_INNER: Dim = Dim::Derived("width of the feed-forward parts", |config| {
    let own = is_ocr(config) || is_glm5(config);
    config.require(if own { "intermediate_size" } else { "out_hidden_size" })
});
/// That of the projector's.
const LAST_INNER: Dim = Dim::Derived("width of the projector", |config| match is_ocr(config) {
    false if is_glm5(config) => {
        Ok(config.positive("projection_intermediate_size")?.unwrap_or(10_240))
    }
    true => Ok(config.require("out_hidden_size")?.saturating_mul(config.require("num_channels")?)),
    false => config.require("intermediate_size"),
});
const HEAD: Dim =
    Dim::Derived("size of a head", |config| config.quotient("hidden_size", "num_attention_heads"));

fn activation(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    match config.get("hidden_act").and_then(Value::as_str).map(str::to_lowercase) {
        Some(act) if act == "gelu" => keys.set("use_gelu", true),
        Some(act) if act == "silu" => keys.set("use_silu", true),
        _ => {}
    }
    Ok(())
}

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults { model_type: "glm4v_vision", values: &[DEFAULTS], in_wrapper: &[] }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("glm4v")),
            Parameter::With(activation),
            EPSILON,
        ],
    ],
    wrappers: &["model.visual.", "visual."],
    tensors: &[&[
        Rule::split_exact("patch_embed.proj.weight", TWO_IMAGES, TWO_PATCHES),
        Rule::exact("patch_embed.proj.bias", "v.patch_embd.bias", &[WIDTH]),
        Rule::new("post_conv_layernorm", "v.norm_embd", &[WIDTH]).optional(),
        Rule::new("embeddings.position_embedding", "v.position_embd", &[PATCHES, WIDTH]).optional(),
        Rule::new("blocks.{}.norm1", "v.blk.{}.ln1", &[WIDTH]),
        Rule::new("blocks.{}.norm2", "v.blk.{}.ln2", &[WIDTH]),
        Rule::new("blocks.{}.attn.qkv", "v.blk.{}.attn_qkv", &[THREE_WIDTHS, WIDTH]).maybe_bias(),
        Rule::new("blocks.{}.attn.proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH]).maybe_bias(),
        Rule::new("blocks.{}.attn.q_norm", "v.blk.{}.attn_q_norm", &[HEAD]).optional(),
        Rule::new("blocks.{}.attn.k_norm", "v.blk.{}.attn_k_norm", &[HEAD]).optional(),
        Rule::new("blocks.{}.mlp.gate_proj", "v.blk.{}.ffn_gate", &[LAYER_INNER, WIDTH])
            .maybe_bias(),
        Rule::new("blocks.{}.mlp.up_proj", "v.blk.{}.ffn_up", &[LAYER_INNER, WIDTH]).maybe_bias(),
        Rule::new("blocks.{}.mlp.down_proj", "v.blk.{}.ffn_down", &[WIDTH, LAYER_INNER])
            .maybe_bias(),
        Rule::new("post_layernorm", "v.post_ln", &[WIDTH]),
        Rule::new("downsample", "mm.patch_merger", &[OUTPUT, WIDTH, MERGE, MERGE]).bias(),
        Rule::new("merger.proj", "mm.model.fc", &[OUTPUT, OUTPUT]),
        Rule::new("merger.post_projection_norm", "mm.post_norm", &[OUTPUT]).bias(),
        Rule::new("merger.gate_proj", "mm.gate", &[LAST_INNER, OUTPUT]),
        Rule::new("merger.up_proj", "mm.up", &[LAST_INNER, OUTPUT]),
        Rule::new("merger.down_proj", "mm.down", &[OUTPUT, LAST_INNER]),
    ]],
    ..CLIP
};
