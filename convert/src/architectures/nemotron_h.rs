//! Nemotron-H, Nemotron Nano 2 and 3: each layer is Mamba 2, attention, or a feed-forward part alone,
//! which may be experts.

use serde_json::Value;

use super::{
    Architecture, BASE, Default, Fill,
    mamba::*,
    nextn::{self, Further},
    parameters::{self, COMMON, FILE_TYPE, HEAD_LENGTHS, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step, all_layers, layers},
};
use crate::{Config, Result, json::describe, tokenizer::Kind};

pub(super) const NEMOTRON_H: Architecture = Architecture {
    name: "nemotron_h",
    classes: &["NemotronHForCausalLM"],
    variant: |config| config.has("num_experts_per_tok").then_some(&NEMOTRON_H_MOE),
    defaults: &[model("nemotron_h", DEFAULTS)],
    parameters: &[COMMON, FILE_TYPE, OWN, &[Parameter::With(dense_widths)]],
    prefix: "backbone.",
    tensors: &[
        ENDS,
        mixer!("backbone.layers.{}.mixer", "conv_kernel", is_state),
        ATTENTION_HERE,
        &[
            Rule::new("backbone.layers.{}.mixer.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
                .bias_if("mlp_bias")
                .in_layers(is_feed_forward),
            Rule::new(
                "backbone.layers.{}.mixer.down_proj",
                "blk.{}.ffn_down",
                &[HIDDEN, FEED_FORWARD],
            )
            .bias_if("mlp_bias")
            .in_layers(is_feed_forward),
        ],
    ],
    rename,
    check: check_heads,
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};

/// With experts.
const NEMOTRON_H_MOE: Architecture = Architecture {
    name: "nemotron_h_moe",
    variant: |_| None,
    defaults: &[model("nemotron_h", MOE_DEFAULTS)],
    parameters: &[
        COMMON,
        FILE_TYPE,
        OWN,
        &[
            Parameter::With(expert_widths),
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::required(
                "expert_shared_feed_forward_length",
                &["moe_shared_expert_intermediate_size"],
            ),
            parameters::whole("expert_shared_count", &["n_shared_experts"]),
            parameters::flag("expert_weights_norm", "norm_topk_prob"),
            parameters::required_number("expert_weights_scale", &["routed_scaling_factor"]),
            parameters::count("moe_latent_size", &["moe_latent_size"]),
            Parameter::With(further_key_heads),
            nextn::IF_ANY,
        ],
    ],
    tensors: &[
        ENDS,
        mixer!("backbone.layers.{}.mixer", "conv_kernel", is_state),
        ATTENTION_HERE,
        EXPERTS,
        nextn::NEXTN,
        &[Rule::new(
            "backbone.layers.{}.post_attention_layernorm",
            "blk.{}.post_attention_norm",
            &[HIDDEN],
        )
        .in_layers(nextn::is_further)],
    ],
    further: Further::Counted(FURTHER_COUNT),
    ..NEMOTRON_H
};

/// Nemotron 3 Puzzle: each layer is described by itself, and experts of layers differ in width.
pub(super) const NEMOTRON_PUZZLE: Architecture = Architecture {
    classes: &["NemotronHPuzzleForCausalLM"],
    defaults: &[model("nemotron_h_puzzle", PUZZLE_DEFAULTS)],
    parameters: &[
        COMMON,
        FILE_TYPE,
        OWN,
        &[
            Parameter::With(|config, keys| {
                let widths = of_blocks(config, "moe_intermediate_size")?;
                keys.set("feed_forward_length", widths.clone());
                keys.set("expert_feed_forward_length", widths);
                keys.set("expert_used_count", of_blocks(config, "num_experts_per_tok")?);
                Ok(())
            }),
            parameters::required(
                "expert_shared_feed_forward_length",
                &["moe_shared_expert_intermediate_size"],
            ),
            parameters::required("expert_count", &["n_routed_experts"]),
            parameters::whole("expert_shared_count", &["n_shared_experts"]),
            parameters::flag("expert_weights_norm", "norm_topk_prob"),
            parameters::required_number("expert_weights_scale", &["routed_scaling_factor"]),
            parameters::required("expert_group_count", &["n_group"]),
            parameters::count("moe_latent_size", &["moe_latent_size"]),
        ],
    ],
    tensors: &[
        ENDS,
        mixer!("backbone.layers.{}.mixer", "conv_kernel", is_state),
        ATTENTION_HERE,
        EXPERTS,
    ],
    rename: |config, name| {
        // What predicts further tokens is laid out in blocks of its own, which no graph knows.
        if name.starts_with("mtp.") {
            return Some("mtp".to_owned());
        }
        rename(config, name)
    },
    further: Further::None,
    ..NEMOTRON_H_MOE
};

const BLOCKS: &str = "block_configs";

const PUZZLE_DEFAULTS: &[&[Default]] = &[
    EXPERTS_GIVEN,
    &[
        // The list of blocks counts the layers and tells their kinds, whatever else is said.
        replaced("num_hidden_layers", Fill::With(|config| Ok(Some(blocks(config)?.len().into())))),
        replaced(
            "layers_block_type",
            Fill::With(|config| {
                let kinds = blocks(config)?.iter().map(|block| block.get("block_type").cloned());
                Ok(Some(kinds.map(|kind| kind.unwrap_or(Value::Null)).collect()))
            }),
        ),
        replaced("hybrid_override_pattern", Fill::With(|_| Ok(Some(Value::Null)))),
    ],
    GIVEN,
    SAME_HEADS,
    DERIVED,
    PADDED,
];

fn blocks(config: &Config) -> Result<&Vec<Value>> {
    let blocks = config.get(BLOCKS);
    blocks.and_then(Value::as_array).ok_or_else(|| {
        let found = blocks.map_or("no such key".to_owned(), describe);
        config.wrong(BLOCKS, &found, "a list that describes each layer")
    })
}

/// A count that blocks with experts have, and 0 for the others.
fn of_blocks(config: &Config, key: &str) -> Result<Vec<i32>> {
    let count = |block: &Value| match block.get(key) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value
            .as_u64()
            .and_then(|count| i32::try_from(count).ok())
            .ok_or_else(|| config.wrong(BLOCKS, &describe(value), &format!("counts under {key}"))),
    };
    blocks(config)?.iter().map(count).collect()
}

