//! GLM-4 and its vision models, and the GLMs with DeepSeek's attention: GLM-4.7-Flash and GLM-5.

use serde_json::Value;

use crate::{Config, Result, tokenizer::Adjustment};

use super::{
    Architecture, BASE, Default, deepseek2, indexer,
    nextn::{self, Further},
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    rope,
    shared::*,
    tensors::{Dim, Rule, Step},
};

pub(super) const GLM4: Architecture = Architecture {
    name: "glm4",
    classes: &[
        "Glm4ForCausalLM",
        "Glm4vForConditionalGeneration",
        "GlmOcrForConditionalGeneration",
    ],
    defaults: &[
        part("glm4", SIZES, GLM4_DEFAULTS),
        part("glm4v_text", SIZES, GLM4V_DEFAULTS),
        part("glm_ocr_text", OCR_SIZES, GLM_OCR_DEFAULTS),
    ],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[HALF_ROTATED, Parameter::With(nextn::if_given)],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        &[
            Rule::new(
                "model.layers.{}.post_self_attn_layernorm",
                "blk.{}.post_attention_norm",
                &[HIDDEN],
            ),
            Rule::new("model.layers.{}.post_mlp_layernorm", "blk.{}.post_ffw_norm", &[HIDDEN]),
        ],
        TURNED,
        FUSED_MLP,
        nextn::NEXTN,
        nextn::OWN_ENDS,
    ],
    further: Further::Counted("num_nextn_predict_layers"),
    check: check_heads,
    special: &[Adjustment::Roles(&[
        ("eos", "<|endoftext|>"),
        ("eot", "<|user|>"),
        ("unk", "<|endoftext|>"),
        ("bos", "<|endoftext|>"),
    ])],
    ..BASE
};

/// GLM-4.7-Flash: DeepSeek's graph.
pub(super) const GLM4_MOE_LITE: Architecture = Architecture {
    classes: &["Glm4MoeLiteForCausalLM"],
    defaults: &[model("glm4_moe_lite", LITE)],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, deepseek2::OWN, &[nextn::IF_ANY]],
    tensors: &[
        deepseek2::ENDS,
        OUTPUT_NORM,
        NORMS,
        deepseek2::WHOLE_QUERIES,
        deepseek2::LATENT_ATTENTION,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
        nextn::NEXTN,
        nextn::OWN_ENDS,
    ],
    further: Further::Counted("num_nextn_predict_layers"),
    beyond: None,
    special: ROLES,
    ..deepseek2::DEEPSEEK2
};

/// GLM-5: DeepSeek's attention, to tokens that an indexer chooses.
pub(super) const GLM_DSA: Architecture = Architecture {
    name: "glm-dsa",
    classes: &["GlmMoeDsaForCausalLM"],
    defaults: &[model("glm_moe_dsa", DSA)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        deepseek2::OWN,
        &[
            Parameter::With(|config, keys| {
                let share = rope::Rope::read(config)?.partial()?.unwrap_or(1.0);
                let turned = deepseek2::ROPE.size(config)? as f64 * share;
                keys.set_count("rope.dimension_count", turned as u64);
                Ok(())
            }),
            Parameter::With(nextn::if_given),
        ],
        indexer::KEYS,
        &[Parameter::With(|config, keys| {
            if let Some(types) = config.get("indexer_types").and_then(Value::as_array) {
                let full: Vec<bool> = types.iter().map(|ty| ty.as_str() == Some("full")).collect();
                keys.set("attention.indexer.types", full);
            }
            Ok(())
        })],
    ],
    tensors: &[
        deepseek2::ENDS,
        OUTPUT_NORM,
        NORMS,
        deepseek2::LATENT_ATTENTION,
        indexer::RULES,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
        nextn::NEXTN,
        nextn::OWN_ENDS,
    ],
    ..GLM4_MOE_LITE
};

/// DeepSeek V3.2: as GLM-5, whose attention it was first.
pub(super) const DEEPSEEK32: Architecture = Architecture {
    name: "deepseek32",
    classes: &["DeepseekV32ForCausalLM"],
    defaults: &[model("deepseek_v32", V32)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        deepseek2::OWN,
        &[Parameter::With(nextn::if_given)],
        indexer::KEYS,
    ],
    special: &[],
    ..GLM_DSA
};

pub(super) const SIZES: &[Default] = &sizes([151_552, 4096, 13_696, 40, 32]);
const OCR_SIZES: &[Default] = &sizes([59_392, 1024, 4096, 16, 16]);
const GLM4_DEFAULTS: &[&[Default]] = &[GLM4_GIVEN];

const GLM4V_DEFAULTS: &[&[Default]] =
    &[&[count("max_position_embeddings", 32_768)], VISION_GIVEN, GLM4_GIVEN];

const GLM_OCR_DEFAULTS: &[&[Default]] =
    &[&[count("num_key_value_heads", 8)], VISION_GIVEN, GLM4_GIVEN];

const VISION_GIVEN: &[Default] = &[number("rms_norm_eps", 1e-5)];

const GLM4_GIVEN: &[Default] = &[
    count("max_position_embeddings", 131_072),
    number("rms_norm_eps", 1.562_5e-7),
    number("rope_theta", 10_000.0),
    number("partial_rotary_factor", 0.5),
    count("num_key_value_heads", 2),
];

const EXPERTS_GIVEN: &[Default] = &[
    count("n_shared_experts", 1),
    flag("norm_topk_prob", true),
    flag(deepseek2::HAS_CORRECTION, true),
];

