//! Kimi Linear: delta attention with a state in most layers, DeepSeek's latent attention in the others.

use serde_json::Value;

use crate::Config;

use super::{
    Architecture, BASE, Fill, deepseek2,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step, layers},
};

pub(super) const KIMI_LINEAR: Architecture = Architecture {
    name: "kimi-linear",
    classes: &["KimiLinearForCausalLM", "KimiLinearModel"],
    defaults: &[model(
        "kimi_linear",
        &[
            &[
                count("model_max_length", 1_048_576),
                number("rms_norm_eps", 1e-5),
                count("first_k_dense_replace", 1),
                count("num_shared_experts", 1),
                number("routed_scaling_factor", 2.446),
                default("n_routed_experts", Fill::Same("num_experts")),
                default("n_shared_experts", Fill::Given("num_shared_experts")),
                flag(deepseek2::HAS_CORRECTION, true),
            ],
            LATENT,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("vocab_size", &["vocab_size"]),
            Parameter::With(|config, keys| {
                let heads = |layer| i32::from(attends(config, layer));
                let heads: Vec<i32> = (0..layers(config)?).map(heads).collect();
                keys.set("attention.head_count_kv", heads);
                Ok(())
            }),
            parameters::required("ssm.conv_kernel", &[KERNEL_SIZE]),
            parameters::required("kda.head_dim", &[STATE_HEAD]),
            parameters::count("attention.q_lora_rank", &["q_lora_rank"]),
            parameters::required("attention.kv_lora_rank", &["kv_lora_rank"]),
            Parameter::With(|config, keys| {
                let (rank, rope) = (config.require("kv_lora_rank")?, deepseek2::ROPE.size(config)?);
                let nope = config.require("qk_nope_head_dim")?;
                keys.set_count("rope.dimension_count", rope);
                keys.set_count("attention.key_length", rank.saturating_add(rope));
                keys.set_count("attention.key_length_mla", nope.saturating_add(rope));
                keys.set_count("attention.value_length_mla", config.require("v_head_dim")?);
                Ok(())
            }),
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::required("expert_shared_count", &["num_shared_experts"]),
            parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
            parameters::required_number("expert_weights_scale", &["routed_scaling_factor"]),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        CONVOLUTIONS,
        STATE,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
    ],
    rename: |_, name| {
        let renamed = name
            .replace(".block_sparse_moe.", ".mlp.")
            .replace(".w1.", ".gate_proj.")
            .replace(".w2.", ".down_proj.")
            .replace(".w3.", ".up_proj.");
        (renamed != name).then_some(renamed)
    },
    needs_output: true,
    ..BASE
};

const LATENT: &[super::Default] = &[
    count("kv_lora_rank", 512),
    count("qk_nope_head_dim", 128),
    count("qk_rope_head_dim", 64),
    count("v_head_dim", 128),
];
const NOPE: Dim = Dim::Key("qk_nope_head_dim");

const STATE_HEAD: &str = "linear_attn_config.head_dim";
const KERNEL_SIZE: &str = "linear_attn_config.short_conv_kernel_size";

/// Layers are counted from one.
fn attends(config: &Config, layer: u64) -> bool {
    let full = config.get("linear_attn_config.full_attn_layers").and_then(Value::as_array);
    full.is_some_and(|full| full.iter().any(|number| number.as_u64() == Some(layer + 1)))
}

fn has_state(config: &Config, layer: u64) -> bool {
    !attends(config, layer)
}

const ONE: Dim = Dim::Number(1);
const KERNEL: Dim = Dim::Key(KERNEL_SIZE);
const HEAD_OF_STATE: Dim = Dim::Key(STATE_HEAD);
const ALL: Dim = Dim::Product(&[Dim::Key("num_attention_heads"), Dim::Key(STATE_HEAD)]);

const QUERY: Dim = Dim::Product(&[HEADS, QUERY_SIZE]);
const VALUES: Dim = Dim::Product(&[HEADS, VALUE_SIZE]);
const QUERY_SIZE: Dim = Dim::InLayer("size of a query of the layer", |config, layer| {
    if attends(config, layer) { QUERY_OF_LATENT.size(config) } else { HEAD_OF_STATE.size(config) }
});
const QUERY_OF_LATENT: Dim = Dim::Sum(&[NOPE, deepseek2::ROPE]);
const VALUE_SIZE: Dim = Dim::InLayer("size of a value of the layer", |config, layer| {
    if attends(config, layer) { config.require("v_head_dim") } else { HEAD_OF_STATE.size(config) }
});

fn has_queries(config: &Config, layer: u64) -> bool {
    !attends(config, layer) || config.get("q_lora_rank").is_none()
}

const ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .in_layers(has_queries),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, VALUES]),
    Rule::new(
        "model.layers.{}.self_attn.q_a_proj",
        "blk.{}.attn_q_a",
        &[deepseek2::QUERY_RANK, HIDDEN],
    )
    .with("q_lora_rank")
    .in_layers(attends),
    Rule::new(
        "model.layers.{}.self_attn.q_a_layernorm",
        "blk.{}.attn_q_a_norm",
        &[deepseek2::QUERY_RANK],
    )
    .with("q_lora_rank")
    .in_layers(attends),
    Rule::new(
        "model.layers.{}.self_attn.q_b_proj",
        "blk.{}.attn_q_b",
        &[deepseek2::QUERIES, deepseek2::QUERY_RANK],
    )
    .with("q_lora_rank")
    .in_layers(attends),
    deepseek2::KV_A.in_layers(attends),
    deepseek2::KV_A_NORM.in_layers(attends),
    deepseek2::KV_B.in_layers(attends),
];

