//! Qwen2 and Qwen2.5: biases on queries, keys and values.

use super::{
    Architecture, BASE, Default, encoder,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::Rule,
};

pub(super) const QWEN2: Architecture = Architecture {
    name: "qwen2",
    classes: &[
        "Qwen2ForCausalLM",
        "Qwen2Model",
        "Qwen2AudioForConditionalGeneration",
        "AudioFlamingo3ForConditionalGeneration",
        "DotsOCRForCausalLM",
    ],
    defaults: &[part("qwen2", SIZES, GIVEN)],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, &[Parameter::With(encoder::pooling)]],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, BIASED_ATTENTION, GATED_MLP],
    check: check_heads,
    ..BASE
};

/// KORMo: Qwen2's graph without biases, its norms under other names.
pub(super) const KORMO: Architecture = Architecture {
    classes: &["KORMoForCausalLM"],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        &[
            Rule::new("model.layers.{}.pre_attention_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.pre_mlp_layernorm", "blk.{}.ffn_norm", &[HIDDEN]),
        ],
        ATTENTION,
        GATED_MLP,
    ],
    ..QWEN2
};

pub(super) const GIVEN: &[&[Default]] = &[
    &[
        count("max_position_embeddings", 32_768),
        number("rms_norm_eps", 1e-6),
        count("num_key_value_heads", 32),
    ],
    THETA,
    SAME_HEADS,
];

const SIZES: &[Default] = &sizes([151_936, 4096, 22_016, 32, 32]);
