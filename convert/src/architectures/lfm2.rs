//! LFM2: short convolutions in most layers, attention in the others; dense or with experts.

use serde_json::Value;

use super::{
    Architecture, BASE, Default, Fill, encoder,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step, layers},
};
use crate::{Config, Result};

pub(super) const LFM2: Architecture = Architecture {
    name: "lfm2",
    classes: &["Lfm2ForCausalLM", "LFM2ForCausalLM"],
    defaults: &[model(
        "lfm2",
        &[
            &[
                default("hidden_size", Fill::Given("block_dim")),
                default("intermediate_size", Fill::Given("block_ff_dim")),
                default("num_attention_heads", Fill::Given("num_heads")),
                flag("block_auto_adjust_ff_dim", true),
                number("block_ffn_dim_multiplier", 1.0),
                count("block_multiple_of", 256),
            ],
            GIVEN,
        ],
    )],
    parameters: PARAMETERS,
    wrappers: &["lfm."],
    tensors: &[ENDS, CONVOLUTIONS, ATTENTION, DENSE],
    check: check_heads,
    ..BASE
};

pub(super) const LFM2_EMBEDDING: Architecture = Architecture {
    classes: &["Lfm2Model", "Lfm2BidirectionalModel"],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        OWN,
        &[
            Parameter::With(|config, keys| {
                if config.class()? == "Lfm2BidirectionalModel" {
                    keys.set("attention.causal", false);
                }
                Ok(())
            }),
            Parameter::With(encoder::pooling),
        ],
    ],
    ..LFM2
};

pub(super) const LFM2MOE: Architecture = Architecture {
    name: "lfm2moe",
    classes: &["Lfm2MoeForCausalLM"],
    defaults: &[model(
        "lfm2_moe",
        &[
            &[
                count("moe_intermediate_size", 1792),
                count("num_dense_layers", 2),
                count("num_experts_per_tok", 4),
                count("num_experts", 32),
                flag("use_expert_bias", true),
            ],
            GIVEN,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::whole("leading_dense_block_count", &["num_dense_layers"]),
            Parameter::Constant("expert_gating_func", Constant::Count(2)),
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::required("shortconv.l_cache", &["conv_L_cache"]),
        ],
    ],
    tensors: &[ENDS, CONVOLUTIONS, ATTENTION, DENSE_FIRST, SPARSE],
    ..LFM2
};

const INNER: Dim = Dim::Derived("width of the feed-forward part", feed_forward);

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 128_000),
    number("norm_eps", 1e-5),
    number("rope_theta", 1e6),
    count("num_key_value_heads", 8),
    count("conv_L_cache", 3),
    default("layer_types", Fill::With(types)),
    default(KEY_HEADS_BY_LAYER, Fill::With(|config| key_heads_where(config, attends))),
];

/// What kind each layer is, where only the numbers of those with attention are given.
fn types(config: &Config) -> Result<Option<Value>> {
    let Some(Value::Array(full)) = config.get("full_attn_idxs") else {
        return Ok(None);
    };
    let kind = |layer| {
        let is_full = full.iter().any(|other| other.as_u64() == Some(layer));
        Value::from(if is_full { "full_attention" } else { "conv" })
    };
    Ok(Some((0..layers(config)?).map(kind).collect()))
}

pub(super) fn attends(config: &Config, layer: u64) -> bool {
    let types = config.get("layer_types").and_then(|types| types.as_array());
    let layer = usize::try_from(layer).unwrap_or(usize::MAX);
    types.and_then(|types| types.get(layer)?.as_str()) == Some("full_attention")
}

fn convolves(config: &Config, layer: u64) -> bool {
    !attends(config, layer)
}

/// The width of the feed-forward part as its class adjusts it.
fn feed_forward(config: &Config) -> Result<u64> {
    let width = config.require("intermediate_size")?;
    if !config.flag("block_auto_adjust_ff_dim")? {
        return Ok(width);
    }
    let multiple = config.require("block_multiple_of")?;
    let factor = config.number("block_ffn_dim_multiplier")?.unwrap_or(1.0);
    let adjusted = (factor * (width * 2 / 3) as f64) as u64;
    Ok(adjusted.div_ceil(multiple).saturating_mul(multiple))
}

