//! ERNIE 4.5, without experts: Llama's graph whose rotary pairs are side by side already.

use super::{Architecture, BASE, shared::*};
use crate::tokenizer::{Adjustment, Kind};

pub(super) const ERNIE4_5: Architecture = Architecture {
    name: "ernie4_5",
    classes: &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"],
    defaults: &[model(
        "ernie4_5",
        &[
            &[
                count("vocab_size", 103_424),
                count("max_position_embeddings", 131_072),
                number("rms_norm_eps", 1e-5),
                number("rope_theta", 500_000.0),
                count("head_dim", 128),
                count("num_key_value_heads", 2),
                flag("tie_word_embeddings", true),
                default("attention_bias", super::Fill::Given("use_bias")),
                default("mlp_bias", super::Fill::Given("use_bias")),
            ],
            SAME_HEADS,
        ],
    )],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION, GATED_MLP],
    check: check_heads,
    tokenizers: &[Kind::SentencePiece],
    special: &[Adjustment::AddPrefixSpaceLast],
    ..BASE
};
