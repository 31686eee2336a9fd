//! OLMoE: experts, and norms of all queries and keys.

use super::{
    Architecture, BASE,
    parameters::{COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const OLMOE: Architecture = Architecture {
    name: "olmoe",
    classes: &["OlmoeForCausalLM"],
    defaults: &[model(
        "olmoe",
        &[
            &[
                count("max_position_embeddings", 4096),
                number("rms_norm_eps", 1e-5),
                default("num_experts", super::Fill::Given("num_local_experts")),
                count("num_experts", 64),
                count("num_experts_per_tok", 8),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        // Whatever config.json says, as the reference converter has it.
        &[Parameter::Constant("attention.layer_norm_rms_epsilon", Constant::Number(1e-5))],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        WIDE_NORMS,
        &[
            Rule::new("model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN]),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.down_proj",
                "blk.{}.ffn_down_exps",
                &[HIDDEN, FEED_FORWARD],
            )
            .stacked("num_experts"),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.gate_proj",
                "blk.{}.ffn_gate_exps",
                &[FEED_FORWARD, HIDDEN],
            )
            .stacked("num_experts"),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.up_proj",
                "blk.{}.ffn_up_exps",
                &[FEED_FORWARD, HIDDEN],
            )
            .stacked("num_experts"),
        ],
    ],
    check: check_heads,
    needs_output: true,
    ..BASE
};

const COUNT: Dim = Dim::Key("num_experts");
