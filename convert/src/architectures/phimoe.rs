//! Phi-3.5-MoE: experts, norms with biases, a head with a bias.

use serde_json::Value;

use crate::{Config, Result};

use super::{
    Architecture, Fill, mixtral,
    parameters::{self, Parameter},
    phi3::{self, ORIGINAL_CONTEXT},
    rope::{ORIGINAL, Rope},
    shared::*,
    tensors::Rule,
};

pub(super) const PHIMOE: Architecture = Architecture {
    name: "phimoe",
    classes: &["PhiMoEForCausalLM"],
    defaults: &[model(
        "phimoe",
        &[&[
            count("max_position_embeddings", 131_072),
            count("original_max_position_embeddings", 4096),
            number("rms_norm_eps", 1e-5),
            number("rope_theta", 1e6),
            count("num_key_value_heads", 8),
            count("num_experts_per_tok", 2),
            count("num_local_experts", 16),
            flag("attention_bias", false),
            default(ORIGINAL_CONTEXT, Fill::With(original_context)),
        ]],
    )],
    parameters: &[
        phi3::KEYS,
        &[
            parameters::required("expert_used_count", &["num_experts_per_tok"]),
            parameters::required("expert_count", &["num_local_experts", "num_experts"]),
        ] as &[Parameter],
    ],
    tensors: &[
        &[
            Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
            Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).bias(),
            Rule::new("model.norm", "output_norm", &[HIDDEN]).bias(),
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).bias(),
            Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
                .bias(),
        ],
        ATTENTION,
        mixtral::EXPERTS,
        mixtral::EXPERTS_IN_ONE,
    ],
    computed: |config, keys| phi3::factors_of(config, keys, |scale, _| 0.1 * scale.ln() + 1.0),
    ..phi3::PHI3
};

/// What the block says, else what is beside it.
fn original_context(config: &Config) -> Result<Option<Value>> {
    let own = Rope::read(config)?.own_original_context()?;
    own.map_or_else(|| config.require(ORIGINAL), Ok).map(|context| Some(context.into()))
}
