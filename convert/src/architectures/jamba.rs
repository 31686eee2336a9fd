//! Jamba: Mamba in most layers, attention in the others, experts in every second.

use super::{
    Architecture, BASE, Default, Fill,
    mamba::{FLAT, INNER_KEY, STATE_KEY},
    parameters::{self, FILE_TYPE},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::Config;

pub(super) const JAMBA: Architecture = Architecture {
    name: "jamba",
    classes: &["JambaForCausalLM"],
    defaults: &[model("jamba", &[GIVEN, SAME_HEADS, SIZES])],
    parameters: &[
        &[
            parameters::required("block_count", super::tensors::LAYERS),
            parameters::required("context_length", &["max_position_embeddings", "n_ctx"]),
            parameters::required("embedding_length", &["hidden_size"]),
            parameters::required("feed_forward_length", &["intermediate_size"]),
            parameters::required("attention.head_count", &["num_attention_heads"]),
            parameters::required("attention.head_count_kv", &[KEY_HEADS_BY_LAYER]),
            parameters::required("ssm.conv_kernel", &["mamba_d_conv"]),
            parameters::required("ssm.inner_size", &[INNER_KEY]),
            parameters::required("ssm.state_size", &[STATE_KEY]),
            parameters::required("ssm.time_step_rank", &["mamba_dt_rank"]),
            parameters::required_number("attention.layer_norm_rms_epsilon", &["rms_norm_eps"]),
            parameters::required("expert_count", &["num_local_experts", "num_experts"]),
            parameters::required("expert_used_count", &["num_experts_per_tok"]),
        ],
        FILE_TYPE,
    ],
    tensors: &[
        EMBEDDING,
        &[
            Rule::new("model.final_layernorm", "output_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.pre_ff_layernorm", "blk.{}.ffn_norm", &[HIDDEN]).any_of(),
            Rule::new("model.layers.{}.pre_moe_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
                .optional()
                .any_of(),
        ],
        MIXER,
        ATTENTION_HERE,
        FEED,
    ],
    check: check_heads,
    ..BASE
};

const X: Dim = Dim::Sum(&[RANK, STATE, STATE]);
const GIVEN: &[Default] = &[
    count("max_position_embeddings", 262_144),
    number("rms_norm_eps", 1e-6),
    count("num_key_value_heads", 8),
    count("num_experts", 16),
    count("num_experts_per_tok", 2),
    count("expert_layer_period", 2),
    count("expert_layer_offset", 1),
    count("attn_layer_period", 8),
    count("attn_layer_offset", 4),
    count("mamba_d_state", 16),
    count("mamba_d_conv", 4),
    count("mamba_expand", 2),
    default(
        "mamba_dt_rank",
        Fill::With(|config| Ok(Some(HIDDEN.size(config)?.div_ceil(16).into()))),
    ),
];
const SIZES: &[Default] = &[
    default(
        INNER_KEY,
        Fill::With(|config| {
            Ok(Some(
                Dim::Product(&[Dim::Key("mamba_expand"), Dim::Key("hidden_size")])
                    .size(config)?
                    .into(),
            ))
        }),
    ),
    default(STATE_KEY, Fill::Given("mamba_d_state")),
    default(KEY_HEADS_BY_LAYER, Fill::With(|config| key_heads_where(config, attends))),
];
const INNER: Dim = Dim::Key(INNER_KEY);
const STATE: Dim = Dim::Key(STATE_KEY);
const RANK: Dim = Dim::Key("mamba_dt_rank");
const COUNT: Dim = Dim::Key("num_experts");

/// Whether a layer is one of those that come every so often.
fn is_every(config: &Config, layer: u64, period: &str, offset: &str) -> bool {
    let number = |key: &str| config.whole(key).ok().flatten().unwrap_or(0);
    let behind = layer.checked_sub(number(offset));
    behind.and_then(|behind| behind.checked_rem(number(period))) == Some(0)
}

fn attends(config: &Config, layer: u64) -> bool {
    is_every(config, layer, "attn_layer_period", "attn_layer_offset")
}

fn is_state(config: &Config, layer: u64) -> bool {
    !attends(config, layer)
}

fn sparse(config: &Config, layer: u64) -> bool {
    is_every(config, layer, "expert_layer_period", "expert_layer_offset")
}

fn dense(config: &Config, layer: u64) -> bool {
    !sparse(config, layer)
}

const MIXER: &[Rule] = &[
    Rule::new(
        "model.layers.{}.mamba.in_proj",
        "blk.{}.ssm_in",
        &[Dim::Product(&[Dim::Number(2), Dim::Key(INNER_KEY)]), HIDDEN],
    )
    .maybe_bias()
    .in_layers(is_state),
    Rule::new(
        "model.layers.{}.mamba.conv1d",
        "blk.{}.ssm_conv1d",
        &[INNER, Dim::Number(1), Dim::Key("mamba_d_conv")],
    )
    .parts(FLAT)
    .bias()
    .in_layers(is_state),
    Rule::new("model.layers.{}.mamba.x_proj", "blk.{}.ssm_x", &[X, INNER]).in_layers(is_state),
    Rule::new("model.layers.{}.mamba.dt_proj", "blk.{}.ssm_dt", &[INNER, RANK])
        .bias()
        .in_layers(is_state),
    Rule::new("model.layers.{}.mamba.dt_layernorm", "blk.{}.ssm_dt_norm", &[RANK])
        .in_layers(is_state),
    Rule::new("model.layers.{}.mamba.b_layernorm", "blk.{}.ssm_b_norm", &[STATE])
        .in_layers(is_state),
    Rule::new("model.layers.{}.mamba.c_layernorm", "blk.{}.ssm_c_norm", &[STATE])
        .in_layers(is_state),
    Rule::exact("model.layers.{}.mamba.A_log", "blk.{}.ssm_a", &[INNER, STATE])
        .negative_exp()
        .in_layers(is_state),
    Rule::exact("model.layers.{}.mamba.D", "blk.{}.ssm_d", &[INNER]).in_layers(is_state),
    Rule::new("model.layers.{}.mamba.out_proj", "blk.{}.ssm_out", &[HIDDEN, INNER])
        .maybe_bias()
        .in_layers(is_state),
];

const ATTENTION_HERE: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .in_layers(attends),
];

const FEED: &[Rule] = &[
    Rule::new("model.layers.{}.feed_forward.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.feed_forward.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.feed_forward.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .in_layers(dense),
    Rule::new("model.layers.{}.feed_forward.router", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .in_layers(sparse),
    Rule::new(
        "model.layers.{}.feed_forward.experts.{}.down_proj",
        "blk.{}.ffn_down_exps",
        &[HIDDEN, FEED_FORWARD],
    )
    .stacked("num_experts")
    .in_layers(sparse),
    Rule::new(
        "model.layers.{}.feed_forward.experts.{}.gate_proj",
        "blk.{}.ffn_gate_exps",
        &[FEED_FORWARD, HIDDEN],
    )
    .stacked("num_experts")
    .in_layers(sparse),
    Rule::new(
        "model.layers.{}.feed_forward.experts.{}.up_proj",
        "blk.{}.ffn_up_exps",
        &[FEED_FORWARD, HIDDEN],
    )
    .stacked("num_experts")
    .in_layers(sparse),
];
