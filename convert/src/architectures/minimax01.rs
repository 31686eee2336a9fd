//! MiniMax-Text-01 and M1: lightning attention in seven of eight layers, experts in all.

use std::path::Path;

use gguf_io::SourceFile;
use quant_kernels::Kernels;
use quant_weights::TensorReader;
use serde_json::Value;

use crate::{Config, Result, json, json::describe, model::Tensor};

use super::{
    Architecture, BASE, Default, family, mixtral,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const MINIMAX01: Architecture = Architecture {
    name: "minimax-01",
    classes: &["MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM"],
    defaults: &[
        model("minimax_text_01", &[GIVEN, SAME_HEADS]),
        model("minimax_m1", &[GIVEN, SAME_HEADS]),
    ],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            Parameter::With(write_empty),
            parameters::required_number("residual_scale", &[SCALES[0]]),
            parameters::required("rope.dimension_count", &["rotary_dim"]),
        ],
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, FULL, LIGHTNING, mixtral::EXPERTS],
    check,
    ..BASE
};

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 10_240_000),
    number("rms_norm_eps", 1e-5),
    number("rope_theta", 10_000_000.0),
    count("head_dim", 128),
    count("rotary_dim", 64),
    count("num_local_experts", 32),
    count("num_experts_per_tok", 2),
];

/// What the states before each part count for, and what comes of the part: the graph has one number for
/// all of the first, and none for the others.
const SCALES: [&str; 3] =
    ["layernorm_full_attention_alpha", "layernorm_linear_attention_alpha", "layernorm_mlp_alpha"];
const UNSCALED: [&str; 3] =
    ["layernorm_full_attention_beta", "layernorm_linear_attention_beta", "layernorm_mlp_beta"];

/// Every so many layers the graph attends to all tokens.
const PERIOD: u64 = 8;

/// Tokens that the model has no embedding for, as [`mark_empty`] finds them.
const EMPTY: &str = "tokens without an embedding";

fn attends(_: &Config, layer: u64) -> bool {
    (layer + 1).is_multiple_of(PERIOD)
}

fn is_lightning(config: &Config, layer: u64) -> bool {
    !attends(config, layer)
}

const FULL: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .in_layers(attends),
];

const LIGHTNING: &[Rule] = &[
    Rule::new(
        "model.layers.{}.self_attn.qkv_proj",
        "blk.{}.attn_qkv",
        &[Dim::Product(&[Dim::Number(3), QUERY]), HIDDEN],
    )
    .in_layers(is_lightning),
    Rule::new("model.layers.{}.self_attn.output_gate", "blk.{}.attn_gate", &[QUERY, HIDDEN])
        .in_layers(is_lightning),
    Rule::new("model.layers.{}.self_attn.norm", "blk.{}.attn_norm_2", &[QUERY])
        .in_layers(is_lightning),
    Rule::new("model.layers.{}.self_attn.out_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .in_layers(is_lightning),
];

fn check(config: &Config) -> Result<()> {
    check_heads(config)?;
    let first = config.number(SCALES[0])?;
    for key in SCALES {
        let scale = config.number(key)?;
        if scale != first {
            let expected = format!("the same as {}: GGUF has one number for both", SCALES[0]);
            let found = scale.map_or("no such key".to_owned(), |scale| scale.to_string());
            return Err(config.wrong(key, &found, &expected));
        }
    }
    for key in UNSCALED {
        if let Some(scale) = config.number(key)?.filter(|scale| *scale != 1.0) {
            return Err(config.wrong(key, &scale.to_string(), "1: GGUF has no number for it"));
        }
    }
    let kinds = config.get("attn_type_list").and_then(Value::as_array);
    for (layer, kind) in (0..).zip(kinds.into_iter().flatten()) {
        let expected = u64::from(attends(config, layer));
        if kind.as_u64() != Some(expected) {
            let found = format!("{} in layer {layer}", describe(kind));
            let expected =
                "attention (1) in every eighth layer, as llama.cpp runs it, and 0 in the others";
            return Err(config.wrong("attn_type_list", &found, expected));
        }
    }
    Ok(())
}

fn write_empty(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let tokens = config.get(EMPTY).and_then(Value::as_array).into_iter().flatten();
    let tokens: Vec<i32> = tokens.filter_map(|token| i32::try_from(token.as_u64()?).ok()).collect();
    if !tokens.is_empty() {
        keys.set_global("tokenizer.ggml.suppress_tokens", tokens);
    }
    Ok(())
}

/// Notes which tokens after those of the vocabulary have an embedding of zeros: they would be as likely as
/// any, so that engines have to know them. These rows are read.
///
/// # Errors
/// If the tokenizer is not read, or the embedding.
pub(crate) fn mark_empty(
    architecture: &family::Architecture,
    config: &mut Config,
    (dir, files): (&Path, &[SourceFile]),
    tensors: &[Tensor],
) -> Result<()> {
    if architecture.name != MINIMAX01.name {
        return Ok(());
    }
    let tokenizer = json::read_optional(&dir.join("tokenizer.json"))?.unwrap_or_default();
    let vocabulary = tokenizer.get("model").and_then(|model| model.get("vocab"));
    let (Some(own), Some(embedding)) = (
        vocabulary.and_then(Value::as_object),
        tensors.iter().find(|tensor| tensor.name == "token_embd.weight"),
    ) else {
        return Ok(());
    };
    let (len, own) = (embedding.row_len().max(1), own.len() as u64);
    let mut reader = TensorReader::new(files, Kernels::default());
    let mut empty: Vec<Value> = Vec::new();
    for token in own..embedding.elements() / len {
        let row = reader.values(embedding, token * len..(token + 1) * len)?;
        if row.iter().all(|value| *value == 0.0) {
            empty.push(token.into());
        }
    }
    config.fill(EMPTY, empty.into());
    Ok(())
}
