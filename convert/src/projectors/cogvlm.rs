//! CogVLM: an encoder with one matrix for queries, keys and values, and a gated projector.

use super::{Encoder, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, ModelDefaults,
    parameters::{Constant, Parameter},
    tensors::{Dim, Rule},
};

pub(super) const COGVLM: Projector = Projector {
    classes: &["CogVLMForCausalLM"],
    name: "cogvlm",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

const TEXT_INNER: Dim = Dim::Key("text intermediate_size");

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "",
        values: &[COLOURS, &[number("layer_norm_eps", 1e-6)]],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[EPSILON, Parameter::Constant("projector_type", Constant::Text("cogvlm"))],
    ],
    wrappers: &["model.vision."],
    tensors: &[&[
        Rule::new("patch_embedding.proj", "v.patch_embd", &[WIDTH, CHANNELS, PATCH, PATCH]).bias(),
        Rule::exact("patch_embedding.cls_embedding", "v.class_embd", &[Dim::Number(1), WIDTH]),
        Rule::new(
            "patch_embedding.position_embedding",
            "v.position_embd",
            &[Dim::Key("num_positions"), WIDTH],
        ),
        Rule::new("transformer.layers.{}.input_layernorm", "v.blk.{}.ln1", &[WIDTH]).bias(),
        Rule::new("transformer.layers.{}.post_attention_layernorm", "v.blk.{}.ln2", &[WIDTH])
            .bias(),
        Rule::new(
            "transformer.layers.{}.attention.query_key_value",
            "v.blk.{}.attn_qkv",
            &[THREE_WIDTHS, WIDTH],
        )
        .bias(),
        Rule::new("transformer.layers.{}.attention.dense", "v.blk.{}.attn_out", &[WIDTH, WIDTH])
            .bias(),
        Rule::new("transformer.layers.{}.mlp.fc1", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
        Rule::new("transformer.layers.{}.mlp.fc2", "v.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
        Rule::new("linear_proj.linear_proj", "mm.model.fc", &[TEXT_WIDTH, WIDTH]),
        Rule::new("linear_proj.norm1", "mm.post_fc_norm", &[TEXT_WIDTH]).bias(),
        Rule::new("linear_proj.gate_proj", "mm.gate", &[TEXT_INNER, TEXT_WIDTH]),
        Rule::new("linear_proj.dense_h_to_4h", "mm.up", &[TEXT_INNER, TEXT_WIDTH]),
        Rule::new("linear_proj.dense_4h_to_h", "mm.down", &[TEXT_WIDTH, TEXT_INNER]),
        Rule::exact("boi", "v.boi", &[Dim::Number(1), Dim::Number(1), TEXT_WIDTH]),
        Rule::exact("eoi", "v.eoi", &[Dim::Number(1), Dim::Number(1), TEXT_WIDTH]),
    ]],
    ..CLIP
};
