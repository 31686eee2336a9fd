//! Gemma 3, its text model: norms of queries and keys, a sliding window in five of six layers.

use super::{
    Architecture, BASE, encoder, gemma,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::Rule,
};

pub(super) const GEMMA3: Architecture = Architecture {
    name: "gemma3",
    classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    defaults: &[model(
        "gemma3_text",
        &[
            &[
                count("vocab_size", 262_208),
                count("hidden_size", 2304),
                count("intermediate_size", 9216),
                count("num_hidden_layers", 26),
                count("num_attention_heads", 8),
                count("num_key_value_heads", 4),
                count("max_position_embeddings", 131_072),
                count("sliding_window", 4096),
                number("rope_theta", 1_000_000.0),
                number("rope_local_base_freq", 10_000.0),
            ],
            gemma::GIVEN,
        ],
    )],
    parameters: PARAMETERS,
    tensors: &[
        &[
            Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
            Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head(),
            Rule::new("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", &[HEAD]).plus_one(),
            Rule::new("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", &[HEAD]).plus_one(),
        ],
        gemma::SHIFTED_OUTPUT_NORM,
        ATTENTION,
        GATED_MLP,
        gemma::FOUR_NORMS,
    ],
    check: check_heads,
    last: &[("tokenizer.ggml.add_space_prefix", Constant::Flag(false))],
    ..BASE
};

/// EmbeddingGemma: Gemma 3 whose attention looks in both directions.
pub(super) const GEMMA_EMBEDDING: Architecture = Architecture {
    name: "gemma-embedding",
    classes: &["Gemma3TextModel"],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        OWN,
        &[
            Parameter::With(|config, keys| {
                keys.set_count("attention.sliding_window", config.require("sliding_window")?);
                if !config.flag("use_bidirectional_attention")? {
                    tracing::warn!(
                        kind = "attention",
                        "llama.cpp's gemma-embedding looks in both directions, but config.json \
                         does not set use_bidirectional_attention: embeddings may differ"
                    );
                }
                Ok(())
            }),
            Parameter::With(encoder::pooling),
        ],
    ],
    ..GEMMA3
};

const PARAMETERS: &[&[Parameter]] = &[COMMON, KEY_LENGTHS, FILE_TYPE, OWN];

/// What Gemma 3 has beyond the common keys.
const OWN: &[Parameter] = &[
    parameters::number("final_logit_softcapping", &["final_logit_softcapping"]),
    Parameter::With(|config, keys| {
        if config.whole("sliding_window_pattern")? != Some(1) {
            keys.set_count("attention.sliding_window", config.require("sliding_window")?);
        }
        Ok(())
    }),
];
