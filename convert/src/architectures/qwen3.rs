//! Qwen3: norms of queries and keys instead of biases.

use super::{Architecture, BASE, shared::*};

pub(super) const QWEN3: Architecture = Architecture {
    name: "qwen3",
    classes: &["Qwen3ForCausalLM"],
    defaults: &[model(
        "qwen3",
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-6),
                count("num_key_value_heads", 32),
                count("head_dim", 128),
            ],
            THETA,
            SAME_HEADS,
            HEAD_SIZE,
        ],
    )],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION, HEAD_NORMS, GATED_MLP],
    check: check_heads,
    ..BASE
};