/// Values inside an expert of a layer.
const WIDTH: Dim = Dim::InLayer("moe_intermediate_size", |config, layer| {
    if config.get(BLOCKS).is_none() {
        return config.require("moe_intermediate_size");
    }
    let width = usize::try_from(layer).ok().and_then(|at| blocks(config).ok()?.get(at));
    let width = width.and_then(|block| block.get("moe_intermediate_size")?.as_u64());
    width.filter(|width| *width > 0).ok_or_else(|| {
        let expected = "a positive moe_intermediate_size in each layer with experts";
        config.wrong(BLOCKS, &format!("a layer {layer} without one"), expected)
    })
});
const SHARED: Dim = Dim::Key("moe_shared_expert_intermediate_size");
const COUNT: Dim = Dim::Key("n_routed_experts");
/// Values that an expert takes.
const LATENT: Dim = Dim::KeyOr("moe_latent_size", &HIDDEN);

const DEFAULTS: &[&[Default]] = &[GIVEN, SAME_HEADS, DERIVED, PADDED];

const MOE_DEFAULTS: &[&[Default]] = &[EXPERTS_GIVEN, GIVEN, SAME_HEADS, DERIVED, PADDED];

const EXPERTS_GIVEN: &[Default] = &[
    count("n_shared_experts", 1),
    flag("norm_topk_prob", true),
    number("routed_scaling_factor", 1.0),
    count("n_group", 1),
    count("topk_group", 1),
];

const GIVEN: &[Default] = &[
    // A list of kinds counts the layers whatever else is said.
    replaced(
        "num_hidden_layers",
        Fill::With(|config| {
            let kinds = config.get("layers_block_type").and_then(Value::as_array);
            Ok(kinds.map(|kinds| kinds.len().into()).or(config.get("num_hidden_layers").cloned()))
        }),
    ),
    count("max_position_embeddings", 4096),
    number("layer_norm_epsilon", 1e-5),
    count("num_key_value_heads", 8),
    default("head_dim", Fill::Given("attention_head_dim")),
    count("head_dim", 128),
    default("conv_kernel", Fill::Given("mamba_d_conv")),
    count("conv_kernel", 4),
    count("mamba_num_heads", 128),
    count("mamba_head_dim", 64),
    count("n_groups", 8),
    count("ssm_state_size", 128),
];

