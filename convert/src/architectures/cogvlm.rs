//! CogVLM, its text model: Llama's graph, whose layers have a second set of matrices for images.

use super::{
    Architecture, llama,
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const COGVLM: Architecture = Architecture {
    name: "cogvlm",
    classes: &["CogVLMForCausalLM"],
    defaults: &[model(
        "cogvlm",
        &[&[count("max_position_embeddings", 2048), number("rms_norm_eps", 1e-6)], SAME_HEADS],
    )],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, FOR_TEXT, FOR_IMAGES],
    ..llama::LLAMA
};

/// Queries, keys and values of as many heads: the graph knows no fewer keys than queries.
const FUSED: &[Dim] = &[Dim::Product(&[Dim::Number(3), QUERY]), HIDDEN];
const BACK: &[Dim] = &[HIDDEN, QUERY];
const UP: &[Dim] = &[FEED_FORWARD, HIDDEN];
const DOWN: &[Dim] = &[HIDDEN, FEED_FORWARD];

const FOR_TEXT: &[Rule] = &[
    Rule::new(
        "model.layers.{}.self_attn.language_expert_query_key_value",
        "blk.{}.attn_qkv",
        FUSED,
    ),
    Rule::new("model.layers.{}.self_attn.language_expert_dense", "blk.{}.attn_output", BACK),
    Rule::new("model.layers.{}.mlp.language_mlp.gate_proj", "blk.{}.ffn_gate", UP),
    Rule::new("model.layers.{}.mlp.language_mlp.up_proj", "blk.{}.ffn_up", UP),
    Rule::new("model.layers.{}.mlp.language_mlp.down_proj", "blk.{}.ffn_down", DOWN),
];

const FOR_IMAGES: &[Rule] = &[
    Rule::new(
        "model.layers.{}.self_attn.vision_expert_query_key_value",
        "blk.{}.vis_attn_qkv",
        FUSED,
    ),
    Rule::new("model.layers.{}.self_attn.vision_expert_dense", "blk.{}.vis_attn_output", BACK),
    Rule::new("model.layers.{}.mlp.vision_mlp.gate_proj", "blk.{}.vis_gate", UP),
    Rule::new("model.layers.{}.mlp.vision_mlp.up_proj", "blk.{}.vis_up", UP),
    Rule::new("model.layers.{}.mlp.vision_mlp.down_proj", "blk.{}.vis_down", DOWN),
];