const LITE: &[&[Default]] = &[
    EXPERTS_GIVEN,
    parameters::SIGMOID_SCORES,
    &[
        count("max_position_embeddings", 202_752),
        number("rms_norm_eps", 1e-5),
        count("q_lora_rank", 768),
        count("qk_nope_head_dim", 192),
        count("v_head_dim", 256),
        count("n_routed_experts", 64),
        count("num_experts_per_tok", 4),
        number("routed_scaling_factor", 1.8),
        count("moe_intermediate_size", 1536),
        count("first_k_dense_replace", 1),
        count("n_group", 1),
        count("topk_group", 1),
    ],
    deepseek2::GIVEN,
];

const DSA: &[&[Default]] = &[
    EXPERTS_GIVEN,
    &[
        count("max_position_embeddings", 202_752),
        number("rms_norm_eps", 1e-5),
        count("q_lora_rank", 2048),
        count("qk_nope_head_dim", 192),
        count("v_head_dim", 256),
        count("n_routed_experts", 256),
        count("num_experts_per_tok", 8),
        number("routed_scaling_factor", 2.5),
        count("moe_intermediate_size", 2048),
        count("first_k_dense_replace", 3),
        count("n_group", 1),
        count("topk_group", 1),
        count("index_n_heads", 32),
        count("index_head_dim", 128),
        count("index_topk", 2048),
    ],
    deepseek2::GIVEN,
];

const V32: &[&[Default]] = &[
    EXPERTS_GIVEN,
    parameters::SIGMOID_SCORES,
    &[
        count("max_position_embeddings", 163_840),
        count("q_lora_rank", 1536),
        count("n_routed_experts", 256),
        count("num_experts_per_tok", 8),
        number("routed_scaling_factor", 2.5),
        count("moe_intermediate_size", 2048),
        count("first_k_dense_replace", 3),
        count("n_group", 8),
        count("topk_group", 4),
        count("index_n_heads", 64),
        count("index_head_dim", 128),
        count("index_topk", 2048),
    ],
    deepseek2::GIVEN,
];

/// How GLM's tokenizer ends a turn and calls tools.
pub(super) const ROLES: &[Adjustment] = &[Adjustment::Roles(&[
    ("bos", "[gMASK]"),
    ("eot", "<|user|>"),
    ("unk", "<|endoftext|>"),
    ("eom", "<|observation|>"),
])];

/// Half of a head turns unless config.json says otherwise.
pub(super) const HALF_ROTATED: Parameter = Parameter::With(|config, keys| {
    let share = rope::Rope::read(config)?.partial()?.unwrap_or(0.5);
    keys.set_count("rope.dimension_count", (HEAD.size(config)? as f64 * share) as u64);
    Ok(())
});

/// The values of a head that turn and those that do not, where positions have several axes: ggml then
/// turns halves of a head, not neighbours.
fn turns(config: &Config) -> Result<Option<(u64, u64)>> {
    let rope = rope::Rope::read(config)?;
    if rope.sections()?.is_none() {
        return Ok(None);
    }
    let head = HEAD.size(config)?;
    let turned = (head as f64 * rope.partial()?.unwrap_or(0.5)) as u64;
    if turned % 2 == 1 || turned > head {
        let expected = "a share of a head that is a whole number of pairs";
        let shown = rope.shown("partial_rotary_factor");
        return Err(config.wrong(&shown, &format!("{turned} of {head} values"), expected));
    }
    Ok(Some((turned, head - turned)))
}

fn a_part_turns(config: &Config) -> Result<bool> {
    Ok(turns(config)?.is_some_and(|(_, still)| still > 0))
}

fn all_of_it_turns(config: &Config) -> Result<bool> {
    Ok(turns(config)?.is_some_and(|(_, still)| still == 0))
}

fn turns_as_stored(config: &Config) -> Result<bool> {
    Ok(turns(config)?.is_none())
}

const TURNED_VALUES: Dim = Dim::Derived("values of a head that turn", |config| {
    Ok(turns(config)?.map_or(0, |(turned, _)| turned))
});
const STILL_VALUES: Dim = Dim::Derived("values of a head that do not turn", |config| {
    Ok(turns(config)?.map_or(0, |(_, still)| still))
});
const HALVES: &[&[Step]] = &[
    &[Step::Narrow { axis: 0, from: None, len: TURNED_VALUES }, Step::EverySecond(0, 0)],
    &[Step::Narrow { axis: 0, from: None, len: TURNED_VALUES }, Step::EverySecond(0, 1)],
    &[Step::Narrow { axis: 0, from: Some(TURNED_VALUES), len: STILL_VALUES }],
];
const WHOLE: &[&[Step]] = &[&[Step::EverySecond(0, 0)], &[Step::EverySecond(0, 1)]];

const TURNED: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .by_head(HEADS, HALVES)
        .maybe_bias()
        .when(a_part_turns),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .by_head(KEY_HEADS, HALVES)
        .maybe_bias()
        .when(a_part_turns),
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .by_head(HEADS, WHOLE)
        .maybe_bias()
        .when(all_of_it_turns),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .by_head(KEY_HEADS, WHOLE)
        .maybe_bias()
        .when(all_of_it_turns),
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .bias_if("attention_bias")
        .when(turns_as_stored),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias")
        .when(turns_as_stored),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias"),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY]),
];

/// Gate and up stay one matrix.
pub(super) const FUSED_MLP: &[Rule] = &[
    Rule::new(
        "model.layers.{}.mlp.gate_up_proj",
        "blk.{}.ffn_up",
        &[Dim::Product(&[Dim::Number(2), Dim::Key("intermediate_size")]), HIDDEN],
    ),
    Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD]),
];
