//! Mellum 2: experts in all layers, norms of queries and keys, a sliding window in some layers.

use serde_json::{Value, json};

use super::{
    Architecture, BASE, Fill,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    qwen3moe, rope,
    shared::*,
};

pub(super) const MELLUM: Architecture = Architecture {
    name: "mellum",
    classes: &["MellumForCausalLM"],
    defaults: &[model(
        "mellum",
        &[&[
            count("max_position_embeddings", 131_072),
            number("rms_norm_eps", 1e-6),
            count("num_key_value_heads", 4),
            count("head_dim", 128),
            default("rope_parameters", Fill::With(|config| Ok(rope::assumed(config, block())))),
            count("moe_intermediate_size", 896),
            count("sliding_window", 1024),
            default("num_experts", Fill::Given("num_local_experts")),
            count("num_experts", 64),
            count("num_experts_per_tok", 8),
        ]],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        qwen3moe::WIDTH,
        &[Parameter::With(|config, keys| {
            let uses =
                config.get("use_sliding_window").is_none() || config.flag("use_sliding_window")?;
            if let (true, Some(window)) = (uses, config.positive("sliding_window")?) {
                keys.set_count("attention.sliding_window", window);
                keys.set("attention.sliding_window_pattern", sliding_layers(config, |_| false)?);
            }
            Ok(())
        })],
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION, HEAD_NORMS, EXPERTS],
    check: check_heads,
    needs_output: true,
    ..BASE
};

fn block() -> Value {
    json!({"full_attention": {"rope_type": "default", "rope_theta": 500_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0}})
}
