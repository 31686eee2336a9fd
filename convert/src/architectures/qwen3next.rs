//! Qwen3-Next, Qwen 3.5 and 3.6: gated delta nets in most layers, attention with a gate in the
//! others, and layers that predict further tokens.

use crate::{Config, Result};

use super::{
    Architecture, BASE, Default, Fill, ModelDefaults,
    nextn::{self, Further},
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    qwen2moe, qwen3moe, rope,
    shared::*,
    tensors::{Dim, Rule, Step, Target},
};

pub(super) const QWEN3NEXT: Architecture = Architecture {
    name: "qwen3next",
    classes: &["Qwen3NextForCausalLM"],
    defaults: &[model(
        "qwen3_next",
        &[
            &[
                count("intermediate_size", 5632),
                count("moe_intermediate_size", 512),
                count("num_experts_per_tok", 10),
                count("num_experts", 512),
            ],
            GIVEN,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        qwen3moe::WIDTH,
        qwen2moe::SHARED_WIDTH,
        &[nextn::IF_ANY],
        LINEAR,
    ],
    tensors: &[
        EMBEDDING,
        SHIFTED_NORMS,
        GATED_ATTENTION,
        MIXED_BY_HEAD,
        DELTA_NET,
        EXPERTS,
        qwen2moe::SHARED,
        nextn::QWEN_NEXTN,
    ],
    rename: nextn::qwen,
    further: Further::CountedOrNamed("mtp_num_hidden_layers"),
    check,
    ..BASE
};

pub(super) const QWEN35: Architecture = Architecture {
    name: "qwen35",
    classes: &[
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5ForCausalLM",
        "MiniCPMV4_6ForConditionalGeneration",
    ],
    defaults: &[part("qwen3_5_text", SIZES, DEFAULTS), model("qwen3_5", DEFAULTS)],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, &[nextn::IF_ANY], LINEAR, SECTIONS],
    tensors: &[
        EMBEDDING,
        SHIFTED_NORMS,
        GATED_ATTENTION,
        APART,
        DELTA_NET,
        GATED_MLP,
        nextn::QWEN_NEXTN,
    ],
    ..QWEN3NEXT
};

pub(super) const QWEN35MOE: Architecture = Architecture {
    name: "qwen35moe",
    classes: &["Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"],
    defaults: MOE_DEFAULTS,
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        qwen3moe::WIDTH,
        qwen2moe::SHARED_WIDTH,
        &[nextn::IF_ANY],
        LINEAR,
        SECTIONS,
    ],
    tensors: &[
        EMBEDDING,
        SHIFTED_NORMS,
        GATED_ATTENTION,
        APART,
        DELTA_NET,
        EXPERTS,
        qwen2moe::SHARED,
        nextn::QWEN_NEXTN,
    ],
    ..QWEN3NEXT
};

const SIZES: &[Default] = &sizes([248_320, 4096, 12_288, 32, 16]);
const MOE_SIZES: &[Default] = &[
    count("vocab_size", 248_320),
    count("hidden_size", 2048),
    count("num_hidden_layers", 40),
    count("num_attention_heads", 16),
    count("num_key_value_heads", 2),
    count("moe_intermediate_size", 512),
];
const DEFAULTS: &[&[Default]] = &[&[count("num_key_value_heads", 4)], GIVEN];
const MOE_DEFAULTS: &[ModelDefaults] =
    &[part("qwen3_5_moe_text", MOE_SIZES, MOE_GIVEN), model("qwen3_5_moe", MOE_GIVEN)];
const MOE_GIVEN: &[&[Default]] = &[
    &[
        count("moe_intermediate_size", 512),
        count("num_experts_per_tok", 8),
        default("num_experts", Fill::Given("num_local_experts")),
        count("num_experts", 256),
    ],
    GIVEN,
];

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 32_768),
    number("rms_norm_eps", 1e-6),
    number("rope_theta", 10_000.0),
    count("num_key_value_heads", 2),
    count("head_dim", 256),
    count("linear_conv_kernel_dim", 4),
    count("linear_key_head_dim", 128),
    count("linear_value_head_dim", 128),
    count("linear_num_key_heads", 16),
    count("linear_num_value_heads", 32),
    count("shared_expert_intermediate_size", 512),
];

const KEY_HEADS: Dim = Dim::Key("linear_num_key_heads");
const VALUE_HEADS: Dim = Dim::Key("linear_num_value_heads");
const KEY_SIZE: Dim = Dim::Key("linear_key_head_dim");
const VALUE_SIZE: Dim = Dim::Key("linear_value_head_dim");
const OF_KEY_HEAD: Dim = Dim::Derived("value heads of a key head", |config| {
    config.quotient("linear_num_value_heads", "linear_num_key_heads")
});
const KEYS_TWICE: Dim = Dim::Product(&[
    Dim::Number(2),
    Dim::Key("linear_num_key_heads"),
    Dim::Key("linear_key_head_dim"),
]);
const LINEAR_VALUES: Dim =
    Dim::Product(&[Dim::Key("linear_num_value_heads"), Dim::Key("linear_value_head_dim")]);
