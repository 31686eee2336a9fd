//! GLM-4.5 to 4.7 and GLM-4.5V: experts after some dense layers, layers that predict further tokens.

use serde_json::Value;

use crate::{Config, Result, tokenizer::Adjustment};

use super::{
    Architecture, BASE, Default, Fill, deepseek2,
    glm::{HALF_ROTATED, ROLES},
    nextn::{self, Further},
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::Rule,
};

pub(super) const GLM4_MOE: Architecture = Architecture {
    name: "glm4moe",
    classes: &["Glm4MoeForCausalLM", "Glm4vMoeForConditionalGeneration"],
    defaults: &[
        part("glm4_moe", SIZES, DEFAULTS),
        part("glm4v_moe_text", VISION_SIZES, VISION_DEFAULTS),
    ],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, PARAMETERS],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        &[
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new(
                "model.layers.{}.post_attention_layernorm",
                "blk.{}.post_attention_norm",
                &[HIDDEN],
            ),
            Rule::new("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", &[HEAD])
                .if_true("use_qk_norm"),
            Rule::new("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", &[HEAD])
                .if_true("use_qk_norm"),
        ],
        OWN_ATTENTION,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
        nextn::NEXTN,
        nextn::OWN_ENDS,
    ],
    further: Further::Counted("num_nextn_predict_layers"),
    check: check_heads,
    special: ROLES,
    ..BASE
};

/// Solar Open: GLM-4.5's graph.
pub(super) const SOLAR: Architecture = Architecture {
    classes: &["SolarOpenForCausalLM"],
    defaults: &[model(
        "solar_open",
        &[&[
            count("max_position_embeddings", 131_072),
            number("rms_norm_eps", 1e-5),
            number("rope_theta", 1_000_000.0),
            default("partial_rotary_factor", Fill::With(all_of_it)),
            count("num_key_value_heads", 8),
            count("head_dim", 128),
            count("n_routed_experts", 128),
            count("num_experts_per_tok", 8),
            count("n_shared_experts", 1),
            count("n_group", 1),
            count("topk_group", 1),
            count("moe_intermediate_size", 1280),
            number("routed_scaling_factor", 1.0),
            flag("norm_topk_prob", true),
            flag(deepseek2::HAS_CORRECTION, true),
        ]],
    )],
    further: Further::None,
    special: &[Adjustment::Roles(&[
        ("eos", "<|endoftext|>"),
        ("eot", "<|endoftext|>"),
        ("unk", "<unk>"),
        ("bos", "<|startoftext|>"),
    ])],
    ..GLM4_MOE
};

/// transformers turns whole heads where config.json says nothing; the reference takes half.
fn all_of_it(config: &Config) -> Result<Option<Value>> {
    Ok((!config.like_reference()).then_some(1.0.into()))
}

const SIZES: &[Default] = &sizes([151_552, 4096, 10_944, 46, 96]);

const VISION_SIZES: &[Default] = &sizes([151_424, 4096, 10_944, 46, 96]);

const DEFAULTS: &[&[Default]] = &[GIVEN];

const VISION_DEFAULTS: &[&[Default]] =
    &[&[count("max_position_embeddings", 65_536), flag("attention_bias", true)], GIVEN];

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 131_072),
    number("rms_norm_eps", 1e-5),
    number("rope_theta", 10_000.0),
    number("partial_rotary_factor", 0.5),
    count("num_key_value_heads", 8),
    count("n_routed_experts", 128),
    count("num_experts_per_tok", 8),
    count("n_shared_experts", 1),
    count("moe_intermediate_size", 1408),
    number("routed_scaling_factor", 1.0),
    flag("norm_topk_prob", true),
    count("first_k_dense_replace", 1),
    count("n_group", 1),
    count("topk_group", 1),
    flag(deepseek2::HAS_CORRECTION, true),
];

const PARAMETERS: &[Parameter] = &[
    HALF_ROTATED,
    parameters::whole("expert_count", &["n_routed_experts"]),
    parameters::count("expert_feed_forward_length", &["moe_intermediate_size"]),
    parameters::whole("expert_shared_count", &["n_shared_experts"]),
    parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
    Parameter::Constant("expert_gating_func", Constant::Count(2)),
    parameters::number("expert_weights_scale", &["routed_scaling_factor"]),
    parameters::flag("expert_weights_norm", "norm_topk_prob"),
    Parameter::With(nextn::if_given),
];

/// Biases, but none on the output.
const OWN_ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .bias_if("attention_bias"),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias"),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias"),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY]),
];
