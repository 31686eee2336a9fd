//! Step 3.5 and 3.7 Flash: a gate for each head, heads and rotation by the kind of attention, experts
//! after some dense layers, layers that predict further tokens.

use serde_json::Value;

use crate::{Config, Result, model::Tensor};

use super::{
    Architecture, BASE, Default, Fill,
    layers::{all_layers, layers},
    llama3,
    nextn::{self, Further},
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const STEP35: Architecture = Architecture {
    name: "step35",
    classes: &["Step3p5ForCausalLM", "Step3p7ForConditionalGeneration"],
    defaults: &[model("step3p5", &[GIVEN])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            Parameter::With(by_layer),
            parameters::required("attention.value_length", &["head_dim"]),
            parameters::required("expert_count", &["moe_num_experts"]),
            parameters::required("expert_used_count", &["moe_top_k"]),
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::required("expert_shared_feed_forward_length", &["share_expert_dim"]),
            parameters::number("expert_weights_scale", &["moe_router_scaling_factor"]),
            parameters::flag("expert_weights_norm", "norm_expert_weight"),
            Parameter::With(|config, keys| {
                let leading = (0..layers(config)?).take_while(|layer| !sparse(config, *layer));
                keys.set_count("leading_dense_block_count", leading.count() as u64);
                Ok(())
            }),
            parameters::required("moe_every_n_layers", &["moe_every_n_layer"]),
            Parameter::With(|config, keys| {
                let epsilon = config.number("rms_norm_eps")?.unwrap_or(1e-5);
                keys.set_number("attention.layer_norm_rms_epsilon", epsilon);
                limits(config, keys, "swiglu_limits", "swiglu_clamp_exp")?;
                limits(config, keys, "swiglu_limits_shared", "swiglu_clamp_shexp")
            }),
            nextn::IF_ANY,
        ],
    ],
    tensors: &[EMBEDDING, SHIFTED_NORMS, ATTENTION, MLP, FURTHER, nextn::OWN_ENDS],
    rename: |_, name| {
        let renamed =
            name.replace(".transformer.", ".").replace("shared_head.output", "shared_head.head");
        (renamed != name).then_some(renamed)
    },
    further: Further::Counted("num_nextn_predict_layers"),
    check,
    computed: llama3_factors,
    needs_output: true,
    ..BASE
};

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 128_000),
    // One number for each layer, of which llama.cpp knows one for each kind of attention.
    default("local_rope_theta", Fill::With(|config| Ok(theta(config, 1)))),
    replaced("rope_theta", Fill::With(|config| Ok(theta(config, 0)))),
    number("rope_theta", 10_000.0),
    default("num_attention_groups", Fill::Given("num_key_value_heads")),
    count("num_attention_groups", 8),
    count("head_dim", 128),
    // The names that transformers has for them.
    default("moe_num_experts", Fill::Given("n_routed_experts")),
    default("moe_top_k", Fill::Given("num_experts_per_tok")),
    count("moe_num_experts", 288),
    count("moe_top_k", 8),
    number("moe_router_scaling_factor", 1.0),
    count("moe_every_n_layer", 1),
    count("moe_intermediate_size", 1280),
    count("share_expert_dim", 1280),
];

fn theta(config: &Config, at: usize) -> Option<Value> {
    config.get("rope_theta")?.as_array()?.get(at).cloned()
}

/// Whether a layer has a sliding window; the list goes on behind the last layer.
fn slides(config: &Config, layer: u64) -> bool {
    let types = config.get("layer_types").and_then(Value::as_array);
    let at = usize::try_from(layer).unwrap_or(usize::MAX);
    types.and_then(|types| types.get(at)?.as_str()) == Some("sliding_attention")
}

/// Whether a layer has experts: by a list, as text or numbers, else all but the first three.
fn sparse(config: &Config, layer: u64) -> bool {
    let at = usize::try_from(layer).unwrap_or(usize::MAX);
    let kinds = config.get("mlp_layer_types").and_then(Value::as_array);
    if let Some(kind) = kinds.and_then(|kinds| kinds.get(at)) {
        return kind.as_str() == Some("sparse");
    }
    match config.get("moe_layers_enum") {
        Some(Value::String(list)) => list.split(',').any(|n| n.trim().parse() == Ok(layer)),
        Some(Value::Array(list)) => list.iter().any(|n| n.as_u64() == Some(layer)),
        _ => layer >= 3 && !nextn::is_further(config, layer),
    }
}

fn dense(config: &Config, layer: u64) -> bool {
    !sparse(config, layer)
}

/// The keys of the heads of layers with a sliding window, before that of all layers.
const HEADS_BY_KIND: &[&str] = &[
    "attention_other_setting.num_attention_heads",
    "num_sliding_attention_heads",
    "num_attention_heads",
];
/// As [`HEADS_BY_KIND`], of keys and values.
const GROUPS_BY_KIND: &[&str] =
    &["attention_other_setting.num_attention_groups", "num_attention_groups"];

fn heads(config: &Config, layer: u64) -> Result<u64> {
    by_kind(config, HEADS_BY_KIND, layer)
}

fn groups(config: &Config, layer: u64) -> Result<u64> {
    by_kind(config, GROUPS_BY_KIND, layer)
}

