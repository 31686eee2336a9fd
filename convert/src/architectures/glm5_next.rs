//! GLM-5.3 Flash: Kimi's delta attention in most layers, latent attention without rotation to the tokens
//! that an indexer chooses in the others, several streams of states, layers that predict further tokens.

use serde_json::Value;

use super::{
    Architecture, BASE, Default, Fill, deepseek2,
    glm::ROLES,
    indexer, kda,
    layers::all_layers,
    nextn::{self, Further},
    parameters::{self, COMMON, Constant, FILE_TYPE, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{Config, Result, tokenizer::Kind};

pub(super) const GLM5_NEXT: Architecture = Architecture {
    name: "glm5-next",
    classes: &["Glm5NextForConditionalGeneration"],
    defaults: &[part("glm5_next_text", SIZES, &[GIVEN]), model("glm5_next", &[GIVEN])],
    parameters: &[
        COMMON,
        FILE_TYPE,
        &[
            kda::KEY_HEADS_BY_LAYER,
            parameters::required("vocab_size", &["vocab_size"]),
            Parameter::Constant("attention.layer_norm_epsilon", Constant::Number(1e-6)),
            nextn::IF_ANY,
        ],
        kda::SIZES,
        &[Parameter::With(bound)],
        kda::RANKS,
        &[kda::VALUE_LENGTH, kda::LATENT_LENGTHS],
        indexer::KEYS,
        &[
            parameters::required("attention.indexer.kpool", &["index_kpool"]),
            Parameter::Flag {
                key: "attention.indexer.kpool_select_tail",
                from: "index_kpool_always_select_tail",
                otherwise: Some(true),
            },
            Parameter::With(indexer::types),
            parameters::required("hyper_connection.count", &["hc_mult"]),
            parameters::required("hyper_connection.sinkhorn_iterations", &["hc_sinkhorn_iters"]),
            parameters::required_number("hyper_connection.epsilon", &["hc_eps"]),
            parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::required("expert_shared_count", &["n_shared_experts"]),
            parameters::required_number("expert_weights_scale", &["routed_scaling_factor"]),
            parameters::flag("expert_weights_norm", "norm_topk_prob"),
            Parameter::With(|config, keys| {
                if let Some(limit) = config.number("swiglu_limit")? {
                    let limits = (0..all_layers(config)?).map(|_| limit as f32);
                    let limits: Vec<f32> = limits.collect();
                    keys.set("swiglu_clamp_exp", limits.clone());
                    keys.set("swiglu_clamp_shexp", limits);
                }
                Ok(())
            }),
        ],
    ],
    tensors: &[
        deepseek2::ENDS,
        OUTPUT_NORM,
        NORMS,
        kda::ATTENTION,
        kda::CONVOLUTIONS,
        kda::STATE,
        kda::DECAY,
        kda::GATE,
        OWN,
        indexer::RULES_OF_ATTENTION,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
        nextn::NEXTN,
        nextn::OWN_ENDS,
    ],
    further: Further::Counted("num_nextn_predict_layers"),
    check,
    tokenizers: &[Kind::ByteLevel],
    special: ROLES,
    needs_output: true,
    ..BASE
};

const SIZES: &[Default] = &sizes([154_880, 4096, 12_288, 45, 64]);

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 1_048_576),
    number("rms_norm_eps", 1e-5),
    count("q_lora_rank", 1536),
    count("kv_lora_rank", 512),
    count("qk_nope_head_dim", 256),
    count("qk_rope_head_dim", 0),
    count("v_head_dim", 256),
    count("n_routed_experts", 288),
    count("n_group", 1),
    count("topk_group", 1),
    count("num_experts_per_tok", 8),
    count("n_shared_experts", 1),
    count("moe_intermediate_size", 2048),
    number("routed_scaling_factor", 2.5),
    number("swiglu_limit", 10.0),
    flag("norm_topk_prob", true),
    flag(deepseek2::HAS_CORRECTION, true),
    default("first_k_dense_replace", Fill::With(leading)),
    count("first_k_dense_replace", 3),
    count("index_n_heads", 32),
    count("index_head_dim", 128),
    count("index_topk", 2048),
    count("index_kpool", 16),
    count("hc_mult", 4),
    number("hc_eps", 1e-6),
    count("hc_sinkhorn_iters", 20),
];