const DERIVED: &[Default] = &[
    default(
        INNER_KEY,
        Fill::With(|config| {
            Ok(Some(
                Dim::Product(&[Dim::Key("mamba_num_heads"), Dim::Key("mamba_head_dim")])
                    .size(config)?
                    .into(),
            ))
        }),
    ),
    default(STATE_KEY, Fill::Given("ssm_state_size")),
    default(GROUPS_KEY, Fill::Given("n_groups")),
    default(HEADS_KEY, Fill::Given("mamba_num_heads")),
    default(KEY_HEADS_BY_LAYER, Fill::With(key_heads)),
    count(PADDING, 8),
];

/// The kind of a layer: of a pattern such as `M-M*`, or of a list of names.
fn kind(config: &Config, layer: u64) -> Option<char> {
    let at = usize::try_from(layer).ok()?;
    if let Some(pattern) = config.get("hybrid_override_pattern").and_then(Value::as_str) {
        return pattern.chars().nth(at);
    }
    let kinds = config.get("layers_block_type").and_then(Value::as_array)?;
    match kinds.get(at)?.as_str()? {
        "mamba" | "linear_attention" => Some('M'),
        "attention" | "full_attention" => Some('*'),
        "moe" => Some('E'),
        _ => Some('-'),
    }
}

fn is_state(config: &Config, layer: u64) -> bool {
    kind(config, layer) == Some('M')
}

/// A layer that predicts further tokens has both parts.
fn attends(config: &Config, layer: u64) -> bool {
    kind(config, layer) == Some('*') || nextn::is_further(config, layer)
}

fn is_feed_forward(config: &Config, layer: u64) -> bool {
    matches!(kind(config, layer), Some('-' | 'E')) || nextn::is_further(config, layer)
}

/// A number for each layer: this one where the layer is of that kind, else 0.
fn by_kind(config: &Config, number: u64, is: fn(&Config, u64) -> bool) -> Result<Vec<i32>> {
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    Ok((0..all_layers(config)?).map(|layer| if is(config, layer) { number } else { 0 }).collect())
}

/// The heads of all layers, of which there are more than config.json lists.
fn further_key_heads(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    if nextn::number(config) > 0 {
        let heads = config.require("num_key_value_heads")?;
        keys.set("attention.head_count_kv", by_kind(config, heads, attends)?);
    }
    Ok(())
}

fn key_heads(config: &Config) -> Result<Option<Value>> {
    Ok(Some(by_kind(config, config.require("num_key_value_heads")?, attends)?.into()))
}

fn dense_widths(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let width = config.require("intermediate_size")?;
    keys.set("feed_forward_length", by_kind(config, width, is_feed_forward)?);
    Ok(())
}

fn expert_widths(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let width = config.require("moe_intermediate_size")?;
    keys.set("feed_forward_length", by_kind(config, width, is_feed_forward)?);
    Ok(())
}

const OWN: &[Parameter] = &[
    parameters::required("vocab_size", &["vocab_size"]),
    Parameter::With(|config, keys| {
        let (width, heads) = (HIDDEN.size(config)?, HEADS.size(config)?);
        keys.set_count("rope.dimension_count", width / heads);
        Ok(())
    }),
    parameters::required("ssm.conv_kernel", &["conv_kernel"]),
    parameters::required("ssm.state_size", &[STATE_KEY]),
    parameters::required("ssm.group_count", &[GROUPS_KEY]),
    parameters::required("ssm.inner_size", &[INNER_KEY]),
    parameters::required("ssm.time_step_rank", &[HEADS_KEY]),
    Parameter::Constant("rope.scaling.finetuned", parameters::Constant::Flag(false)),
    Parameter::Constant("context_length", parameters::Constant::Count(1 << 20)),
    HEAD_LENGTHS,
];

const FURTHER: &str = "layers that predict further tokens are converted where there is one";
const FURTHER_COUNT: &str = "num_nextn_predict_layers";

