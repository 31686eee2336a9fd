//! Gemma 4, its text model and its drafting assistants: heads of two sizes, layers that use the keys
//! and values of others, vectors of tokens for each layer, experts beside a dense part.

use serde_json::Value;

use crate::{
    Config, Result,
    json::{self, describe},
    model::Tensor,
    tokenizer::Kind,
};

use super::{
    Architecture, BASE, Default, Fill,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule, layers},
};

pub(super) const GEMMA4: Architecture = Architecture {
    name: "gemma4",
    classes: &[
        "Gemma4ForConditionalGeneration",
        "Gemma4ForCausalLM",
        "Gemma4UnifiedForConditionalGeneration",
    ],
    defaults: &[
        part("gemma4_text", SIZES, &[&[count("sliding_window", 512)], GIVEN, PER_LAYER]),
        part("gemma4_unified_text", SIZES, &[UNIFIED, GIVEN]),
    ],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, OWN, &[Parameter::With(suppressed)]],
    tensors: &[ENDS, OUTPUT, LAYER, KEYS_AND_VALUES, INPUTS, EXPERTS],
    check,
    computed: factors,
    tokenizers: &[Kind::Gemma4, Kind::SentencePiece],
    last: &[
        ("tokenizer.ggml.add_space_prefix", Constant::Flag(false)),
        ("tokenizer.ggml.add_bos_token", Constant::Flag(true)),
    ],
    ..BASE
};

pub(super) const GEMMA4_ASSISTANT: Architecture = Architecture {
    name: "gemma4-assistant",
    classes: &["Gemma4AssistantForCausalLM", "Gemma4UnifiedAssistantForCausalLM"],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        OWN,
        &[
            parameters::required("embedding_length_out", &["backbone_hidden_size"]),
            Parameter::With(|config, keys| {
                keys.set_count("nextn_predict_layers", layers(config)?);
                Ok(())
            }),
        ],
    ],
    tensors: &[
        ENDS,
        LAYER,
        &[
            Rule::new("pre_projection", "nextn.pre_projection", &[HIDDEN, TWO_BACKBONES]),
            Rule::new("post_projection", "nextn.post_projection", &[BACKBONE, HIDDEN]),
            Rule::left_out("lm_head", "the output is the token embedding"),
            Rule::left_out("masked_embedding.centroids", CENTROIDS),
            Rule { exact: true, ..Rule::left_out("masked_embedding.token_ordering", CENTROIDS) },
        ],
    ],
    check: |config| {
        only_tied(config)?;
        check(config)
    },
    ..GEMMA4
};

const CENTROIDS: &str = "llama.cpp looks at all tokens, not only those of the nearest centroids";
const BACKBONE: Dim = Dim::Key("backbone_hidden_size");
const TWO_BACKBONES: Dim = Dim::Product(&[Dim::Number(2), Dim::Key("backbone_hidden_size")]);

const SIZES: &[Default] = &sizes([262_144, 2304, 9216, 30, 8]);

const UNIFIED: &[Default] =
    &[count("sliding_window", 1024), count("max_position_embeddings", 262_144)];

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 131_072),
    number("rms_norm_eps", 1e-6),
    count("num_key_value_heads", 4),
    count("head_dim", 256),
    count("num_kv_shared_layers", 0),
    default("rope_parameters", Fill::With(rope)),
    default("layer_types", Fill::With(types)),
];

const PER_LAYER: &[Default] =
    &[count("hidden_size_per_layer_input", 256), count("vocab_size_per_layer_input", 262_144)];

const FULL: &str = "full_attention";

