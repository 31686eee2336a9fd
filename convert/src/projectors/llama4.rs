//! Llama 4: an encoder whose patches are shuffled into fewer, wider ones.

use serde_json::Value;

use super::{Encoder, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, Default, ModelDefaults,
    parameters::{Constant, Parameter},
    tensors::{Dim, Rule},
};

pub(super) const LLAMA4: Projector = Projector {
    classes: &["Llama4ForConditionalGeneration"],
    name: "llama4",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_model.", "multi_modal_projector."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

const DEFAULTS: &[Default] = &[
    count("hidden_size", 768),
    count("intermediate_size", 5632),
    count("num_hidden_layers", 34),
    count("num_attention_heads", 16),
    count("num_channels", 3),
    count("image_size", 448),
    count("patch_size", 14),
    count("vision_output_dim", 7680),
    count("projector_input_dim", 4096),
    count("projector_output_dim", 4096),
    number("pixel_shuffle_ratio", 0.5),
    number("norm_eps", 1e-5),
    same("layer_norm_eps", "norm_eps"),
    text("hidden_act", "gelu"),
];

const OUTPUT: Dim = Dim::Key("projector_output_dim");

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "llama4_vision_model",
        values: &[DEFAULTS],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("llama4")),
            EPSILON,
            Parameter::With(|config, keys| {
                const KEY: &str = "pixel_shuffle_ratio";
                let ratio = config.number(KEY)?.unwrap_or(0.5);
                let factor = 1.0 / ratio;
                if !(1.0..1024.0).contains(&factor) {
                    return Err(config.wrong(KEY, &ratio.to_string(), "a number of at most 1"));
                }
                keys.set_count("vision.projector.scale_factor", factor as u64);
                Ok(())
            }),
            USE_GELU,
        ],
    ],
    wrappers: &["model.vision_model.", "vision_model.", "model."],
    check: |config| match config.get("hidden_act").and_then(Value::as_str) {
        Some("gelu") => Ok(()),
        other => {
            let found = crate::json::describe(&other.unwrap_or_default().into());
            Err(config.wrong("hidden_act", &found, "gelu, which engines assume"))
        }
    },
    tensors: &[&[
        Rule::new(
            "patch_embedding.linear",
            "v.patch_embd",
            &[WIDTH, Dim::Product(&[CHANNELS, PATCH, PATCH])],
        ),
        Rule::exact("class_embedding", "v.class_embd", &[WIDTH]),
        Rule::exact(
            "positional_embedding_vlm",
            "v.position_embd.weight",
            &[PATCHES_AND_CLASS, WIDTH],
        ),
        Rule::new("layernorm_pre", "v.pre_ln", &[WIDTH]).bias(),
        Rule::new("layernorm_post", "v.post_ln", &[WIDTH]).bias(),
        Rule::new("model.layers.{}.input_layernorm", "v.blk.{}.ln1", &[WIDTH]).bias(),
        Rule::new("model.layers.{}.post_attention_layernorm", "v.blk.{}.ln2", &[WIDTH])
            .bias()
            .when(|config| Ok(!config.like_reference())),
        // The reference's converter takes it for Gemma 4's norm of the same name, so that engines
        // apply it after attention and no norm before the feed-forward part.
        Rule::new("model.layers.{}.post_attention_layernorm", "v.blk.{}.attn_post_norm", &[WIDTH])
            .bias()
            .when(|config| Ok(config.like_reference())),
        Rule::new("model.layers.{}.self_attn.q_proj", "v.blk.{}.attn_q", &[WIDTH, WIDTH]).bias(),
        Rule::new("model.layers.{}.self_attn.k_proj", "v.blk.{}.attn_k", &[WIDTH, WIDTH]).bias(),
        Rule::new("model.layers.{}.self_attn.v_proj", "v.blk.{}.attn_v", &[WIDTH, WIDTH]).bias(),
        Rule::new("model.layers.{}.self_attn.o_proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH]).bias(),
        Rule::new("model.layers.{}.mlp.fc1", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
        Rule::new("model.layers.{}.mlp.fc2", "v.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
        Rule::new(
            "vision_adapter.mlp.fc1",
            "mm.model.mlp.1",
            &[Dim::Key("projector_input_dim"), INNER],
        ),
        Rule::new("vision_adapter.mlp.fc2", "mm.model.mlp.2", &[OUTPUT, OUTPUT]),
        // Despite its name there is only one.
        Rule::new(
            "multi_modal_projector.linear_1",
            "mm.model.fc",
            &[TEXT_WIDTH, Dim::Key("vision_output_dim")],
        ),
    ]],
    ..CLIP
};