/// Names of fine-tunes and of newer releases, and of layers that predict further tokens.
fn rename(config: &Config, name: &str) -> Option<String> {
    if let Some(name) = name.strip_prefix("mtp.") {
        return Some(further_name(config, name).unwrap_or_else(|| "mtp".to_owned()));
    }
    let bare = name.strip_prefix("model.")?;
    Some(format!("backbone.{bare}"))
}

/// The names of the one layer that predicts a further token, which checkpoints have as two:
/// attention, and experts.
fn further_name(config: &Config, name: &str) -> Option<String> {
    let has_one = matches!(config.whole(FURTHER_COUNT), Ok(None | Some(1)));
    let rest = name.strip_prefix("layers.0.").or(name.strip_prefix("layers.1."))?;
    let layer = layers(config).ok().filter(|_| has_one && config.has("num_experts_per_tok"))?;
    Some(match name {
        "layers.1.norm.weight" => {
            format!("backbone.layers.{layer}.post_attention_layernorm.weight")
        }
        "layers.1.final_layernorm.weight" => {
            format!("model.layers.{layer}.shared_head.norm.weight")
        }
        _ if ["enorm.", "hnorm.", "eh_proj."].iter().any(|part| rest.starts_with(part)) => {
            format!("model.layers.{layer}.{rest}")
        }
        _ => format!("backbone.layers.{layer}.{rest}"),
    })
}

const ENDS: &[Rule] = &[
    Rule::new("backbone.embeddings", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head(),
    Rule::new("backbone.norm_f", "output_norm", &[HIDDEN]),
    Rule::new("backbone.layers.{}.norm", "blk.{}.attn_norm", &[HIDDEN]),
    Rule { exact: true, ..Rule::left_out("mtp", FURTHER) },
];

const ATTENTION_HERE: &[Rule] = &[
    Rule::new("backbone.layers.{}.mixer.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .parts(ROTARY_QUERY)
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("backbone.layers.{}.mixer.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .parts(ROTARY_KEY)
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("backbone.layers.{}.mixer.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("backbone.layers.{}.mixer.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .bias_if("attention_bias")
        .in_layers(attends),
];

const EXPERTS: &[Rule] = &[
    Rule::new("backbone.layers.{}.mixer.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .in_layers(is_feed_forward),
    Rule::exact(
        "backbone.layers.{}.mixer.gate.e_score_correction_bias",
        "blk.{}.exp_probs_b.bias",
        &[COUNT],
    )
    .in_layers(is_feed_forward)
    .any_of(),
    Rule::exact(
        "backbone.layers.{}.mixer.gate.e_score_correction.bias",
        "blk.{}.exp_probs_b.bias",
        &[COUNT],
    )
    .optional()
    .in_layers(is_feed_forward)
    .any_of(),
    Rule::new(
        "backbone.layers.{}.mixer.fc1_latent_proj",
        "blk.{}.ffn_latent_down",
        &[LATENT, HIDDEN],
    )
    .with("moe_latent_size")
    .in_layers(is_feed_forward),
    Rule::new(
        "backbone.layers.{}.mixer.fc2_latent_proj",
        "blk.{}.ffn_latent_up",
        &[HIDDEN, LATENT],
    )
    .with("moe_latent_size")
    .in_layers(is_feed_forward),
    Rule::new(
        "backbone.layers.{}.mixer.experts.{}.down_proj",
        "blk.{}.ffn_down_exps",
        &[LATENT, WIDTH],
    )
    .stacked("n_routed_experts")
    .in_layers(is_feed_forward),
    Rule::new(
        "backbone.layers.{}.mixer.experts.{}.up_proj",
        "blk.{}.ffn_up_exps",
        &[WIDTH, LATENT],
    )
    .stacked("n_routed_experts")
    .in_layers(is_feed_forward),
    Rule::new(
        "backbone.layers.{}.mixer.shared_experts.up_proj",
        "blk.{}.ffn_up_shexp",
        &[SHARED, HIDDEN],
    )
    .in_layers(is_feed_forward),
    Rule::new(
        "backbone.layers.{}.mixer.shared_experts.down_proj",
        "blk.{}.ffn_down_shexp",
        &[HIDDEN, SHARED],
    )
    .in_layers(is_feed_forward),
];
