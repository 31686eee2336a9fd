//! SmolLM3: Llama's graph without rotation in every fourth layer.

use super::{
    Architecture, BASE, llama,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS},
    shared::*,
};

pub(super) const SMOLLM3: Architecture = Architecture {
    name: "smollm3",
    classes: &["SmolLM3ForCausalLM"],
    defaults: &[model(
        "smollm3",
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-6),
                number("rope_theta", 2_000_000.0),
                count("num_key_value_heads", 4),
                flag("tie_word_embeddings", true),
            ],
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, llama::ROPE],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ROTARY_ATTENTION, GATED_MLP],
    check: check_heads,
    computed: llama3_factors,
    tokenizers: llama::TOKENIZERS,
    special: llama::SPECIAL,
    ..BASE
};
