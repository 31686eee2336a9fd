//! Llama 1, 2, 3.x, TinyLlama, Mistral and what else shares their graph.

use crate::tokenizer::{Adjustment, Kind};

use super::{
    Architecture, BASE, Default, Fill,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
};

pub(super) const LLAMA: Architecture = Architecture {
    name: "llama",
    classes: &[
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "LLaMAForCausalLM",
        "LlamaModel",
        "MistralModel",
        "IQuestCoderForCausalLM",
        "VLlama3ForCausalLM",
        "LlavaForConditionalGeneration",
        "VoxtralForConditionalGeneration",
    ],
    defaults: &[
        part(
            "llama",
            SIZES,
            &[&[count("max_position_embeddings", 2048)], GIVEN, SAME_HEADS, HEADS_OF_OWN],
        ),
        part(
            "mistral",
            MISTRAL_SIZES,
            &[
                &[count("max_position_embeddings", 131_072), count("num_key_value_heads", 8)],
                GIVEN,
                SAME_HEADS,
                HEADS_OF_OWN,
            ],
        ),
    ],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, ROPE],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ROTARY_ATTENTION, GATED_MLP],
    check: check_heads,
    computed: llama3_factors,
    tokenizers: TOKENIZERS,
    special: SPECIAL,
    ..BASE
};

/// NVIDIA's Llama that embeds text, whose attention looks in both directions.
pub(super) const LLAMA_EMBED: Architecture =
    Architecture { name: "llama-embed", classes: &["LlamaBidirectionalModel"], ..LLAMA };

const SIZES: &[Default] = &sizes([32_000, 4096, 11_008, 32, 32]);
const MISTRAL_SIZES: &[Default] = &sizes([32_000, 4096, 14_336, 32, 32]);

const GIVEN: &[Default] = &[number("rms_norm_eps", 1e-6), number("rope_theta", 10_000.0)];

const HEADS_OF_OWN: &[Default] =
    &[or_null("head_dim", Fill::Quotient("hidden_size", "num_attention_heads"))];

/// What Llama's graph has beyond the common keys.
pub(super) const ROPE: &[Parameter] = &[
    parameters::required("vocab_size", &["vocab_size"]),
    Parameter::With(|config, keys| {
        keys.set_count("rope.dimension_count", HEAD.size(config)?);
        Ok(())
    }),
];

/// Tokenizers that models with Llama's graph come with.
pub(super) const TOKENIZERS: &[Kind] = &[Kind::SentencePiece, Kind::ByteLevel];

/// What their tokenizers' keys depend on.
pub(super) const SPECIAL: &[Adjustment] = &[
    Adjustment::AddPrefixSpace,
    // Code Llama, whose end of an infilled middle no file of the checkpoint names.
    Adjustment::EndOfTurn { vocab_size: 32_016, id: 32_010 },
    // Granite code models with Llama's graph.
    Adjustment::NoBos { vocab_size: 49_152 },
];
