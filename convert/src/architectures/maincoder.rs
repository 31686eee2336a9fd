//! Maincoder: Qwen3's parts with rotary pairs side by side.

use super::{
    Architecture, BASE, llama,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS},
    shared::*,
};

pub(super) const MAINCODER: Architecture = Architecture {
    name: "maincoder",
    classes: &["MaincoderForCausalLM"],
    defaults: &[model(
        "maincoder",
        &[
            &[count("max_position_embeddings", 2048), number("rms_norm_eps", 1e-5)],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, llama::HEAD_DIM],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION, HEAD_NORMS, GATED_MLP],
    check: check_heads,
    ..BASE
};
