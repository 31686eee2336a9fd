//! GroveMoE: Qwen3's experts, and smaller ones that pairs of them share.

use super::{
    Architecture, BASE, Fill,
    parameters::{COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    qwen3moe,
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const GROVEMOE: Architecture = Architecture {
    name: "grovemoe",
    classes: &["GroveMoeForCausalLM", "modeling_grove_moe.GroveMoeForCausalLM"],
    defaults: &[model(
        "grove_moe",
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-6),
                count("num_key_value_heads", 4),
                count("moe_intermediate_size", 768),
                default("num_experts", Fill::Given("num_local_experts")),
                count("num_experts", 128),
                count("num_experts_per_tok", 8),
                count(OF_GROUP, 2),
                default(GROUPS, Fill::Quotient("num_experts", OF_GROUP)),
                default(SMALL_WIDTH, Fill::Given("head_dim")),
                count(SMALL_WIDTH, 128),
            ],
            THETA,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        qwen3moe::WIDTH,
        &[
            Parameter::With(|config, keys| {
                keys.set_count("expert_chunk_feed_forward_length", config.require(SMALL_WIDTH)?);
                Ok(())
            }),
            // Both are written into the authors' code.
            Parameter::Constant("experts_per_group", Constant::Count(2)),
            Parameter::Constant("expert_group_scale", Constant::Number(0.05)),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        HEAD_NORMS,
        EXPERTS,
        &[
            Rule::new(
                "model.layers.{}.mlp.chunk_experts.{}.down_proj",
                "blk.{}.ffn_down_chexps",
                &[HIDDEN, SMALL],
            )
            .stacked(GROUPS),
            Rule::new(
                "model.layers.{}.mlp.chunk_experts.{}.gate_proj",
                "blk.{}.ffn_gate_chexps",
                &[SMALL, HIDDEN],
            )
            .stacked(GROUPS),
            Rule::new(
                "model.layers.{}.mlp.chunk_experts.{}.up_proj",
                "blk.{}.ffn_up_chexps",
                &[SMALL, HIDDEN],
            )
            .stacked(GROUPS),
            Rule {
                exact: true,
                ..Rule::left_out("model.layers.{}.mlp.expert_bias", "the model does not use it")
            },
            Rule {
                exact: true,
                ..Rule::left_out(
                    "model.layers.{}.mlp.gate.expert_bias",
                    "the model does not use it",
                )
            },
        ],
    ],
    check: check_heads,
    ..BASE
};

const OF_GROUP: &str = "experts of a group";
const GROUPS: &str = "groups of experts";
const SMALL_WIDTH: &str = "width of an expert of a group";
const SMALL: Dim = Dim::Key(SMALL_WIDTH);
