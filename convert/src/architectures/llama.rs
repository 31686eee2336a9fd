//! Llama 1, 2, 3.x, TinyLlama, Mistral and what else shares their graph.

use crate::tokenizer::{Adjustment, Kind};

use super::{
    Architecture, BASE, Default, Fill,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::Rule,
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
        "JanusForConditionalGeneration",
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

/// InternLM 3: Llama's graph; its biases are there by flags of their own.
pub(super) const INTERNLM3: Architecture = Architecture {
    classes: &["InternLM3ForCausalLM"],
    defaults: &[model(
        "internlm3",
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-6),
                number("rope_theta", 10_000.0),
            ],
            SAME_HEADS,
            HEADS_OF_OWN,
        ],
    )],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, MAYBE_BIASED, GATED_MLP],
    computed: |_, _| Ok(Vec::new()),
    tokenizers: &[Kind::SentencePiece],
    special: &[],
    ..LLAMA
};

/// [`ROTARY_ATTENTION`] with biases where they are there.
const MAYBE_BIASED: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .parts(ROTARY_QUERY)
        .maybe_bias(),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .parts(ROTARY_KEY)
        .maybe_bias(),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .maybe_bias(),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .maybe_bias(),
];

/// Sarashina2-Vision: a Llama whose names begin with `llm.`.
pub(super) const SARASHINA: Architecture = Architecture {
    classes: &["Sarashina2VisionForCausalLM"],
    wrappers: &["llm."],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ROTARY_ATTENTION,
        GATED_MLP,
        &[Rule::left_out("norm", "it belongs to another part than the text model")],
    ],
    ..LLAMA
};

/// What Llama's graph has beyond the common keys.
pub(super) const ROPE: &[Parameter] = &[
    parameters::required("vocab_size", &["vocab_size"]),
    Parameter::Size("rope.dimension_count", HEAD),
];

/// All of a head is rotated.
pub(super) const WHOLE_HEAD: &[Parameter] = &[Parameter::Size("rope.dimension_count", HEAD)];

/// All of a head is rotated, if its size is given.
pub(super) const HEAD_DIM: &[Parameter] =
    &[parameters::count("rope.dimension_count", &["head_dim"])];

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
