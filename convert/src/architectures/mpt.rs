//! MPT: positions by ALiBi, no biases.

use serde_json::Value;

use super::{
    Architecture, BASE,
    parameters::{self, Constant, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{Config, Result, json::Object};

pub(super) const MPT: Architecture = Architecture {
    name: "mpt",
    classes: &["MptForCausalLM", "MPTForCausalLM"],
    defaults: &[model(
        "mpt",
        &[&[
            count("vocab_size", 50_368),
            count("max_seq_len", 2048),
            flag("tie_word_embeddings", true),
        ]],
    )],
    parameters: &[&[
        parameters::required("context_length", &["max_seq_len"]),
        parameters::required("embedding_length", &["d_model"]),
        parameters::required("block_count", &["n_layers"]),
        Parameter::With(|config, keys| {
            keys.set_count("feed_forward_length", INNER.size(config)?);
            Ok(())
        }),
        parameters::required("attention.head_count", &["n_heads"]),
        Parameter::With(attention),
        Parameter::FileType,
    ]],
    prefix: "transformer.",
    tensors: &[&[
        Rule::new("transformer.wte", "token_embd", &[VOCAB, WIDTH]),
        Rule::new("transformer.wpe", "position_embd", &[Dim::Key("max_seq_len"), WIDTH]).optional(),
        Rule::new("transformer.norm_f", "output_norm", &[WIDTH]).maybe_bias(),
        Rule::new("lm_head", "output", &[VOCAB, WIDTH]).head(),
        Rule::new("transformer.blocks.{}.norm_1", "blk.{}.attn_norm", &[WIDTH]).maybe_bias(),
        Rule::new("transformer.blocks.{}.attn.Wqkv", "blk.{}.attn_qkv", &[FUSED, WIDTH])
            .maybe_bias(),
        Rule::new("transformer.blocks.{}.attn.out_proj", "blk.{}.attn_output", &[WIDTH, WIDTH])
            .maybe_bias(),
        Rule::new("transformer.blocks.{}.norm_2", "blk.{}.ffn_norm", &[WIDTH]).maybe_bias(),
        Rule::new("transformer.blocks.{}.ffn.up_proj", "blk.{}.ffn_up", &[INNER, WIDTH])
            .maybe_bias(),
        Rule::new("transformer.blocks.{}.ffn.down_proj", "blk.{}.ffn_down", &[WIDTH, INNER])
            .maybe_bias(),
    ]],
    ..BASE
};

const WIDTH: Dim = Dim::Key("d_model");
const INNER: Dim = Dim::Product(&[Dim::Number(4), Dim::Key("d_model")]);
const FUSED: Dim = Dim::Derived("rows of queries, keys and values", |config| {
    let own = positive(config, "kv_n_heads")?;
    let (heads, width) = (config.require("n_heads")?, WIDTH.size(config)?);
    let shared = own.unwrap_or(heads).saturating_mul(2);
    Ok((width / heads).saturating_mul(shared).saturating_add(width))
});
const OBJECT: &str = "attn_config";

fn object(config: &Config) -> Object {
    config.get(OBJECT).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn positive(config: &Config, key: &str) -> Result<Option<u64>> {
    let number = config.number_in(&object(config), key, &format!("{OBJECT}.{key}"))?;
    Ok(number.map(|number| number as u64).filter(|number| *number > 0))
}

/// What the object for attention says.
fn attention(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let object = object(config);
    if let Some(heads) = positive(config, "kv_n_heads")? {
        keys.set_count("attention.head_count_kv", heads);
    }
    keys.set("attention.layer_norm_epsilon", Constant::Number(1e-5));
    let number = |key: &str| config.number_in(&object, key, &format!("{OBJECT}.{key}"));
    if let Some(most) = number("clip_qkv")? {
        keys.set_number("attention.clamp_kqv", most);
    }
    // What the class assumes is ALiBi with a bias of up to 8.
    let alibi = object.get("alibi").and_then(Value::as_bool).unwrap_or(true);
    let bias = if alibi { number("alibi_bias_max")?.unwrap_or(8.0) } else { 0.0 };
    keys.set_number("attention.max_alibi_bias", bias);
    Ok(())
}
