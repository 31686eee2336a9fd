//! Ling and Ring (Bailing), first and second generation: experts, queries, keys and values in one matrix.

use crate::{Config, Result};

use super::{
    Architecture, BASE, Fill, deepseek2, llama,
    nextn::{self, Further},
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    rope,
    shared::*,
    tensors::{Dim, Rule, Step, Target},
};

pub(super) const BAILINGMOE: Architecture = Architecture {
    name: "bailingmoe",
    classes: &["BailingMoeForCausalLM"],
    defaults: &[model("bailing_moe", DEFAULTS)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            Parameter::Size("rope.dimension_count", HEAD),
            parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            Parameter::Constant("expert_weights_scale", Constant::Number(1.0)),
            parameters::required("expert_shared_count", &["num_shared_experts"]),
            parameters::flag("expert_weights_norm", "norm_topk_prob"),
        ],
    ],
    tensors: &[
        ENDS,
        NORMS,
        &[
            Rule::split(
                "model.layers.{}.attention.query_key_value",
                &[
                    Target {
                        name: "blk.{}.attn_q",
                        parts: &[&[
                            Step::Narrow { axis: 0, from: None, len: QUERY },
                            Step::Unfold(0, &[HEADS, TWO]),
                            Step::Swap(1, 2),
                            Step::Fold(0, 3),
                        ]],
                    },
                    Target {
                        name: "blk.{}.attn_k",
                        parts: &[&[
                            Step::Narrow { axis: 0, from: Some(QUERY), len: KEY_VALUE },
                            Step::Unfold(0, &[KEY_HEADS, TWO]),
                            Step::Swap(1, 2),
                            Step::Fold(0, 3),
                        ]],
                    },
                    Target {
                        name: "blk.{}.attn_v",
                        parts: &[&[Step::Narrow {
                            axis: 0,
                            from: Some(BEFORE_VALUES),
                            len: KEY_VALUE,
                        }]],
                    },
                ],
                &[ALL, HIDDEN],
            ),
            Rule::new("model.layers.{}.attention.dense", "blk.{}.attn_output", &[HIDDEN, QUERY]),
        ],
        deepseek2::EXPERTS,
    ],
    check,
    needs_output: true,
    ..BASE
};

pub(super) const BAILINGMOE2: Architecture = Architecture {
    name: "bailingmoe2",
    classes: &["BailingMoeV2ForCausalLM"],
    defaults: &[model("bailing_moe_v2", V2_DEFAULTS), model("bailing_moe_2", V2_DEFAULTS)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[Parameter::With(|config, keys| {
            let share = rope::Rope::read(config)?.partial()?.unwrap_or(0.5);
            let turned = HEAD.size(config)? as f64 * share;
            keys.set_count("rope.dimension_count", turned as u64);
            Ok(())
        })],
        V2_OWN,
    ],
    tensors: &[
        ENDS,
        NORMS,
        V2_LAYER,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
        nextn::NEXTN,
    ],
    rename: |_, name| {
        let renamed = name.replace(".mlp.gate.expert_bias", ".mlp.gate.e_score_correction_bias");
        (renamed != name).then_some(renamed)
    },
    further: Further::Counted("num_nextn_predict_layers"),
    ..BAILINGMOE
};

const V2_OWN: &[Parameter] = &[
    parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
    parameters::required("vocab_size", &["vocab_size"]),
    parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
    Parameter::Size("expert_shared_feed_forward_length", SHARED_WIDTH),
    parameters::required_number("expert_weights_scale", &["routed_scaling_factor"]),
    parameters::required("expert_shared_count", &["num_shared_experts"]),
    parameters::flag("expert_weights_norm", "norm_topk_prob"),
    Parameter::With(nextn::if_given),
];

const V2_LAYER: &[Rule] = &[
    Rule::new("model.layers.{}.attention.query_key_value", "blk.{}.attn_qkv", &[ALL, HIDDEN]),
    Rule::new("model.layers.{}.attention.dense", "blk.{}.attn_output", &[HIDDEN, QUERY]),
    Rule::new("model.layers.{}.attention.query_layernorm", "blk.{}.attn_q_norm", &[HEAD]),
    Rule::new("model.layers.{}.attention.key_layernorm", "blk.{}.attn_k_norm", &[HEAD]),
    Rule::new("model.layers.{}.final_layernorm", "blk.{}.layer_output_norm", &[HIDDEN])
        .in_layers(nextn::is_further),
];

/// Sarvam: Ling 2.0's graph, all of a head rotated, corrections of scores that are centred.
pub(super) const SARVAM: Architecture = Architecture {
    classes: &["SarvamMoEForCausalLM", "modeling_sarvam_moe.SarvamMoEForCausalLM"],
    defaults: &[model("sarvam_moe", V2_DEFAULTS)],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, llama::WHOLE_HEAD, V2_OWN],
    tensors: &[
        ENDS,
        NORMS,
        V2_LAYER,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        &[deepseek2::CORRECTION_OF_SCORES.centred()],
        nextn::NEXTN,
    ],
    ..BAILINGMOE2
};

const DEFAULTS: &[&[super::Default]] = &[
    &[
        count("max_position_embeddings", 16_384),
        number("rms_norm_eps", 1e-6),
        count("first_k_dense_replace", 0),
        default("n_routed_experts", Fill::Same("num_experts")),
        default("n_shared_experts", Fill::Same("num_shared_experts")),
    ],
    THETA,
    SAME_HEADS,
];

const V2_DEFAULTS: &[&[super::Default]] = &[
    &[
        count("max_position_embeddings", 32_768),
        number("rms_norm_eps", 1e-6),
        count("first_k_dense_replace", 0),
        number("routed_scaling_factor", 2.5),
        default("n_routed_experts", Fill::Same("num_experts")),
        default("n_shared_experts", Fill::Same("num_shared_experts")),
        flag(deepseek2::HAS_CORRECTION, true),
    ],
    parameters::SIGMOID_SCORES,
    THETA,
    SAME_HEADS,
];

const BEFORE_VALUES: Dim = Dim::Sum(&[QUERY, KEY_VALUE]);
const SHARED_WIDTH: Dim = Dim::KeyOr(
    "moe_shared_expert_intermediate_size",
    &Dim::Product(&[Dim::Key("moe_intermediate_size"), Dim::Key("num_shared_experts")]),
);
const ALL: Dim = Dim::Sum(&[QUERY, KEY_VALUE, KEY_VALUE]);

const ENDS: &[Rule] = &[
    Rule::new("model.word_embeddings", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head(),
    Rule::new("model.norm", "output_norm", &[HIDDEN]),
];

fn check(config: &Config) -> Result<()> {
    // The head would have to be normalized by its columns.
    if config.flag("norm_head")? {
        return Err(config.wrong("norm_head", "true", "false: normalize the head's columns first"));
    }
    check_heads(config)
}
