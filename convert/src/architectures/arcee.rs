//! Arcee's AFM: Llama's graph without a gate.

use super::{
    Architecture, BASE, Fill, encoder, llama,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::Rule,
};

pub(super) const ARCEE: Architecture = Architecture {
    name: "arcee",
    classes: &["ArceeForCausalLM"],
    defaults: &[model(
        "arcee",
        &[
            &[count("max_position_embeddings", 4096), number("rms_norm_eps", 1e-5)],
            THETA,
            SAME_HEADS,
            &[or_null("head_dim", Fill::Quotient("hidden_size", "num_attention_heads"))],
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        llama::ROPE,
        &[Parameter::With(encoder::pooling)],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ROTARY_ATTENTION,
        &[
            Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
                .bias_if("mlp_bias"),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
                .bias_if("mlp_bias"),
        ],
    ],
    check: check_heads,
    computed: llama3_factors,
    tokenizers: llama::TOKENIZERS,
    special: llama::SPECIAL,
    ..BASE
};