/// One for each of queries, keys and values: with an axis of one in between, or without.
const CONVOLUTIONS: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_conv1d", "blk.{}.ssm_conv1d_q", &[ALL, ONE, KERNEL])
        .form("three axes")
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.k_conv1d", "blk.{}.ssm_conv1d_k", &[ALL, ONE, KERNEL])
        .form("three axes")
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.v_conv1d", "blk.{}.ssm_conv1d_v", &[ALL, ONE, KERNEL])
        .form("three axes")
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.q_conv1d", "blk.{}.ssm_conv1d_q", &[ALL, KERNEL])
        .parts(&[&[Step::Unfold(1, &[ONE])]])
        .form("two axes")
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.k_conv1d", "blk.{}.ssm_conv1d_k", &[ALL, KERNEL])
        .parts(&[&[Step::Unfold(1, &[ONE])]])
        .form("two axes")
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.v_conv1d", "blk.{}.ssm_conv1d_v", &[ALL, KERNEL])
        .parts(&[&[Step::Unfold(1, &[ONE])]])
        .form("two axes")
        .in_layers(has_state),
];

const STATE: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[ALL, HIDDEN])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[ALL, HIDDEN])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.f_a_proj", "blk.{}.ssm_f_a", &[HEAD_OF_STATE, HIDDEN])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.f_b_proj", "blk.{}.ssm_f_b", &[ALL, HEAD_OF_STATE])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.g_a_proj", "blk.{}.ssm_g_a", &[HEAD_OF_STATE, HIDDEN])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.g_b_proj", "blk.{}.ssm_g_b", &[ALL, HEAD_OF_STATE])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.b_proj", "blk.{}.ssm_beta", &[HEADS, HIDDEN])
        .in_layers(has_state),
    Rule::exact("model.layers.{}.self_attn.A_log", "blk.{}.ssm_a", &[ONE, ONE, HEADS, ONE])
        .negative_exp()
        .in_layers(has_state),
    Rule::exact("model.layers.{}.self_attn.dt_bias", "blk.{}.ssm_dt.bias", &[ALL])
        .in_layers(has_state),
    Rule::new("model.layers.{}.self_attn.o_norm", "blk.{}.ssm_norm", &[HEAD_OF_STATE])
        .in_layers(has_state),
];
