//! OLMo 2 and 3: norms after each part, and of all queries and keys.

use super::{
    Architecture, BASE,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::Rule,
};

pub(super) const OLMO2: Architecture = Architecture {
    name: "olmo2",
    classes: &["Olmo2ForCausalLM", "Olmo3ForCausalLM"],
    defaults: &[
        model(
            "olmo2",
            &[
                &[count("max_position_embeddings", 2048), number("rms_norm_eps", 1e-5)],
                THETA,
                SAME_HEADS,
            ],
        ),
        model(
            "olmo3",
            &[
                &[
                    count("max_position_embeddings", 2048),
                    number("rms_norm_eps", 1e-5),
                    count("sliding_window", 4096),
                    number("rope_theta", 500_000.0),
                    number("rope_local_theta", 500_000.0),
                ],
                SAME_HEADS,
            ],
        ),
    ],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::count("attention.sliding_window", &["sliding_window"]),
            Parameter::With(|config, keys| {
                if config.get("sliding_window").is_some() {
                    // All but every fourth layer.
                    let layers = sliding_layers(config, |layer| (layer + 1) % 4 != 0)?;
                    keys.set("attention.sliding_window_pattern", layers);
                }
                Ok(())
            }),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        ATTENTION,
        WIDE_NORMS,
        GATED_MLP,
        &[
            Rule::new(
                "model.layers.{}.post_attention_layernorm",
                "blk.{}.post_attention_norm",
                &[HIDDEN],
            ),
            Rule::new(
                "model.layers.{}.post_feedforward_layernorm",
                "blk.{}.post_ffw_norm",
                &[HIDDEN],
            ),
        ],
    ],
    check: check_heads,
    needs_output: true,
    ..BASE
};
