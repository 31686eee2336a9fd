//! Qwen2 and Qwen2.5: biases on queries, keys and values.

use super::{Architecture, BASE, shared::*};

pub(super) const QWEN2: Architecture = Architecture {
    name: "qwen2",
    classes: &["Qwen2ForCausalLM"],
    defaults: &[model(
        "qwen2",
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-6),
                count("num_key_value_heads", 32),
            ],
            THETA,
            SAME_HEADS,
            HEAD_SIZE,
        ],
    )],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, BIASED_ATTENTION, GATED_MLP],
    check: check_heads,
    ..BASE
};
