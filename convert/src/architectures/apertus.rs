//! Apertus: Llama's graph without a gate, whose activation has four numbers of its own in each layer.

use serde_json::{Value, json};

use super::{
    Architecture, BASE, Fill, llama,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS},
    rope,
    shared::*,
    tensors::Rule,
};

pub(super) const APERTUS: Architecture = Architecture {
    name: "apertus",
    classes: &["ApertusForCausalLM"],
    defaults: &[model(
        "apertus",
        &[
            &[
                count("max_position_embeddings", 65_536),
                number("rms_norm_eps", 1e-5),
                number("rope_theta", 12_000_000.0),
                default("rope_parameters", Fill::With(|config| Ok(rope::assumed(config, block())))),
            ],
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, llama::ROPE],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        ATTENTION,
        HEAD_NORMS,
        &[
            Rule::new("model.layers.{}.attention_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.feedforward_layernorm", "blk.{}.ffn_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN]),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD]),
            Rule::value("model.layers.{}.mlp.act_fn.alpha_n", "xielu.alpha_n"),
            Rule::value("model.layers.{}.mlp.act_fn.alpha_p", "xielu.alpha_p"),
            Rule::value("model.layers.{}.mlp.act_fn.beta", "xielu.beta"),
            Rule::value("model.layers.{}.mlp.act_fn.eps", "xielu.eps"),
        ],
    ],
    needs_output: true,
    check: check_heads,
    computed: llama3_factors,
    tokenizers: llama::TOKENIZERS,
    special: llama::SPECIAL,
    ..BASE
};

fn block() -> Value {
    json!({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0})
}
