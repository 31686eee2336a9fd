//! Command R7B and A: Command R with a sliding window in three of four layers.

use super::{
    Architecture, BASE,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::Rule,
};

pub(super) const COHERE2: Architecture = Architecture {
    name: "cohere2",
    classes: &["Cohere2ForCausalLM"],
    defaults: &[model(
        "cohere2",
        &[
            &[
                count("max_position_embeddings", 8192),
                number("layer_norm_eps", 1e-5),
                number("logit_scale", 0.0625),
                number("rope_theta", 10_000.0),
                number("rotary_pct", 1.0),
                count("sliding_window", 4096),
                flag("tie_word_embeddings", true),
            ],
            SAME_HEADS,
            &[or_null("head_dim", super::Fill::Quotient("hidden_size", "num_attention_heads"))],
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required_number("logit_scale", &["logit_scale"]),
            parameters::required("attention.sliding_window", &["sliding_window"]),
            parameters::required("vocab_size", &["vocab_size"]),
            Parameter::With(|config, keys| {
                let share = config.number("rotary_pct")?.unwrap_or(1.0);
                let head =
                    config.require("hidden_size")? / config.require("num_attention_heads")?;
                keys.set_count("rope.dimension_count", (share * head as f64) as u64);
                Ok(())
            }),
            Parameter::Constant("rope.scaling.type", Constant::Text("none")),
        ],
    ],
    tensors: &[
        super::gemma::TIED,
        OUTPUT_NORM,
        ATTENTION,
        GATED_MLP,
        &[Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN])],
    ],
    check: check_heads,
    ..BASE
};
