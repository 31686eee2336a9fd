//! Command R and Aya: one norm for both parts of a layer, scaled logits.

use super::{
    Architecture, BASE,
    parameters::{self, COMMON, CONTEXT, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::Rule,
};

pub(super) const COHERE: Architecture = Architecture {
    name: "command-r",
    classes: &["CohereForCausalLM"],
    defaults: &[model(
        "cohere",
        &[
            &[
                count("max_position_embeddings", 8192),
                number("layer_norm_eps", 1e-5),
                number("logit_scale", 0.0625),
                number("rope_theta", 500_000.0),
                flag("tie_word_embeddings", true),
            ],
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            Parameter::With(|config, keys| {
                // The context it was trained for, where the file has both.
                let longest = config.positive("model_max_length")?;
                let key = config.alias(CONTEXT).unwrap_or("max_position_embeddings");
                keys.set_count("context_length", longest.map_or_else(|| config.require(key), Ok)?);
                Ok(())
            }),
            parameters::required_number("logit_scale", &["logit_scale"]),
            Parameter::Constant("rope.scaling.type", Constant::Text("none")),
        ],
    ],
    tensors: &[
        super::gemma::TIED,
        OUTPUT_NORM,
        ATTENTION,
        GATED_MLP,
        &[
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", &[HEADS, HEAD])
                .if_true("use_qk_norm"),
            Rule::new("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", &[KEY_HEADS, HEAD])
                .if_true("use_qk_norm"),
        ],
    ],
    check: check_heads,
    ..BASE
};
