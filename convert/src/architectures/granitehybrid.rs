//! Granite 4 and Bamba: Mamba 2 in most layers, attention in the others, experts or none. Those
//! without Mamba are Granite as before.

use serde_json::Value;

use super::{
    Architecture, BASE, Default, Fill, granite, granitemoe, llama,
    mamba::*,
    parameters::{self, COMMON, FILE_TYPE, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step, layers},
};
use crate::{Config, Result, tokenizer::Kind};

pub(super) const GRANITE_HYBRID: Architecture = Architecture {
    name: "granitehybrid",
    classes: &["GraniteMoeHybridForCausalLM", "BambaForCausalLM"],
    variant: |config| {
        let count = layers(config).ok()?;
        if config.get("layer_types").is_none() || (0..count).any(|layer| is_state(config, layer)) {
            return None;
        }
        let experts = config.whole("num_experts_per_tok").ok().flatten().unwrap_or(0);
        Some(if experts > 0 { &ALL_ATTENTION_MOE } else { &ALL_ATTENTION })
    },
    defaults: &[
        model("granitemoehybrid", &[granite::GIVEN, USED, GIVEN, SIZES]),
        model("bamba", &[BAMBA, GIVEN, SIZES]),
    ],
    parameters: &[
        COMMON,
        FILE_TYPE,
        llama::ROPE,
        granite::MULTIPLIERS,
        SHARED_WIDTH,
        &[
            parameters::required("ssm.conv_kernel", &["mamba_d_conv"]),
            parameters::required("ssm.state_size", &[STATE_KEY]),
            parameters::required("ssm.group_count", &[GROUPS_KEY]),
            parameters::required("ssm.inner_size", &[INNER_KEY]),
            parameters::required("ssm.time_step_rank", &[HEADS_KEY]),
            parameters::count("rope.dimension_count", &["attn_rotary_emb"]),
        ],
        ROPED,
    ],
    tensors: &[
        EMBEDDING,
        &[
            Rule::new("model.norm", "output_norm", &[HIDDEN]).optional().any_of(),
            Rule::new("model.final_layernorm", "output_norm", &[HIDDEN]).any_of(),
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
                .optional()
                .any_of(),
            Rule::new("model.layers.{}.pre_ff_layernorm", "blk.{}.ffn_norm", &[HIDDEN]).any_of(),
        ],
        MIXER,
        ATTENTION_HERE,
        EXPERTS,
        SHARED_MLP,
        BAMBA_MLP,
    ],
    check: check_heads,
    computed: llama3_factors,
    tokenizers: &[Kind::SentencePiece, Kind::ByteLevel],
    ..BASE
};

/// Without Mamba, and without experts.
const ALL_ATTENTION: Architecture = Architecture {
    name: "granite",
    variant: |_| None,
    parameters: &[
        COMMON,
        FILE_TYPE,
        llama::ROPE,
        granite::MULTIPLIERS,
        SHARED_WIDTH,
        STATE_KEYS,
        ROPED,
    ],
    ..GRANITE_HYBRID
};

/// Without Mamba, but with experts.
const ALL_ATTENTION_MOE: Architecture = Architecture { name: "granitemoe", ..ALL_ATTENTION };

/// llama.cpp's converter writes the sizes of Mamba for these as well.
const STATE_KEYS: &[Parameter] = &[
    parameters::required("ssm.conv_kernel", &["mamba_d_conv"]),
    parameters::required("ssm.state_size", &[STATE_KEY]),
    parameters::required("ssm.group_count", &[GROUPS_KEY]),
    parameters::required("ssm.inner_size", &[INNER_KEY]),
    parameters::required("ssm.time_step_rank", &[HEADS_KEY]),
];

const ROPE: &str = "positions are rotated";

/// Whether positions are rotated at all; llama.cpp reads it from this key.
const ROPED: &[Parameter] = &[Parameter::With(|config, keys| {
    let count = layers(config)?;
    let roped = config.get(ROPE).is_some() || !(0..count).any(|layer| is_state(config, layer));
    keys.set("rope.scaling.finetuned", roped);
    if !roped {
        keys.set_count("context_length", 1 << 20);
    }
    Ok(())
})];

const SHARED_WIDTH: &[Parameter] = &[Parameter::With(|config, keys| {
    if let Some(width @ 1..) = config.whole("shared_intermediate_size")? {
        keys.set_count("expert_shared_feed_forward_length", width);
    }
    Ok(())
})];

const USED: &[Default] = &[count("num_experts_per_tok", 2)];

