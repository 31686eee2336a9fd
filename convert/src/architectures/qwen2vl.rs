//! Qwen2-VL, Qwen2.5-VL and Qwen2.5-Omni, their text models: Qwen2's graph, positions of several
//! axes.

use super::{
    Architecture, BASE, Default,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS},
    qwen2,
    shared::*,
};

pub(super) const QWEN2VL: Architecture = Architecture {
    name: "qwen2vl",
    classes: &[
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLModel",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5OmniModel",
    ],
    defaults: &[part(
        "qwen2_vl_text",
        SIZES,
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-5),
                number("rope_theta", 1_000_000.0),
                count("num_key_value_heads", 8),
            ],
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE],
    tensors: qwen2::QWEN2.tensors,
    check: check_heads,
    ..BASE
};

const SIZES: &[Default] = &sizes([152_064, 8192, 29_568, 80, 64]);