/// What the class assumes of both kinds of attention.
fn rope(_: &Config) -> Result<Option<Value>> {
    Ok(Some(serde_json::json!({
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention":
            {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
    })))
}

/// Every sixth layer sees everything, and the last one.
fn types(config: &Config) -> Result<Option<Value>> {
    let count = layers(config)?;
    let is_full = |layer: u64| (layer + 1).is_multiple_of(6) || layer + 1 == count;
    let name = |layer| if is_full(layer) { FULL } else { "sliding_attention" };
    Ok(Some((0..count).map(name).collect()))
}

fn is_full(config: &Config, layer: u64) -> bool {
    let index = usize::try_from(layer).unwrap_or(usize::MAX);
    let types = config.get("layer_types").and_then(Value::as_array);
    types.and_then(|types| types.get(index)?.as_str()) == Some(FULL)
}

/// A number that layers which see everything have of their own: of the published files for all of
/// them, of transformers 5 for each.
fn of_full(config: &Config, global: &str, key: &str) -> Result<Option<u64>> {
    if let Some(number) = config.positive(global)? {
        return Ok(Some(number));
    }
    const EACH: &str = "per_layer_config";
    let Some(each) = config.get(EACH).and_then(Value::as_object) else { return Ok(None) };
    let own = (0..layers(config)?).filter(|layer| is_full(config, *layer)).find_map(|layer| {
        let value = each.get(&layer.to_string())?.get(key)?;
        Some((layer, value))
    });
    let Some((layer, value)) = own else { return Ok(None) };
    match value.as_u64() {
        Some(number @ 1..=0xffff_ffff) => Ok(Some(number)),
        _ => {
            let shown = format!("{EACH}.{layer}.{key}");
            Err(config.wrong(&shown, &describe(value), "a positive whole number of 32 bits"))
        }
    }
}

fn full_head(config: &Config) -> Result<u64> {
    Ok(of_full(config, "global_head_dim", "head_dim")?.unwrap_or(512))
}

fn full_key_heads(config: &Config) -> Result<Option<u64>> {
    // Only models whose keys are their values may have fewer of them there.
    of_full(config, "num_global_key_value_heads", "num_key_value_heads")
}

fn head_size(config: &Config, layer: u64) -> Result<u64> {
    if is_full(config, layer) { full_head(config) } else { config.require("head_dim") }
}

fn key_heads(config: &Config, layer: u64) -> Result<u64> {
    match full_key_heads(config)? {
        Some(heads) if is_full(config, layer) => Ok(heads),
        _ => config.require("num_key_value_heads"),
    }
}

/// Twice as wide where keys and values are those of another layer, if config.json says so.
fn width(config: &Config, layer: u64) -> Result<u64> {
    let width = config.require("intermediate_size")?;
    let doubled = config.flag("use_double_wide_mlp")? && !has_keys(config, layer);
    Ok(if doubled { width.saturating_mul(2) } else { width })
}

fn has_keys(config: &Config, layer: u64) -> bool {
    let shared = config.whole("num_kv_shared_layers").ok().flatten().unwrap_or(0);
    layers(config).is_ok_and(|count| layer < count.saturating_sub(shared))
}

/// Values are the keys in layers that see everything, if config.json says so.
fn has_values(config: &Config, layer: u64) -> bool {
    let same = config.flag("attention_k_eq_v").unwrap_or(false) && is_full(config, layer);
    has_keys(config, layer) && !same
}

fn has_inputs(config: &Config, _: u64) -> bool {
    config.whole("hidden_size_per_layer_input").ok().flatten().is_some_and(|width| width > 0)
}

fn check(config: &Config) -> Result<()> {
    let (heads, layers) = (config.require("num_attention_heads")?, layers(config)?);
    let types = config.get("layer_types").and_then(Value::as_array).map_or(0, Vec::len);
    if types as u64 != layers {
        let found = format!("a list of {types}");
        return Err(config.wrong("layer_types", &found, &format!("{layers} entries")));
    }
    for layer in 0..layers {
        let shared = key_heads(config, layer)?;
        if heads % shared != 0 {
            let expected = format!("a multiple of num_key_value_heads, which is {shared}");
            return Err(config.wrong("num_attention_heads", &heads.to_string(), &expected));
        }
    }
    Ok(())
}

/// Layers that see everything turn the first part of a head. ggml turns the outer parts of both
/// halves: frequencies that turn nothing stand for the rest.
fn factors(config: &Config, _: &mut Keys<'_>) -> Result<Vec<Tensor>> {
    const STILL: f32 = 1e30;
    let head = full_head(config)?;
    let share = super::rope::Rope::read(config)?.partial()?.unwrap_or(1.0);
    let turned = (head as f64 * share / 2.0) as usize;
    let mut factors = vec![1.0; turned.min(head as usize / 2)];
    factors.resize(head as usize / 2, STILL);
    Ok(vec![vector("rope_freqs.weight", factors)])
}

const OWN: &[Parameter] = &[
    parameters::number("final_logit_softcapping", &["final_logit_softcapping"]),
    parameters::required("attention.sliding_window", &["sliding_window"]),
    Parameter::Whole {
        key: "attention.shared_kv_layers",
        from: &["num_kv_shared_layers"],
        otherwise: Some(0),
    },
    Parameter::Whole {
        key: "embedding_length_per_layer_input",
        from: &["hidden_size_per_layer_input"],
        otherwise: Some(0),
    },
    Parameter::With(|config, keys| {
        let layers = layers(config)?;
        let sliding: Vec<bool> = (0..layers).map(|layer| !is_full(config, layer)).collect();
        keys.set("attention.sliding_window_pattern", sliding);
        let (full, head) = (full_head(config)?, config.require("head_dim")?);
        keys.set_count("attention.key_length", full);
        keys.set_count("attention.value_length", full);
        keys.set_count("attention.key_length_swa", head);
        keys.set_count("attention.value_length_swa", head);
        if let Some(width) = config.positive("moe_intermediate_size")? {
            keys.set_count("expert_feed_forward_length", width);
        }
        let list = |number: fn(&Config, u64) -> Result<u64>| {
            let number = |layer| Ok(i32::try_from(number(config, layer)?).unwrap_or(i32::MAX));
            (0..layers).map(number).collect::<Result<Vec<i32>>>()
        };
        if config.flag("use_double_wide_mlp")? {
            keys.set("feed_forward_length", list(width)?);
        }
        if full_key_heads(config)?.is_some() {
            keys.set("attention.head_count_kv", list(key_heads)?);
        }
        keys.set_count("rope.dimension_count", full);
        keys.set_count("rope.dimension_count_swa", head);
        Ok(())
    }),
];

/// Tokens that the model is not to write, by generation_config.json: the placeholders of images and
/// sound.
fn suppressed(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let is_unified = config.class().is_ok_and(|class| class.starts_with("Gemma4Unified"));
    let Some(folder) = config.path().parent().filter(|_| is_unified) else { return Ok(()) };
    let settings = json::read_optional(&folder.join("generation_config.json"))?.unwrap_or_default();
    if let Some(tokens) = settings.get("suppress_tokens").and_then(Value::as_array) {
        let id = |token: &Value| token.as_u64().and_then(|id| i32::try_from(id).ok());
        let tokens: Vec<i32> = tokens.iter().filter_map(id).collect();
        keys.set_global("tokenizer.ggml.suppress_tokens", tokens);
    }
    Ok(())
}

const HEAD_OF: Dim = Dim::InLayer("size of a head of the layer", head_size);
const QUERIES: Dim = Dim::Product(&[HEADS, HEAD_OF]);
const KEYS: Dim =
    Dim::Product(&[Dim::InLayer("num_key_value_heads of the layer", key_heads), HEAD_OF]);
const WIDTH: Dim = Dim::InLayer("intermediate_size of the layer", width);
const INPUT: Dim = Dim::Key("hidden_size_per_layer_input");
const ALL_INPUTS: Dim =
    Dim::Product(&[Dim::Key("num_hidden_layers"), Dim::Key("hidden_size_per_layer_input")]);
const COUNT: Dim = Dim::Key("num_experts");
const EXPERT: Dim = Dim::Key("moe_intermediate_size");
const ONE: Dim = Dim::Number(1);

const ENDS: &[Rule] = &[
    Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new("model.norm", "output_norm", &[HIDDEN]),
];
const OUTPUT: &[Rule] = &[Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head()];

const LAYER: &[Rule] = &[
    Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERIES, HIDDEN]),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERIES]),
    Rule::new("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", &[HEAD_OF]),
    Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[WIDTH, HIDDEN]),
    Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[WIDTH, HIDDEN]),
    Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, WIDTH]),
    Rule::exact("model.layers.{}.layer_scalar", "blk.{}.layer_output_scale.weight", &[ONE]),
];

