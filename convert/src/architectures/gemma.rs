//! Gemma, first generation: norms count from one.

use super::{
    Architecture, BASE, Default,
    parameters::{self, Constant, Parameter},
    shared::*,
    tensors::Rule,
};

pub(super) const GEMMA: Architecture = Architecture {
    name: "gemma",
    classes: &["GemmaForCausalLM"],
    defaults: &[part(
        "gemma",
        SIZES,
        &[&[count("max_position_embeddings", 8192), count("num_key_value_heads", 16)], GIVEN],
    )],
    parameters: &[PARAMETERS],
    tensors: &[
        TIED,
        SHIFTED_OUTPUT_NORM,
        ATTENTION,
        GATED_MLP,
        &[
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).plus_one(),
            Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
                .plus_one(),
        ],
    ],
    check: check_heads,
    last: &[
        // Of CodeGemma; the reference converter writes it for all.
        ("tokenizer.ggml.eot_token_id", Constant::Count(107)),
        ("tokenizer.ggml.add_space_prefix", Constant::Flag(false)),
    ],
    ..BASE
};

const SIZES: &[Default] = &sizes([256_000, 3072, 24_576, 28, 16]);

pub(super) const GIVEN: &[Default] = &[
    count("head_dim", 256),
    number("rms_norm_eps", 1e-6),
    number("rope_theta", 10_000.0),
    flag("tie_word_embeddings", true),
];

/// What the first two generations have in common.
pub(super) const PARAMETERS: &[Parameter] = &[
    parameters::required("context_length", &["max_position_embeddings"]),
    parameters::required("embedding_length", &["hidden_size"]),
    parameters::required("block_count", &["num_hidden_layers"]),
    parameters::required("feed_forward_length", &["intermediate_size"]),
    parameters::required("attention.head_count", &["num_attention_heads"]),
    parameters::required("attention.head_count_kv", &["num_key_value_heads"]),
    parameters::required_number("attention.layer_norm_rms_epsilon", &["rms_norm_eps"]),
    parameters::required("attention.key_length", &["head_dim"]),
    parameters::required("attention.value_length", &["head_dim"]),
    Parameter::FileType,
];

/// The embedding is the output too, even where a checkpoint holds one of its own.
pub(super) const TIED: &[Rule] = &[
    Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
    Rule::left_out("lm_head", "the model's graph has the token embedding in its place"),
];

pub(super) const SHIFTED_OUTPUT_NORM: &[Rule] =
    &[Rule::new("model.norm", "output_norm", &[HIDDEN]).plus_one()];

/// Norms before and after each part of a layer, from the second generation on.
pub(super) const FOUR_NORMS: &[Rule] = &[
    Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).plus_one(),
    Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm", &[HIDDEN])
        .plus_one(),
    Rule::new("model.layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm", &[HIDDEN]).plus_one(),
    Rule::new("model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm", &[HIDDEN])
        .plus_one(),
];
