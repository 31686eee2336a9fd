//! Falcon-H1: Mamba 2 and attention side by side in every layer; scales are multiplied into the weights.

use super::{
    Architecture, BASE, Default, Fill,
    mamba::*,
    parameters::{self, FILE_TYPE, HEAD_LENGTHS, Parameter},
    rope::Rope,
    shared::*,
    tensors::{Dim, Rule, Step},
};
use crate::{Config, Result, model::ElementMap, tokenizer::Kind};

pub(super) const FALCON_H1: Architecture = Architecture {
    name: "falcon-h1",
    classes: &["FalconH1ForCausalLM"],
    defaults: &[model("falcon_h1", &[GIVEN, SAME_HEADS, SIZES, PADDED])],
    parameters: &[
        &[
            parameters::required("context_length", &["max_position_embeddings"]),
            parameters::required("embedding_length", &["hidden_size"]),
            parameters::required("feed_forward_length", &["intermediate_size"]),
            parameters::required("attention.head_count", &["num_attention_heads"]),
            parameters::required("block_count", super::tensors::LAYERS),
            parameters::required("ssm.conv_kernel", &["mamba_d_conv"]),
            parameters::required("ssm.inner_size", &[INNER_KEY]),
            parameters::required("ssm.state_size", &[STATE_KEY]),
            // Of heads of this size, which the configuration may contradict.
            parameters::required("ssm.time_step_rank", &[HEADS_KEY]),
            parameters::required("ssm.group_count", &[GROUPS_KEY]),
            parameters::required_number("attention.layer_norm_rms_epsilon", &["rms_norm_eps"]),
        ],
        FILE_TYPE,
        &[
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::required("attention.head_count_kv", &["num_key_value_heads"]),
            HEAD_LENGTHS,
            Parameter::With(|config, keys| {
                let theta = Rope::read(config)?.number("rope_theta")?.unwrap_or(10_000.0);
                keys.set_number("rope.freq_base", theta);
                Ok(())
            }),
        ],
    ],
    tensors: &[&[
        Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN])
            .times(&["embedding_multiplier"]),
        Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head().times(&["lm_head_multiplier"]),
        Rule::new("model.final_layernorm", "output_norm", &[HIDDEN]),
        Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
        // llama.cpp reads it under this name, without a suffix.
        Rule::exact("model.layers.{}.pre_ff_layernorm.weight", "blk.{}.ffn_norm", &[HIDDEN]),
        Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
            .bias_if("attention_bias")
            .times(&["attention_in_multiplier"]),
        Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
            .bias_if("attention_bias")
            .times(&["key_multiplier", "attention_in_multiplier"]),
        Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
            .bias_if("attention_bias")
            .times(&["attention_in_multiplier"]),
        Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
            .bias_if("attention_bias")
            .times(&["attention_out_multiplier"]),
        Rule::new(
            "model.layers.{}.feed_forward.gate_proj",
            "blk.{}.ffn_gate",
            &[FEED_FORWARD, HIDDEN],
        )
        .map_with(|config| of_list(config, "mlp_multipliers", 0)),
        Rule::new("model.layers.{}.feed_forward.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN]),
        Rule::new(
            "model.layers.{}.feed_forward.down_proj",
            "blk.{}.ffn_down",
            &[HIDDEN, FEED_FORWARD],
        )
        .map_with(|config| of_list(config, "mlp_multipliers", 1)),
        Rule::new("model.layers.{}.mamba.in_proj", "blk.{}.ssm_in", &[PROJECTED, HIDDEN])
            .map_with(projected),
        Rule::new(
            "model.layers.{}.mamba.conv1d",
            "blk.{}.ssm_conv1d",
            &[CONVOLVED, Dim::Number(1), Dim::Key("mamba_d_conv")],
        )
        .parts(FLAT)
        .maybe_bias(),
        Rule::exact("model.layers.{}.mamba.dt_bias", "blk.{}.ssm_dt.bias", &[MAMBA_HEADS]),
        Rule::exact("model.layers.{}.mamba.A_log", "blk.{}.ssm_a", &[MAMBA_HEADS])
            .parts(&[&[Step::Unfold(0, &[MAMBA_HEADS])]])
            .negative_exp(),
        Rule::exact("model.layers.{}.mamba.D", "blk.{}.ssm_d", &[MAMBA_HEADS])
            .parts(&[&[Step::Unfold(0, &[MAMBA_HEADS])]]),
        Rule::new("model.layers.{}.mamba.norm", "blk.{}.ssm_norm", &[INNER])
            .parts(&[&[Step::Unfold(0, &[Dim::Key(GROUPS_KEY)])]])
            .if_true("mamba_rms_norm"),
        Rule::new("model.layers.{}.mamba.out_proj", "blk.{}.ssm_out", &[HIDDEN, INNER])
            .times(&["ssm_out_multiplier"]),
    ]],
    check: check_heads,
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};