/// Layers that use those of others may have their own all the same.
const KEYS_AND_VALUES: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEYS, HIDDEN])
        .in_layers(has_keys),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEYS, HIDDEN])
        .in_layers(has_values),
    Rule::new("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", &[HEAD_OF])
        .in_layers(has_keys),
];

/// Vectors of tokens for each layer.
const INPUTS: &[Rule] = &[
    Rule::new(
        "model.embed_tokens_per_layer",
        "per_layer_token_embd",
        &[Dim::Key("vocab_size_per_layer_input"), ALL_INPUTS],
    )
    .in_layers(has_inputs),
    Rule::new("model.per_layer_model_projection", "per_layer_model_proj", &[ALL_INPUTS, HIDDEN])
        .in_layers(has_inputs),
    Rule::new("model.per_layer_projection_norm", "per_layer_proj_norm", &[INPUT])
        .in_layers(has_inputs),
    Rule::new("model.layers.{}.per_layer_input_gate", "blk.{}.inp_gate", &[INPUT, HIDDEN])
        .in_layers(has_inputs),
    Rule::new("model.layers.{}.per_layer_projection", "blk.{}.proj", &[HIDDEN, INPUT])
        .in_layers(has_inputs),
    Rule::new("model.layers.{}.post_per_layer_input_norm", "blk.{}.post_norm", &[HIDDEN])
        .in_layers(has_inputs),
];

const ENABLED: &str = "enable_moe_block";

const EXPERTS: &[Rule] = &[
    Rule::new("model.layers.{}.router.proj", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .if_true(ENABLED),
    Rule::exact("model.layers.{}.router.scale", "blk.{}.ffn_gate_inp.scale", &[HIDDEN])
        .if_true(ENABLED),
    Rule::exact("model.layers.{}.router.per_expert_scale", "blk.{}.ffn_down_exps.scale", &[COUNT])
        .if_true(ENABLED),
    Rule::exact(
        "model.layers.{}.experts.gate_up_proj",
        "blk.{}.ffn_gate_up_exps.weight",
        &[COUNT, Dim::Product(&[Dim::Number(2), Dim::Key("moe_intermediate_size")]), HIDDEN],
    )
    .if_true(ENABLED),
    Rule::exact(
        "model.layers.{}.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        &[COUNT, HIDDEN, EXPERT],
    )
    .if_true(ENABLED),
    Rule::new("model.layers.{}.pre_feedforward_layernorm_2", "blk.{}.pre_ffw_norm_2", &[HIDDEN])
        .if_true(ENABLED),
    Rule::new("model.layers.{}.post_feedforward_layernorm_1", "blk.{}.post_ffw_norm_1", &[HIDDEN])
        .if_true(ENABLED),
    Rule::new("model.layers.{}.post_feedforward_layernorm_2", "blk.{}.post_ffw_norm_2", &[HIDDEN])
        .if_true(ENABLED),
];
