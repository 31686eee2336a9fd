//! openPangu Embedded: Llama's parts with biases in attention.

use super::{
    Architecture, BASE, Fill, llama,
    parameters::{COMMON, FILE_TYPE, HEAD_LENGTHS, KEY_LENGTHS},
    shared::*,
    tensors::Rule,
};
use crate::tokenizer::{Adjustment, Kind};

pub(super) const PANGU_EMBED: Architecture = Architecture {
    name: "pangu-embedded",
    classes: &["PanguEmbeddedForCausalLM"],
    defaults: &[model(
        "PanguEmbedded",
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-5),
                default("attention_bias", Fill::Given("bias")),
                flag("attention_bias", true),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, llama::ROPE, &[HEAD_LENGTHS]],
    tensors: &[
        &[
            Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
            Rule::new("lm_head", "output", &[VOCAB, HIDDEN])
                .head_unless("tie_word_embeddings", "the output is the token embedding"),
        ],
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        GATED_MLP,
    ],
    check: check_heads,
    tokenizers: &[Kind::SentencePiece],
    special: &[Adjustment::AddPrefixSpaceLast],
    ..BASE
};
