//! Granite with experts, some of them with one that all tokens share.

use super::{
    Architecture, BASE, granite, llama,
    parameters::{COMMON, FILE_TYPE, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const GRANITEMOE: Architecture = Architecture {
    name: "granitemoe",
    classes: &["GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"],
    defaults: &[model(
        "granitemoe",
        &[
            granite::GIVEN,
            &[count("num_local_experts", 8), count("num_experts_per_tok", 2)],
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        FILE_TYPE,
        llama::ROPE,
        granite::MULTIPLIERS,
        &[Parameter::With(|config, keys| {
            if let Some(width @ 1..) = config.whole("shared_intermediate_size")? {
                keys.set_count("expert_shared_feed_forward_length", width);
            }
            Ok(())
        })],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ROTARY_ATTENTION,
        EXPERTS,
        &[
            Rule::split(
                "model.layers.{}.shared_mlp.input_linear",
                halves!(0, "blk.{}.ffn_gate_shexp", "blk.{}.ffn_up_shexp", SHARED),
                &[Dim::Product(&[Dim::Number(2), Dim::Key("shared_intermediate_size")]), HIDDEN],
            )
            .in_layers(shares),
            Rule::new(
                "model.layers.{}.shared_mlp.output_linear",
                "blk.{}.ffn_down_shexp",
                &[HIDDEN, SHARED],
            )
            .in_layers(shares),
        ],
    ],
    check: check_heads,
    computed: llama3_factors,
    tokenizers: llama::TOKENIZERS,
    special: llama::SPECIAL,
    ..BASE
};

/// Experts and their router, gate and up in one.
pub(super) const EXPERTS: &[Rule] = &[
    Rule::new(
        "model.layers.{}.block_sparse_moe.router.layer",
        "blk.{}.ffn_gate_inp",
        &[COUNT, HIDDEN],
    )
    .in_layers(has_experts),
    Rule::split(
        "model.layers.{}.block_sparse_moe.input_linear",
        halves!(1, "blk.{}.ffn_gate_exps", "blk.{}.ffn_up_exps", FEED_FORWARD),
        &[COUNT, Dim::Product(&[Dim::Number(2), Dim::Key("intermediate_size")]), HIDDEN],
    )
    .in_layers(has_experts),
    Rule::new(
        "model.layers.{}.block_sparse_moe.output_linear",
        "blk.{}.ffn_down_exps",
        &[COUNT, HIDDEN, FEED_FORWARD],
    )
    .in_layers(has_experts),
];

const COUNT: Dim = Dim::Key("num_local_experts");
const SHARED: Dim = Dim::Key("shared_intermediate_size");

fn shares(config: &crate::Config, _: u64) -> bool {
    config.whole("shared_intermediate_size").ok().flatten().is_some_and(|width| width > 0)
}

/// Some models with Granite's hybrid class have none.
fn has_experts(config: &crate::Config, _: u64) -> bool {
    config.whole("num_local_experts").ok().flatten().is_some_and(|count| count > 0)
}
