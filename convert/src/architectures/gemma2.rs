//! Gemma 2: norms on both sides, soft caps, a sliding window in every second layer.

use super::{
    Architecture, BASE, Default, gemma,
    parameters::{self, Constant},
    shared::*,
};

pub(super) const GEMMA2: Architecture = Architecture {
    name: "gemma2",
    classes: &["Gemma2ForCausalLM", "Gemma2Model"],
    defaults: &[part(
        "gemma2",
        SIZES,
        &[
            &[
                count("max_position_embeddings", 8192),
                count("num_key_value_heads", 4),
                count("sliding_window", 4096),
                number("attn_logit_softcapping", 50.0),
                number("final_logit_softcapping", 30.0),
            ],
            gemma::GIVEN,
        ],
    )],
    parameters: &[
        gemma::PARAMETERS,
        &[
            parameters::required_number("attn_logit_softcapping", &["attn_logit_softcapping"]),
            parameters::required_number("final_logit_softcapping", &["final_logit_softcapping"]),
            parameters::required("attention.sliding_window", &["sliding_window"]),
        ],
    ],
    tensors: &[gemma::TIED, gemma::SHIFTED_OUTPUT_NORM, ATTENTION, GATED_MLP, gemma::FOUR_NORMS],
    check: check_heads,
    last: &[("tokenizer.ggml.add_space_prefix", Constant::Flag(false))],
    ..BASE
};

const SIZES: &[Default] = &sizes([256_000, 2304, 9216, 26, 8]);
