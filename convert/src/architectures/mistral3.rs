//! Mistral Small 3.1 and later and Ministral 3, their text models: Llama's graph, queries scaled
//! with their position.

use serde_json::{Value, json};

use super::{
    Architecture, BASE, Fill, llama,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    rope::{self, Rope},
    shared::*,
};

pub(super) const MISTRAL3: Architecture = Architecture {
    name: "mistral3",
    classes: &["Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"],
    defaults: &[
        model(
            "mistral",
            &[
                &[
                    count("vocab_size", 32_000),
                    count("hidden_size", 4096),
                    count("intermediate_size", 14_336),
                    count("num_hidden_layers", 32),
                    count("num_attention_heads", 32),
                    count("num_key_value_heads", 8),
                    count("max_position_embeddings", 131_072),
                    number("rms_norm_eps", 1e-6),
                    or_null("head_dim", Fill::Quotient("hidden_size", "num_attention_heads")),
                ],
                THETA,
            ],
        ),
        model(
            "ministral3",
            &[&[
                count("vocab_size", 131_072),
                count("hidden_size", 4096),
                count("intermediate_size", 14_336),
                count("num_hidden_layers", 34),
                count("num_attention_heads", 32),
                count("num_key_value_heads", 8),
                count("head_dim", 128),
                count("max_position_embeddings", 262_144),
                number("rms_norm_eps", 1e-5),
                default("rope_parameters", Fill::With(|config| Ok(rope::assumed(config, block())))),
            ]],
        ),
    ],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        llama::ROPE,
        &[Parameter::With(|config, keys| {
            if config.get("model_type").and_then(|kind| kind.as_str()) != Some("ministral3") {
                return Ok(());
            }
            let rope = Rope::read(config)?;
            for (from, key) in [
                ("mscale_all_dim", "rope.scaling.yarn_log_multiplier"),
                ("llama_4_scaling_beta", "attention.temperature_scale"),
            ] {
                match rope.number(from)? {
                    Some(number) => keys.set_number(key, number),
                    None => return Err(config.missing(&rope.shown(from), "a positive number")),
                }
            }
            Ok(())
        })],
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ROTARY_ATTENTION, GATED_MLP],
    check: check_heads,
    computed: llama3_factors,
    tokenizers: llama::TOKENIZERS,
    special: llama::SPECIAL,
    ..BASE
};

fn block() -> Value {
    json!({"rope_type": "yarn", "rope_theta": 1_000_000.0, "factor": 16.0,
        "original_max_position_embeddings": 16_384, "beta_fast": 32.0, "beta_slow": 1.0,
        "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1})
}
