//! Ling and Ring 3.0 (Bailing): Kimi's delta attention in most layers, gated latent attention in each
//! group's last, experts, layers that predict further tokens.

use serde_json::Value;

use crate::{Config, Result, tokenizer::Kind};

use super::{
    Architecture, BASE, Default, Fill, deepseek2, kda,
    names::split_numbers,
    nextn::{self, Further},
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};

pub(super) const BAILINGMOE3: Architecture = Architecture {
    name: "bailingmoe3",
    classes: &["BailingMoeV3ForCausalLM", "BailingMoeV3VLForConditionalGeneration"],
    defaults: &[model("bailing_hybrid", DEFAULTS), model("bailing_moe_v3", DEFAULTS)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[kda::KEY_HEADS_BY_LAYER, parameters::required("vocab_size", &["vocab_size"])],
        kda::SIZES,
        &[
            parameters::flag("kda.safe_gate", "kda_safe_gate"),
            Parameter::With(|config, keys| {
                let bound = config.get(BOUND).and_then(Value::as_f64).filter(|bound| *bound < 0.0);
                let bound = bound
                    .ok_or_else(|| config.missing(BOUND, "a negative number, such as -5.0"))?;
                keys.set_number("kda.gate_lower_bound", bound);
                Ok(())
            }),
        ],
        kda::RANKS,
        &[
            kda::LATENT_LENGTHS,
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            Parameter::Size("expert_shared_feed_forward_length", SHARED_WIDTH),
            parameters::required("expert_shared_count", &["num_shared_experts"]),
            parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
            parameters::required_number("expert_weights_scale", &["routed_scaling_factor"]),
            parameters::flag("expert_weights_norm", "norm_topk_prob"),
            Parameter::With(|config, keys| {
                limits(config, keys, "expert_swiglu_limit_list", "swiglu_clamp_exp")?;
                limits(config, keys, "share_expert_swiglu_limit_list", "swiglu_clamp_shexp")
            }),
            nextn::IF_ANY,
            Parameter::With(sections),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        kda::ATTENTION,
        kda::CONVOLUTIONS,
        kda::STATE,
        OWN,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
        nextn::NEXTN,
        &[Rule::new("model.layers.{}.final_layernorm", "blk.{}.layer_output_norm", &[HIDDEN])
            .in_layers(nextn::is_further)],
        &[Rule::left_out("linear_proj.{}", "they belong to another part than the text model")],
    ],
    rename,
    further: Further::Counted("num_nextn_predict_layers"),
    check,
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};

const DEFAULTS: &[&[Default]] = &[
    &[
        count("max_position_embeddings", 262_144),
        number("rms_norm_eps", 1e-6),
        number("rope_theta", 6_000_000.0),
        // Latent attention has one head of keys and values as far as the graph is concerned.
        replaced("num_key_value_heads", Fill::Whole(1)),
        count("head_dim", 128),
        count("short_conv_kernel_size", 4),
        count("layer_group_size", 6),
        count("kv_lora_rank", 512),
        count("qk_nope_head_dim", 128),
        count("qk_rope_head_dim", 64),
        count("v_head_dim", 128),
        count("num_experts_per_tok", 8),
        count("topk_group", 4),
        count("n_group", 8),
        number(BOUND, -5.0),
        count("num_shared_experts", 1),
        count("first_k_dense_replace", 2),
        count("moe_intermediate_size", 768),
        number("routed_scaling_factor", 2.5),
        flag("norm_topk_prob", true),
        flag("kda_safe_gate", true),
        flag(deepseek2::HAS_CORRECTION, true),
        default("n_routed_experts", Fill::Same("num_experts")),
        default("n_shared_experts", Fill::Same("num_shared_experts")),
    ],
    parameters::SIGMOID_SCORES,
];

const BOUND: &str = "kda_lower_bound";
const SHARED_WIDTH: Dim = Dim::KeyOr(
    "moe_shared_expert_intermediate_size",
    &Dim::Product(&[Dim::Key("moe_intermediate_size"), Dim::Key("num_shared_experts")]),
);

/// Of a model that sees images: how many rotary pairs each axis of a position turns.
fn sections(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    const SECTIONS: &str = "mrope_section";
    let Some(value) = config.get(SECTIONS) else { return Ok(()) };
    let pair = |value: &Value| value.as_u64().and_then(|pairs| i32::try_from(pairs).ok());
    let pairs = value
        .as_array()
        .and_then(|pairs| pairs.iter().take(3).map(pair).collect::<Option<Vec<_>>>());
    let turned = deepseek2::ROPE.size(config)?;
    let sum = |pairs: &Vec<i32>| pairs.iter().map(|n| i64::from(*n)).sum::<i64>();
    match pairs {
        Some(mut pairs) if pairs.len() == 3 && u64::try_from(sum(&pairs)) == Ok(turned / 2) => {
            pairs.push(0);
            keys.set("rope.dimension_sections", pairs);
            Ok(())
        }
        _ => {
            let expected = format!("three numbers that add up to {}", turned / 2);
            Err(config.wrong(SECTIONS, &crate::json::describe(value), &expected))
        }
    }
}

/// Older names, and one for each of the two gates that share a name.
fn rename(config: &Config, name: &str) -> Option<String> {
    let gate = if kda::attends(config, split_numbers(name).1) { "gate_proj" } else { "g_proj" };
    let renamed = name
        .replace("model.word_embeddings.", "model.embed_tokens.")
        .replace(".attention.", ".self_attn.")
        .replace(".self_attn.dense.", ".self_attn.o_proj.")
        .replace(".self_attn.g_proj.", &format!(".self_attn.{gate}."))
        .replace(".mlp.gate.expert_bias", ".mlp.gate.e_score_correction_bias");
    (renamed != name).then_some(renamed)
}

/// The graph is that of one variant of the layers.
fn check(config: &Config) -> Result<()> {
    for key in ["no_kda_lora", "kda_safe_gate"] {
        if config.get(key).is_some() && !config.flag(key)? {
            let expected = "true: llama.cpp has no graph for the other variant";
            return Err(config.wrong(key, "false", expected));
        }
    }
    const GRAIN: &str = "gated_attention_proj_granularity_type";
    match config.get(GRAIN) {
        None => Ok(()),
        Some(Value::String(grain)) if grain == "head_wise" => Ok(()),
        Some(other) => {
            let expected = "\"head_wise\": llama.cpp has no graph for another gate";
            Err(config.wrong(GRAIN, &crate::json::describe(other), expected))
        }
    }
}

const OWN: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.f_proj", "blk.{}.ssm_f_a", &[kda::OF_STATE, HIDDEN])
        .in_layers(kda::has_state),
    Rule::new("model.layers.{}.self_attn.g_proj", "blk.{}.ssm_g_a", &[kda::OF_STATE, HIDDEN])
        .in_layers(kda::has_state),
    Rule::new("model.layers.{}.self_attn.gate_proj", "blk.{}.attn_gate", &[HEADS, HIDDEN])
        .in_layers(kda::attends),
    Rule::exact("model.layers.{}.self_attn.A_log", "blk.{}.ssm_a", &[HEADS])
        .parts(&[&[Step::Unfold(0, &[HEADS])]])
        .exp()
        .in_layers(kda::has_state),
];
