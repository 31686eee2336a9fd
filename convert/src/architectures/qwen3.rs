//! Qwen3: norms of queries and keys instead of biases.

use super::{
    Architecture, BASE, Default, encoder,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    rerank,
    shared::*,
};

pub(super) const QWEN3: Architecture = Architecture {
    name: "qwen3",
    classes: &["Qwen3ForCausalLM", "Qwen3Model", "StepVLForConditionalGeneration"],
    defaults: &[part(
        "qwen3",
        SIZES,
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-6),
                count("num_key_value_heads", 32),
                count("head_dim", 128),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[Parameter::With(encoder::pooling), Parameter::With(rerank::keys)],
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION, HEAD_NORMS, GATED_MLP],
    check: check_heads,
    ..BASE
};

const SIZES: &[Default] = &sizes([151_936, 4096, 22_016, 32, 32]);