const BAMBA: &[Default] = &[
    flag("tie_word_embeddings", false),
    count(ROPE, 1),
    count("max_position_embeddings", 262_144),
    number("rms_norm_eps", 1e-5),
];

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 2048),
    number("rms_norm_eps", 1e-6),
    number("rope_theta", 10_000.0),
    count("mamba_n_heads", 128),
    count("mamba_n_groups", 1),
    count("mamba_d_state", 256),
    count("mamba_d_conv", 4),
    count("mamba_expand", 2),
];
const SIZES: &[Default] = &[
    or_null("num_key_value_heads", Fill::Same("num_attention_heads")),
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
    default(GROUPS_KEY, Fill::Given("mamba_n_groups")),
    default(HEADS_KEY, Fill::Given("mamba_n_heads")),
    default(KEY_HEADS_BY_LAYER, Fill::With(|config| key_heads_where(config, attends))),
    default(
        PADDING,
        Fill::With(|config| {
            let count = layers(config)?;
            let hybrid = (0..count).any(|layer| is_state(config, layer));
            Ok(Some(if hybrid { 8 } else { 1 }.into()))
        }),
    ),
    replaced(
        "vocab_size",
        Fill::With(|config| {
            let (tokens, multiple) = (VOCAB.size(config)?, config.require(PADDING)?);
            Ok(Some(tokens.div_ceil(multiple).saturating_mul(multiple).into()))
        }),
    ),
];

/// Whether a layer is one of Mamba.
fn is_state(config: &Config, layer: u64) -> bool {
    !attends(config, layer)
}

fn attends(config: &Config, layer: u64) -> bool {
    let at = usize::try_from(layer).unwrap_or(usize::MAX);
    if let Some(types) = config.get("layer_types").and_then(Value::as_array) {
        let ty = types.get(at).and_then(Value::as_str);
        // As published, and as transformers has called it since.
        return matches!(ty, Some("attention" | "full_attention"));
    }
    let indices = config.get("attn_layer_indices").and_then(Value::as_array);
    if let Some(indices) = indices.filter(|indices| !indices.is_empty()) {
        return indices.iter().any(|index| index.as_u64() == Some(layer));
    }
    let number = |key: &str| config.whole(key).ok().flatten();
    match (number("attn_layer_period"), number("attn_layer_offset")) {
        (Some(period), Some(offset)) => layer.checked_rem(period) == Some(offset),
        _ => false,
    }
}

const MIXER: &[Rule] = mixer!("model.layers.{}.mamba", "mamba_d_conv", is_state);

const ATTENTION_HERE: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .parts(ROTARY_QUERY)
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .parts(ROTARY_KEY)
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .bias_if("attention_bias")
        .in_layers(attends),
];

const EXPERTS: &[Rule] = granitemoe::EXPERTS;

const SHARED: Dim = Dim::Key("shared_intermediate_size");
const TWICE: Dim = Dim::Product(&[Dim::Number(2), Dim::Key("shared_intermediate_size")]);

/// The part that every token goes through: beside experts, or in their place.
const SHARED_MLP: &[Rule] = &[
    Rule::split(
        "model.layers.{}.shared_mlp.input_linear",
        halves!(0, "blk.{}.ffn_gate_shexp", "blk.{}.ffn_up_shexp", SHARED),
        &[TWICE, HIDDEN],
    )
    .when(has_experts)
    .in_layers(shares),
    Rule::new(
        "model.layers.{}.shared_mlp.output_linear",
        "blk.{}.ffn_down_shexp",
        &[HIDDEN, SHARED],
    )
    .when(has_experts)
    .in_layers(shares),
    Rule::split(
        "model.layers.{}.shared_mlp.input_linear",
        halves!(0, "blk.{}.ffn_gate", "blk.{}.ffn_up", SHARED),
        &[TWICE, HIDDEN],
    )
    .when(has_no_experts)
    .in_layers(shares),
    Rule::new("model.layers.{}.shared_mlp.output_linear", "blk.{}.ffn_down", &[HIDDEN, SHARED])
        .when(has_no_experts)
        .in_layers(shares),
];

fn has_experts(config: &Config) -> Result<bool> {
    Ok(config.whole("num_local_experts")?.is_some_and(|count| count > 0))
}

fn has_no_experts(config: &Config) -> Result<bool> {
    has_experts(config).map(|has| !has)
}

fn has_no_shared_part(config: &Config) -> Result<bool> {
    Ok(config.whole("shared_intermediate_size")?.is_none_or(|width| width == 0))
}

fn shares(config: &Config, _: u64) -> bool {
    config.whole("shared_intermediate_size").ok().flatten().is_some_and(|width| width > 0)
}

const BAMBA_MLP: &[Rule] = &[
    Rule::new("model.layers.{}.feed_forward.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
        .when(has_no_shared_part),
    Rule::new("model.layers.{}.feed_forward.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
        .when(has_no_shared_part),
    Rule::new("model.layers.{}.feed_forward.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .when(has_no_shared_part),
];