const MAMBA_HEADS: Dim = Dim::Key(HEADS_KEY);
const INNER: Dim = Dim::Key(INNER_KEY);
const STATES: Dim = Dim::Product(&[Dim::Key(GROUPS_KEY), Dim::Key(STATE_KEY)]);

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 8192),
    number("rms_norm_eps", 1e-5),
    number("rope_theta", 10_000.0),
    count("num_key_value_heads", 8),
    count("mamba_d_ssm", 1024),
    count("mamba_n_heads", 128),
    count("mamba_d_head", 64),
    count("mamba_n_groups", 1),
    count("mamba_d_state", 256),
    count("mamba_d_conv", 4),
];
const SIZES: &[Default] = &[
    default(INNER_KEY, Fill::Given("mamba_d_ssm")),
    default(STATE_KEY, Fill::Given("mamba_d_state")),
    default(GROUPS_KEY, Fill::Given("mamba_n_groups")),
    default(HEADS_KEY, Fill::Quotient("mamba_d_ssm", "mamba_d_head")),
    count(PADDING, 16),
];

/// The numbers of a list; 1 where there is none.
fn list<const N: usize>(config: &Config, key: &str) -> Result<[f32; N]> {
    let Some(value) = config.get(key) else { return Ok([1.0; N]) };
    let numbers = value.as_array().filter(|numbers| numbers.len() == N);
    let mut out = [1.0; N];
    for (out, number) in out.iter_mut().zip(numbers.into_iter().flatten()) {
        let number = number.as_f64().filter(|n| n.abs() <= f64::from(f32::MAX));
        *out =
            number.ok_or_else(|| config.wrong(key, "another value", "a list of numbers"))? as f32;
    }
    match numbers {
        Some(_) => Ok(out),
        None => Err(config.wrong(key, "of another length", &format!("a list of {N} numbers"))),
    }
}

fn of_list(config: &Config, key: &str, at: usize) -> Result<ElementMap> {
    let factors = list::<2>(config, key)?;
    Ok(ElementMap::Times(factors.get(at).copied().unwrap_or(1.0), 1.0))
}

/// Gates, values, inputs, outputs and time steps of the state each have a factor.
fn projected(config: &Config) -> Result<ElementMap> {
    let first = config.number("ssm_in_multiplier")?.unwrap_or(1.0) as f32;
    let factors = list::<5>(config, "ssm_multipliers")?;
    let (inner, states) = (INNER.size(config)?, STATES.size(config)?);
    let mut end = 0u64;
    let sizes = [inner, inner, states, states, MAMBA_HEADS.size(config)?];
    let bands = std::array::from_fn(|i| {
        end = end.saturating_add(sizes.get(i).copied().unwrap_or(0));
        (end, factors.get(i).copied().unwrap_or(1.0))
    });
    Ok(ElementMap::ByRows(first, bands))
}