fn by_kind(config: &Config, keys: &[&'static str], layer: u64) -> Result<u64> {
    let of_all = keys.last().copied().unwrap_or_default();
    let of_kind = if slides(config, layer) { config.alias(keys) } else { None };
    config.require(of_kind.unwrap_or(of_all))
}

const HEADS_HERE: Dim = Dim::InLayer("query heads of the layer", heads);
const GROUPS_HERE: Dim = Dim::InLayer("key and value heads of the layer", groups);

fn by_layer(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let all = all_layers(config)?;
    // Config::positive admits nothing larger than 32 bits; llama.cpp's converter writes 31.
    let numbers = |of: fn(&Config, u64) -> Result<u64>| {
        let number = |layer| of(config, layer).map(|n| i32::try_from(n).unwrap_or(i32::MAX));
        (0..all).map(number).collect::<Result<Vec<_>>>()
    };
    keys.set("attention.head_count", numbers(heads)?);
    keys.set("attention.head_count_kv", numbers(groups)?);
    keys.set_count("attention.sliding_window", config.require("sliding_window")?);
    let sliding: Vec<bool> = (0..all).map(|layer| slides(config, layer)).collect();
    keys.set("attention.sliding_window_pattern", sliding);
    Ok(())
}

/// llama.cpp turns half of each head with full attention, and whole heads with a sliding window.
fn check(config: &Config) -> Result<()> {
    const SHARES: &str = "partial_rotary_factors";
    let shares = config.get(SHARES).and_then(Value::as_array);
    for (layer, share) in shares.into_iter().flatten().enumerate() {
        let expected = if slides(config, layer as u64) { 1.0 } else { 0.5 };
        if share.as_f64() != Some(expected) {
            let found = format!("{} in layer {layer}", crate::json::describe(share));
            let expected =
                format!("{expected}: 1 with a sliding window and 0.5 without, as llama.cpp has it");
            return Err(config.wrong(SHARES, &found, &expected));
        }
    }
    for layer in 0..layers(config)? {
        let (heads, groups) = (heads(config, layer)?, groups(config, layer)?);
        if !heads.is_multiple_of(groups) {
            let expected = format!("a divisor of the {heads} query heads of layer {layer}");
            return Err(config.wrong("num_attention_groups", &groups.to_string(), &expected));
        }
    }
    Ok(())
}

/// As of Llama 3, for the half of a head that full attention turns. The other half, which only a
/// sliding window turns, keeps its frequencies.
fn llama3_factors(config: &Config, _: &mut Keys<'_>) -> Result<Vec<Tensor>> {
    let head = HEAD.size(config)?;
    let Some(mut factors) = llama3::factors_in_double(config, head / 2)? else {
        return Ok(Vec::new());
    };
    factors.resize((head / 2) as usize, 1.0);
    Ok(vec![vector("rope_freqs.weight", factors)])
}

const SHIFTED_NORMS: &[Rule] = &[
    Rule::new("model.norm", "output_norm", &[HIDDEN]).plus_one(),
    Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).plus_one(),
    Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN]).plus_one(),
    Rule::new("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", &[HEAD])
        .plus_one()
        .optional(),
    Rule::new("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", &[HEAD])
        .plus_one()
        .optional(),
];

const QUERIES: Dim = Dim::Product(&[HEADS_HERE, HEAD]);
const KEYS: Dim = Dim::Product(&[GROUPS_HERE, HEAD]);

const ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERIES, HIDDEN]),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEYS, HIDDEN]),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEYS, HIDDEN]),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERIES]),
    Rule::new("model.layers.{}.self_attn.g_proj", "blk.{}.attn_gate", &[HEADS_HERE, HIDDEN])
        .optional(),
];

const EXPERTS: Dim = Dim::Key("moe_num_experts");
const WIDTH: Dim = Dim::Key("moe_intermediate_size");
const SHARED: Dim = Dim::Key("share_expert_dim");

const MLP: &[Rule] = &[
    Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .in_layers(dense),
    Rule::new("model.layers.{}.moe.gate", "blk.{}.ffn_gate_inp", &[EXPERTS, HIDDEN])
        .in_layers(sparse),
    Rule::exact("model.layers.{}.moe.router_bias", "blk.{}.exp_probs_b.bias", &[EXPERTS])
        .optional()
        .in_layers(sparse),
    Rule::new("model.layers.{}.moe.gate_proj", "blk.{}.ffn_gate_exps", &[EXPERTS, WIDTH, HIDDEN])
        .in_layers(sparse),
    Rule::new("model.layers.{}.moe.up_proj", "blk.{}.ffn_up_exps", &[EXPERTS, WIDTH, HIDDEN])
        .in_layers(sparse),
    Rule::new("model.layers.{}.moe.down_proj", "blk.{}.ffn_down_exps", &[EXPERTS, HIDDEN, WIDTH])
        .in_layers(sparse),
    Rule::new("model.layers.{}.share_expert.gate_proj", "blk.{}.ffn_gate_shexp", &[SHARED, HIDDEN])
        .in_layers(sparse),
    Rule::new("model.layers.{}.share_expert.up_proj", "blk.{}.ffn_up_shexp", &[SHARED, HIDDEN])
        .in_layers(sparse),
    Rule::new("model.layers.{}.share_expert.down_proj", "blk.{}.ffn_down_shexp", &[HIDDEN, SHARED])
        .in_layers(sparse),
];

const FURTHER: &[Rule] = &[
    Rule::new(
        "model.layers.{}.eh_proj",
        "blk.{}.nextn.eh_proj",
        &[HIDDEN, Dim::Product(&[TWO, HIDDEN])],
    )
    .in_layers(nextn::is_further),
    Rule::new("model.layers.{}.enorm", "blk.{}.nextn.enorm", &[HIDDEN])
        .plus_one()
        .in_layers(nextn::is_further),
    Rule::new("model.layers.{}.hnorm", "blk.{}.nextn.hnorm", &[HIDDEN])
        .plus_one()
        .in_layers(nextn::is_further),
    Rule::new("model.layers.{}.shared_head.norm", "blk.{}.nextn.shared_head_norm", &[HIDDEN])
        .plus_one()
        .optional()
        .in_layers(nextn::is_further),
];
