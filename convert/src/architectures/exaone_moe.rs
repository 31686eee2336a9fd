//! K-EXAONE: EXAONE 4's attention with norms before each part, and experts.

use super::{
    Architecture, Default, exaone4,
    nextn::{self, Further},
    parameters::{self, Constant, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::Config;

pub(super) const EXAONE_MOE: Architecture = Architecture {
    name: "exaone-moe",
    classes: &["ExaoneMoEForCausalLM", "ExaoneMoeForCausalLM"],
    defaults: &[model("exaone_moe", &[GIVEN, parameters::SIGMOID_SCORES, THETA, SAME_HEADS])],
    parameters: &[
        parameters::COMMON,
        parameters::KEY_LENGTHS,
        parameters::FILE_TYPE,
        exaone4::WINDOW,
        &[
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::whole("expert_shared_count", &["num_shared_experts"]),
            Parameter::With(|config, keys| {
                let shared = config.whole("num_shared_experts")?.unwrap_or(0);
                let width = config.require("moe_intermediate_size")?;
                keys.set_count("expert_shared_feed_forward_length", width.saturating_mul(shared));
                Ok(())
            }),
            parameters::required_number("expert_weights_scale", &["routed_scaling_factor"]),
            parameters::flag("expert_weights_norm", "norm_topk_prob"),
            parameters::whole(
                "leading_dense_block_count",
                &["first_k_dense_replace", "first_last_k_dense_replace"],
            ),
            Parameter::With(|config, keys| {
                keys.set_count("nextn_predict_layers", nextn::number(config));
                Ok(())
            }),
            Parameter::Constant("rope.scaling.type", Constant::Text("none")),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        HEAD_NORMS,
        &[
            Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
                .in_layers(dense),
            Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
                .in_layers(dense),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
                .in_layers(dense),
            Rule::new("model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
                .in_layers(sparse),
            Rule::exact(
                "model.layers.{}.mlp.gate.e_score_correction_bias",
                "blk.{}.exp_probs_b.bias",
                &[COUNT],
            )
            .optional()
            .in_layers(sparse)
            .any_of(),
            Rule::exact(
                "model.layers.{}.mlp.e_score_correction_bias",
                "blk.{}.exp_probs_b.bias",
                &[COUNT],
            )
            .in_layers(sparse)
            .any_of(),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.down_proj",
                "blk.{}.ffn_down_exps",
                &[HIDDEN, WIDTH],
            )
            .stacked("num_experts")
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.gate_proj",
                "blk.{}.ffn_gate_exps",
                &[WIDTH, HIDDEN],
            )
            .stacked("num_experts")
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.up_proj",
                "blk.{}.ffn_up_exps",
                &[WIDTH, HIDDEN],
            )
            .stacked("num_experts")
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.shared_experts.gate_proj",
                "blk.{}.ffn_gate_shexp",
                &[SHARED, HIDDEN],
            )
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.shared_experts.up_proj",
                "blk.{}.ffn_up_shexp",
                &[SHARED, HIDDEN],
            )
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.shared_experts.down_proj",
                "blk.{}.ffn_down_shexp",
                &[HIDDEN, SHARED],
            )
            .in_layers(sparse),
        ],
        nextn::NEXTN,
        nextn::OWN_ENDS,
    ],
    rename: nextn::qwen,
    further: Further::Counted("num_nextn_predict_layers"),
    ..exaone4::EXAONE4
};

/// EXAONE 4.5, its text model: EXAONE 4 with layers that predict further tokens.
pub(super) const EXAONE4_5: Architecture = Architecture {
    classes: &["Exaone4_5_ForConditionalGeneration"],
    parameters: &[
        parameters::COMMON,
        parameters::KEY_LENGTHS,
        parameters::FILE_TYPE,
        exaone4::WINDOW,
        &[nextn::IF_ANY],
    ],
    tensors: &[
        exaone4::TENSORS[0],
        exaone4::TENSORS[1],
        exaone4::TENSORS[2],
        exaone4::TENSORS[3],
        exaone4::TENSORS[4],
        exaone4::TENSORS[5],
        nextn::NEXTN,
    ],
    rename: nextn::qwen,
    further: Further::Counted("num_nextn_predict_layers"),
    ..exaone4::EXAONE4
};

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 2048),
    number("rms_norm_eps", 1e-5),
    count("sliding_window", 4096),
    count("moe_intermediate_size", 1024),
    count("num_experts", 64),
    count("num_experts_per_tok", 8),
    count("num_shared_experts", 1),
    count("n_group", 1),
    count("topk_group", 1),
    count("first_k_dense_replace", 1),
    number("routed_scaling_factor", 2.5),
    flag("norm_topk_prob", true),
];
const COUNT: Dim = Dim::Key("num_experts");
const WIDTH: Dim = Dim::Key("moe_intermediate_size");
const SHARED: Dim =
    Dim::Product(&[Dim::Key("moe_intermediate_size"), Dim::Key("num_shared_experts")]);

fn dense(config: &Config, layer: u64) -> bool {
    let leading = config
        .whole("first_k_dense_replace")
        .ok()
        .flatten()
        .or(config.whole("first_last_k_dense_replace").ok().flatten())
        .unwrap_or(0);
    layer < leading || nextn::is_further(config, layer)
}

fn sparse(config: &Config, layer: u64) -> bool {
    !dense(config, layer)
}
