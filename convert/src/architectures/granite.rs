//! Granite 3: Llama's graph with multipliers.

use super::{
    Architecture, BASE, Default, llama,
    parameters::{self, COMMON, FILE_TYPE, Parameter},
    shared::*,
};

pub(super) const GRANITE: Architecture = Architecture {
    name: "granite",
    classes: &[
        "GraniteForCausalLM",
        "GraniteSpeechForConditionalGeneration",
        "GraniteSpeechPlusForConditionalGeneration",
    ],
    defaults: &[model("granite", &[GIVEN, SAME_HEADS])],
    parameters: &[COMMON, FILE_TYPE, llama::ROPE, MULTIPLIERS],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ROTARY_ATTENTION, GATED_MLP],
    check: check_heads,
    computed: llama3_factors,
    tokenizers: llama::TOKENIZERS,
    special: llama::SPECIAL,
    ..BASE
};

pub(super) const GIVEN: &[Default] = &[
    count("max_position_embeddings", 2048),
    number("rms_norm_eps", 1e-6),
    number("rope_theta", 10_000.0),
    number("attention_multiplier", 1.0),
    number("embedding_multiplier", 1.0),
    number("residual_multiplier", 1.0),
    number("logits_scaling", 1.0),
];

/// What scales the parts of the graph.
pub(super) const MULTIPLIERS: &[Parameter] = &[
    parameters::number("attention.scale", &["attention_multiplier"]),
    parameters::number("embedding_scale", &["embedding_multiplier"]),
    parameters::number("residual_scale", &["residual_multiplier"]),
    parameters::number("logit_scale", &["logits_scaling"]),
];