const PARAMETERS: &[&[Parameter]] = &[COMMON, KEY_LENGTHS, FILE_TYPE, OWN];

const OWN: &[Parameter] = &[
    parameters::required("vocab_size", &["vocab_size"]),
    parameters::required("shortconv.l_cache", &["conv_L_cache"]),
    parameters::required_number("attention.layer_norm_rms_epsilon", &["norm_eps"]),
    Parameter::Size("feed_forward_length", INNER),
];

const ENDS: &[Rule] = &[
    Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head(),
    Rule::new("model.embedding_norm", "token_embd_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.operator_norm", "blk.{}.attn_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.ffn_norm", "blk.{}.ffn_norm", &[HIDDEN]),
];

const CONVOLUTIONS: &[Rule] = &[
    Rule::new(
        "model.layers.{}.conv.conv",
        "blk.{}.shortconv.conv",
        &[HIDDEN, Dim::Number(1), Dim::Key("conv_L_cache")],
    )
    .parts(&[&[Step::Fold(1, 2)]])
    .maybe_bias()
    .in_layers(convolves),
    Rule::new(
        "model.layers.{}.conv.in_proj",
        "blk.{}.shortconv.in_proj",
        &[Dim::Product(&[Dim::Number(3), Dim::Key("hidden_size")]), HIDDEN],
    )
    .maybe_bias()
    .in_layers(convolves),
    Rule::new("model.layers.{}.conv.out_proj", "blk.{}.shortconv.out_proj", &[HIDDEN, HIDDEN])
        .maybe_bias()
        .in_layers(convolves),
];

const ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.out_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.q_layernorm", "blk.{}.attn_q_norm", &[HEAD])
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.k_layernorm", "blk.{}.attn_k_norm", &[HEAD])
        .in_layers(attends),
];

const DENSE: &[Rule] = &[
    Rule::new("model.layers.{}.feed_forward.w1", "blk.{}.ffn_gate", &[INNER, HIDDEN]),
    Rule::new("model.layers.{}.feed_forward.w2", "blk.{}.ffn_down", &[HIDDEN, INNER]),
    Rule::new("model.layers.{}.feed_forward.w3", "blk.{}.ffn_up", &[INNER, HIDDEN]),
];

const DENSE_FIRST: &[Rule] = &[
    Rule::new("model.layers.{}.feed_forward.w1", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.feed_forward.w2", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .in_layers(dense),
    Rule::new("model.layers.{}.feed_forward.w3", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
];

fn dense(config: &Config, layer: u64) -> bool {
    layer < config.whole("num_dense_layers").ok().flatten().unwrap_or(0)
}

fn sparse(config: &Config, layer: u64) -> bool {
    !dense(config, layer)
}

const COUNT: Dim = Dim::Key("num_experts");
const WIDTH: Dim = Dim::Key("moe_intermediate_size");
const SPARSE: &[Rule] = &[
    Rule::new("model.layers.{}.feed_forward.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .in_layers(sparse),
    Rule::exact("model.layers.{}.feed_forward.expert_bias", "blk.{}.exp_probs_b.bias", &[COUNT])
        .if_true("use_expert_bias")
        .in_layers(sparse),
    Rule::new(
        "model.layers.{}.feed_forward.experts.{}.w1",
        "blk.{}.ffn_gate_exps",
        &[WIDTH, HIDDEN],
    )
    .stacked("num_experts")
    .in_layers(sparse),
    Rule::new(
        "model.layers.{}.feed_forward.experts.{}.w2",
        "blk.{}.ffn_down_exps",
        &[HIDDEN, WIDTH],
    )
    .stacked("num_experts")
    .in_layers(sparse),
    Rule::new("model.layers.{}.feed_forward.experts.{}.w3", "blk.{}.ffn_up_exps", &[WIDTH, HIDDEN])
        .stacked("num_experts")
        .in_layers(sparse),
];