const VALUES_OF_KEY_HEAD: Dim = Dim::Product(&[OF_KEY_HEAD, VALUE_SIZE]);
const MIXED: Dim = Dim::Sum(&[KEYS_TWICE, LINEAR_VALUES]);
const TWO_KEYS: Dim = Dim::Product(&[TWO, KEY_SIZE]);
const KERNEL: Dim = Dim::Key("linear_conv_kernel_dim");
const ONE: Dim = Dim::Number(1);

fn check(config: &Config) -> Result<()> {
    check_heads(config)?;
    config.quotient("linear_num_value_heads", "linear_num_key_heads").map(|_| ())
}

/// Whether a layer has a delta net: as `layer_types` says, or all but each fourth.
pub(super) fn is_linear(config: &Config, layer: u64) -> bool {
    if nextn::is_further(config, layer) {
        return false;
    }
    let index = usize::try_from(layer).unwrap_or(usize::MAX);
    match config.get("layer_types").and_then(|types| types.as_array()) {
        Some(types) => types.get(index).and_then(|ty| ty.as_str()) == Some("linear_attention"),
        None => !(layer + 1).is_multiple_of(interval(config)),
    }
}

fn attends(config: &Config, layer: u64) -> bool {
    !is_linear(config, layer)
}

fn interval(config: &Config) -> u64 {
    config.positive("full_attention_interval").ok().flatten().unwrap_or(4)
}

/// What the delta nets have as keys, and how much of a head turns.
const LINEAR: &[Parameter] = &[
    parameters::required("ssm.conv_kernel", &["linear_conv_kernel_dim"]),
    parameters::required("ssm.state_size", &["linear_key_head_dim"]),
    parameters::required("ssm.group_count", &["linear_num_key_heads"]),
    parameters::required("ssm.time_step_rank", &["linear_num_value_heads"]),
    Parameter::With(|config, keys| {
        keys.set_count("ssm.inner_size", LINEAR_VALUES.size(config)?);
        if let Some(types) = config.get("layer_types").and_then(|types| types.as_array()) {
            let layers = super::tensors::layers(config)?;
            if types.len() as u64 != layers {
                let found = format!("a list of {}", types.len());
                let expected = format!("{layers} entries, one for each layer");
                return Err(config.wrong("layer_types", &found, &expected));
            }
            let all = super::tensors::all_layers(config)?;
            let recurrent: Vec<bool> = (0..all).map(|layer| is_linear(config, layer)).collect();
            keys.set("attention.recurrent_layers", recurrent);
        }
        keys.set_count("full_attention_interval", interval(config));
        let share = rope::Rope::read(config)?.partial()?.unwrap_or(0.25);
        keys.set_count("rope.dimension_count", (HEAD.size(config)? as f64 * share) as u64);
        Ok(())
    }),
];

/// Positions have several axes, whether config.json says so or not.
const SECTIONS: &[Parameter] = &[Parameter::With(sections)];

fn sections(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    if rope::Rope::read(config)?.sections()?.is_none() {
        keys.set("rope.dimension_sections", vec![11i32, 11, 10, 0]);
    }
    Ok(())
}

const SHIFTED_NORMS: &[Rule] = &[
    Rule::new("model.norm", "output_norm", &[HIDDEN]).plus_one(),
    Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).plus_one(),
    Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm", &[HIDDEN])
        .plus_one(),
];

/// Attention whose queries come with a gate each.
const GATED_ATTENTION: &[Rule] = &[
    Rule::new(
        "model.layers.{}.self_attn.q_proj",
        "blk.{}.attn_q",
        &[
            Dim::Product(&[Dim::Number(2), Dim::Key("num_attention_heads"), Dim::Key("head_dim")]),
            HIDDEN,
        ],
    )
    .bias_if("attention_bias")
    .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .bias_if("attention_bias")
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", &[HEAD])
        .plus_one()
        .in_layers(attends),
    Rule::new("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", &[HEAD])
        .plus_one()
        .in_layers(attends),
];

