//! Granite with a sliding window in most layers and attention sinks, dense or with experts.

use super::{
    Architecture, granite, llama,
    parameters::{self, COMMON, FILE_TYPE, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const GRANITE_SWA: Architecture = Architecture {
    name: "granite_swa",
    classes: &["GraniteSWAForCausalLM"],
    defaults: &[model("granite_swa", &[DENSE_GIVEN, WINDOW_GIVEN, granite::GIVEN, SAME_HEADS])],
    parameters: &[COMMON, FILE_TYPE, llama::ROPE, granite::MULTIPLIERS, WINDOW],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ROTARY_ATTENTION, SINKS, GATED_MLP],
    ..granite::GRANITE
};

pub(super) const GRANITE_MOE_SWA: Architecture = Architecture {
    classes: &["GraniteMoeSWAForCausalLM"],
    defaults: &[model(
        "granitemoe_swa",
        &[
            &[count("num_local_experts", 8), count("num_experts_per_tok", 2)],
            WINDOW_GIVEN,
            granite::GIVEN,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        FILE_TYPE,
        llama::ROPE,
        granite::MULTIPLIERS,
        WINDOW,
        &[Parameter::With(|config, keys| {
            if let Some(width @ 1..) = config.whole("shared_intermediate_size")? {
                keys.set_count("expert_shared_feed_forward_length", width);
            }
            Ok(())
        })],
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ROTARY_ATTENTION, SINKS, EXPERTS],
    ..GRANITE_SWA
};

const WINDOW_GIVEN: &[super::Default] = &[count("sliding_window", 128)];

const DENSE_GIVEN: &[super::Default] =
    &[count("max_position_embeddings", 8192), number("rms_norm_eps", 1e-5)];

const WINDOW: &[Parameter] = &[
    parameters::required("attention.sliding_window", &["sliding_window"]),
    Parameter::With(|config, keys| {
        keys.set(
            "attention.sliding_window_pattern",
            sliding_layers(config, |layer| layer % 4 != 0)?,
        );
        let turned = config.get("no_rope_layers").and_then(|layers| layers.as_array());
        if let Some(turned) = turned.filter(|layers| !layers.is_empty()) {
            let flags: Vec<bool> = turned
                .iter()
                .map(|flag| flag.as_bool().unwrap_or_else(|| flag.as_u64() != Some(0)))
                .collect();
            keys.set("attention.rope_pattern", flags);
        }
        Ok(())
    }),
];

const SINKS: &[Rule] =
    &[Rule::exact("model.layers.{}.self_attn.sinks", "blk.{}.attn_sinks.weight", &[HEADS])];

const COUNT: Dim = Dim::Key("num_local_experts");
const TWICE: Dim = Dim::Product(&[Dim::Number(2), Dim::Key("intermediate_size")]);
const SHARED: Dim = Dim::Key("shared_intermediate_size");

/// Gate and up stay together: the graph takes them so.
const EXPERTS: &[Rule] = &[
    Rule::new("model.layers.{}.block_sparse_moe.router", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .any_of(),
    Rule::new(
        "model.layers.{}.block_sparse_moe.router.layer",
        "blk.{}.ffn_gate_inp",
        &[COUNT, HIDDEN],
    )
    .optional()
    .any_of(),
    Rule::exact(
        "model.layers.{}.block_sparse_moe.experts.gate_up_proj",
        "blk.{}.ffn_gate_up_exps.weight",
        &[COUNT, TWICE, HIDDEN],
    )
    .any_of(),
    Rule::exact(
        "model.layers.{}.block_sparse_moe.input_linear.weight",
        "blk.{}.ffn_gate_up_exps.weight",
        &[COUNT, TWICE, HIDDEN],
    )
    .optional()
    .any_of(),
    Rule::exact(
        "model.layers.{}.block_sparse_moe.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        &[COUNT, HIDDEN, FEED_FORWARD],
    )
    .any_of(),
    Rule::exact(
        "model.layers.{}.block_sparse_moe.output_linear.weight",
        "blk.{}.ffn_down_exps.weight",
        &[COUNT, HIDDEN, FEED_FORWARD],
    )
    .optional()
    .any_of(),
    Rule::new(
        "model.layers.{}.shared_mlp.input_linear",
        "blk.{}.ffn_up_shexp",
        &[Dim::Product(&[Dim::Number(2), Dim::Key("shared_intermediate_size")]), HIDDEN],
    )
    .in_layers(shares),
    Rule::new(
        "model.layers.{}.shared_mlp.output_linear",
        "blk.{}.ffn_down_shexp",
        &[HIDDEN, SHARED],
    )
    .in_layers(shares),
];

fn shares(config: &crate::Config, _: u64) -> bool {
    config.whole("shared_intermediate_size").ok().flatten().is_some_and(|width| width > 0)
}