/// Layers before the first with experts, where a list says which have them.
fn leading(config: &Config) -> Result<Option<Value>> {
    let types = config.get("mlp_layer_types").and_then(Value::as_array);
    let dense = |ty: &&Value| ty.as_str() == Some("dense");
    Ok(types.map(|types| types.iter().take_while(dense).count().into()))
}

const BOUND: &str = "linear_attn_config.gate_lower_bound";

/// Beneath which the decay of a state never falls, if there is such a bound.
pub(super) fn bound(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let Some(value) = config.get(BOUND) else { return Ok(()) };
    let number = value.as_f64().filter(|n| n.abs() <= f64::from(f32::MAX));
    let wrong = || config.wrong(BOUND, &crate::json::describe(value), "a number");
    keys.set_number("kda.gate_lower_bound", number.ok_or_else(wrong)?);
    Ok(())
}

fn check(config: &Config) -> Result<()> {
    if let Some(turned) = config.positive("qk_rope_head_dim").ok().flatten() {
        let expected = "0: llama.cpp's graph turns nothing";
        return Err(config.wrong("qk_rope_head_dim", &turned.to_string(), expected));
    }
    Ok(())
}

/// Streams of states, and what one is made of.
const STREAMS: Dim = Dim::Key("hc_mult");
const ALL_STREAMS: Dim = Dim::Product(&[STREAMS, HIDDEN]);
/// What a stream takes from each stream and from a part, and what it gives to that.
const MIXES: Dim = Dim::Product(&[STREAMS, Dim::Sum(&[TWO, STREAMS])]);
const THREE: Dim = Dim::Number(3);
const INDEX: Dim = Dim::Key("index_head_dim");

fn in_trunk(config: &Config, layer: u64) -> bool {
    !nextn::is_further(config, layer)
}

const OWN: &[Rule] = &[
    Rule::exact("model.layers.{}.self_attn.A_log", "blk.{}.ssm_a", &[HEADS])
        .negative_exp()
        .in_layers(kda::has_state),
    Rule::exact("model.layers.{}.hc_attn_fn", "blk.{}.hc_attn_fn.weight", &[MIXES, ALL_STREAMS])
        .in_layers(in_trunk),
    Rule::exact("model.layers.{}.hc_attn_base", "blk.{}.hc_attn_base.weight", &[MIXES])
        .in_layers(in_trunk),
    Rule::exact("model.layers.{}.hc_attn_scale", "blk.{}.hc_attn_scale.weight", &[THREE])
        .in_layers(in_trunk),
    Rule::exact("model.layers.{}.hc_ffn_fn", "blk.{}.hc_ffn_fn.weight", &[MIXES, ALL_STREAMS])
        .in_layers(in_trunk),
    Rule::exact("model.layers.{}.hc_ffn_base", "blk.{}.hc_ffn_base.weight", &[MIXES])
        .in_layers(in_trunk),
    Rule::exact("model.layers.{}.hc_ffn_scale", "blk.{}.hc_ffn_scale.weight", &[THREE])
        .in_layers(in_trunk),
    Rule::exact(
        "model.layers.{}.self_attn.indexer.index_kpool_compress_gate",
        "blk.{}.indexer_compressor_gate.weight",
        &[INDEX, HIDDEN],
    )
    .in_layers(indexer::indexes_where_it_attends),
    Rule::exact(
        "model.layers.{}.self_attn.indexer.index_kpool_compress_ape",
        "blk.{}.indexer_compressor_ape.weight",
        &[Dim::Key("index_kpool"), INDEX],
    )
    .in_layers(indexer::indexes_where_it_attends),
];
