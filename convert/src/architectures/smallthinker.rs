//! SmallThinker: experts in all layers, chosen before attention; some layers with a sliding window.

use serde_json::Value;

use super::{
    Architecture, BASE,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const SMALLTHINKER: Architecture = Architecture {
    name: "smallthinker",
    classes: &["SmallThinkerForCausalLM"],
    defaults: &[model(
        "smallthinker",
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-6),
                count("moe_num_active_primary_experts", 4),
            ],
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("expert_count", &["moe_num_primary_experts"]),
            parameters::required("expert_used_count", &["moe_num_active_primary_experts"]),
            parameters::required("expert_feed_forward_length", &["moe_ffn_hidden_size"]),
            parameters::required("feed_forward_length", &["moe_ffn_hidden_size"]),
            Parameter::With(|config, keys| {
                let softmax = config.flag("moe_primary_router_apply_softmax")?;
                keys.set_count("expert_gating_func", if softmax { 1 } else { 2 });
                let layout = config.get("sliding_window_layout").and_then(Value::as_array);
                let slides = |layout: &Vec<Value>| layout.iter().any(|n| n.as_u64() != Some(0));
                if layout.is_some_and(slides)
                    && let Some(window) = config.positive("sliding_window_size")?
                {
                    keys.set_count("attention.sliding_window", window);
                }
                Ok(())
            }),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        &[
            Rule::new(
                "model.layers.{}.block_sparse_moe.primary_router",
                "blk.{}.ffn_gate_inp",
                &[COUNT, HIDDEN],
            ),
            Rule::new(
                "model.layers.{}.block_sparse_moe.experts.{}.down",
                "blk.{}.ffn_down_exps",
                &[HIDDEN, WIDTH],
            )
            .stacked("moe_num_primary_experts"),
            Rule::new(
                "model.layers.{}.block_sparse_moe.experts.{}.gate",
                "blk.{}.ffn_gate_exps",
                &[WIDTH, HIDDEN],
            )
            .stacked("moe_num_primary_experts"),
            Rule::new(
                "model.layers.{}.block_sparse_moe.experts.{}.up",
                "blk.{}.ffn_up_exps",
                &[WIDTH, HIDDEN],
            )
            .stacked("moe_num_primary_experts"),
        ],
    ],
    check: check_heads,
    ..BASE
};

const COUNT: Dim = Dim::Key("moe_num_primary_experts");
const WIDTH: Dim = Dim::Key("moe_ffn_hidden_size");
