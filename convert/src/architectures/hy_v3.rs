//! Hy3: HunYuan's mixture of 2026, with norms of queries and keys and layers that predict further
//! tokens.

use super::{
    Architecture, BASE, Default,
    nextn::{self, Further},
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{Config, tokenizer::Kind};

pub(super) const HY_V3: Architecture = Architecture {
    name: "hy_v3",
    classes: &["HYV3ForCausalLM"],
    defaults: &[model("hy_v3", &[GIVEN, SAME_HEADS])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            Parameter::With(|config, keys| {
                keys.set_count("expert_shared_feed_forward_length", SHARED.size(config)?);
                Ok(())
            }),
            Parameter::Flag {
                key: "expert_weights_norm",
                from: "route_norm",
                otherwise: Some(true),
            },
            parameters::required_number("expert_weights_scale", &["router_scaling_factor"]),
            Parameter::Constant("expert_gating_func", Constant::Count(2)),
            nextn::IF_ANY,
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        HEAD_NORMS,
        MLP,
        nextn::NEXTN,
        nextn::OWN_ENDS,
    ],
    endings: &[(".final_layernorm.weight", ".shared_head.norm.weight")],
    further: Further::Counted("num_nextn_predict_layers"),
    check: check_heads,
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 131_072),
    number("rms_norm_eps", 1e-5),
    number("rope_theta", 11_158_840.0),
    count("moe_intermediate_size", 1536),
    count("num_experts", 192),
    count("num_experts_per_tok", 8),
    count("num_shared_experts", 1),
    count("first_k_dense_replace", 1),
    number("router_scaling_factor", 2.826),
];
const WIDTH: Dim = Dim::Key("moe_intermediate_size");
const SHARED: Dim =
    Dim::Product(&[Dim::Key("moe_intermediate_size"), Dim::Key("num_shared_experts")]);
const COUNT: Dim = Dim::Key("num_experts");

fn sparse(config: &Config, layer: u64) -> bool {
    let types = config.get("mlp_layer_types").and_then(|types| types.as_array());
    let at = usize::try_from(layer).unwrap_or(usize::MAX);
    match types.and_then(|types| types.get(at)?.as_str()) {
        Some(ty) => ty == "sparse",
        None => layer >= config.whole("first_k_dense_replace").ok().flatten().unwrap_or(0),
    }
}

fn dense(config: &Config, layer: u64) -> bool {
    !sparse(config, layer)
}

const MLP: &[Rule] = &[
    Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .in_layers(dense),
    Rule::new("model.layers.{}.mlp.router.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .in_layers(sparse),
    Rule::exact("model.layers.{}.mlp.expert_bias", "blk.{}.exp_probs_b", &[COUNT])
        .in_layers(sparse),
    Rule::new("model.layers.{}.mlp.experts.{}.down_proj", "blk.{}.ffn_down_exps", &[HIDDEN, WIDTH])
        .stacked("num_experts")
        .in_layers(sparse),
    Rule::new("model.layers.{}.mlp.experts.{}.gate_proj", "blk.{}.ffn_gate_exps", &[WIDTH, HIDDEN])
        .stacked("num_experts")
        .in_layers(sparse),
    Rule::new("model.layers.{}.mlp.experts.{}.up_proj", "blk.{}.ffn_up_exps", &[WIDTH, HIDDEN])
        .stacked("num_experts")
        .in_layers(sparse),
    Rule::new(
        "model.layers.{}.mlp.shared_mlp.gate_proj",
        "blk.{}.ffn_gate_shexp",
        &[SHARED, HIDDEN],
    )
    .in_layers(sparse),
    Rule::new("model.layers.{}.mlp.shared_mlp.up_proj", "blk.{}.ffn_up_shexp", &[SHARED, HIDDEN])
        .in_layers(sparse),
    Rule::new(
        "model.layers.{}.mlp.shared_mlp.down_proj",
        "blk.{}.ffn_down_shexp",
        &[HIDDEN, SHARED],
    )
    .in_layers(sparse),
];