/// Qwen3-Next has the rows of queries, keys, values and gates head by head.
const MIXED_BY_HEAD: &[Rule] = &[
    Rule::split(
        "model.layers.{}.linear_attn.in_proj_qkvz",
        &[
            Target {
                name: "blk.{}.attn_qkv",
                parts: &[
                    &[BY_KEY_HEAD, Step::Narrow { axis: 1, from: None, len: KEY_SIZE }, FOLD],
                    &[
                        BY_KEY_HEAD,
                        Step::Narrow { axis: 1, from: Some(KEY_SIZE), len: KEY_SIZE },
                        FOLD,
                    ],
                    &[
                        BY_KEY_HEAD,
                        Step::Narrow { axis: 1, from: Some(TWO_KEYS), len: VALUES_OF_KEY_HEAD },
                        FOLD,
                    ],
                ],
            },
            Target {
                name: "blk.{}.attn_gate",
                parts: &[&[
                    BY_KEY_HEAD,
                    Step::Narrow {
                        axis: 1,
                        from: Some(Dim::Sum(&[TWO_KEYS, VALUES_OF_KEY_HEAD])),
                        len: VALUES_OF_KEY_HEAD,
                    },
                    FOLD,
                ]],
            },
        ],
        &[Dim::Sum(&[KEYS_TWICE, LINEAR_VALUES, LINEAR_VALUES]), HIDDEN],
    )
    .in_layers(is_linear),
    Rule::new(
        "model.layers.{}.linear_attn.in_proj_ba",
        "blk.{}.ssm_ba",
        &[Dim::Product(&[Dim::Number(2), Dim::Key("linear_num_value_heads")]), HIDDEN],
    )
    .in_layers(is_linear),
    Rule::new("model.layers.{}.linear_attn.conv1d", "blk.{}.ssm_conv1d", &[MIXED, ONE, KERNEL])
        .parts(&[&[Step::Fold(1, 2)]])
        .in_layers(is_linear),
    Rule::exact("model.layers.{}.linear_attn.A_log", "blk.{}.ssm_a", &[VALUE_HEADS])
        .negative_exp()
        .in_layers(is_linear),
    Rule::exact("model.layers.{}.linear_attn.dt_bias", "blk.{}.ssm_dt.bias", &[VALUE_HEADS])
        .in_layers(is_linear),
    Rule::new("model.layers.{}.linear_attn.out_proj", "blk.{}.ssm_out", &[HIDDEN, LINEAR_VALUES])
        .in_layers(is_linear),
];

const BY_KEY_HEAD: Step = Step::Unfold(0, &[KEY_HEADS]);
const FOLD: Step = Step::Fold(0, 2);

/// Value heads of each key head lie together; ggml's broadcast wants the first of each key head,
/// then the second of each.
const BY_TURNS: Step = Step::Unfold(0, &[KEY_HEADS, OF_KEY_HEAD]);
const TURN: Step = Step::Swap(0, 1);

const APART: &[Rule] = &[
    Rule::new("model.layers.{}.linear_attn.in_proj_qkv", "blk.{}.attn_qkv", &[MIXED, HIDDEN])
        .parts(&[
            &[Step::Narrow { axis: 0, from: None, len: KEYS_TWICE }],
            &[
                Step::Narrow { axis: 0, from: Some(KEYS_TWICE), len: LINEAR_VALUES },
                BY_TURNS,
                TURN,
                Step::Fold(0, 3),
            ],
        ])
        .in_layers(is_linear),
    Rule::new(
        "model.layers.{}.linear_attn.in_proj_z",
        "blk.{}.attn_gate",
        &[LINEAR_VALUES, HIDDEN],
    )
    .parts(&[&[BY_TURNS, TURN, Step::Fold(0, 3)]])
    .in_layers(is_linear),
    Rule::new("model.layers.{}.linear_attn.in_proj_b", "blk.{}.ssm_beta", &[VALUE_HEADS, HIDDEN])
        .parts(&[&[BY_TURNS, TURN, Step::Fold(0, 3)]])
        .in_layers(is_linear),
    Rule::new("model.layers.{}.linear_attn.in_proj_a", "blk.{}.ssm_alpha", &[VALUE_HEADS, HIDDEN])
        .parts(&[&[BY_TURNS, TURN, Step::Fold(0, 3)]])
        .in_layers(is_linear),
    Rule::new("model.layers.{}.linear_attn.conv1d", "blk.{}.ssm_conv1d", &[MIXED, ONE, KERNEL])
        .parts(&[
            &[Step::Narrow { axis: 0, from: None, len: KEYS_TWICE }, Step::Fold(1, 2)],
            &[
                Step::Narrow { axis: 0, from: Some(KEYS_TWICE), len: LINEAR_VALUES },
                BY_TURNS,
                TURN,
                Step::Fold(0, 3),
                Step::Fold(1, 2),
            ],
        ])
        .in_layers(is_linear),
    Rule::exact("model.layers.{}.linear_attn.A_log", "blk.{}.ssm_a", &[VALUE_HEADS])
        .parts(&[&[BY_TURNS, TURN, Step::Fold(0, 3)]])
        .negative_exp()
        .in_layers(is_linear),
    Rule::exact("model.layers.{}.linear_attn.dt_bias", "blk.{}.ssm_dt.bias", &[VALUE_HEADS])
        .parts(&[&[BY_TURNS, TURN, Step::Fold(0, 3)]])
        .in_layers(is_linear),
    Rule::new("model.layers.{}.linear_attn.out_proj", "blk.{}.ssm_out", &[HIDDEN, LINEAR_VALUES])
        .parts(&[&[Step::Unfold(1, &[KEY_HEADS, OF_KEY_HEAD]), Step::Swap(1, 2), Step::Fold(1, 3)]])
        .in_layers(is_linear),
];

const DELTA_NET: &[Rule] =
    &[Rule::new("model.layers.{}.linear_attn.norm", "blk.{}.ssm_norm", &[VALUE_SIZE])
        .in_layers(is_linear)];
