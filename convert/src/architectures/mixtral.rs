//! Mixtral: Llama's graph with experts, under the names they have had and have.

use super::{
    Architecture, BASE, llama,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const MIXTRAL: Architecture = Architecture {
    name: "llama",
    classes: &["MixtralForCausalLM"],
    defaults: &[model(
        "mixtral",
        &[
            &[
                count("max_position_embeddings", 131_072),
                number("rms_norm_eps", 1e-5),
                number("rope_theta", 1_000_000.0),
                count("num_key_value_heads", 8),
                default("num_local_experts", super::Fill::Given("num_experts")),
                count("num_local_experts", 8),
                count("num_experts_per_tok", 2),
            ],
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, llama::ROPE],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ROTARY_ATTENTION, EXPERTS, EXPERTS_IN_ONE],
    check: check_heads,
    computed: llama3_factors,
    tokenizers: llama::TOKENIZERS,
    special: llama::SPECIAL,
    ..BASE
};

const COUNT: Dim = Dim::Key("num_local_experts");

pub(super) const EXPERTS: &[Rule] = &[
    Rule::new("model.layers.{}.block_sparse_moe.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .form("a tensor for each expert"),
    Rule::new(
        "model.layers.{}.block_sparse_moe.experts.{}.w1",
        "blk.{}.ffn_gate_exps",
        &[FEED_FORWARD, HIDDEN],
    )
    .stacked("num_local_experts")
    .form("a tensor for each expert"),
    Rule::new(
        "model.layers.{}.block_sparse_moe.experts.{}.w2",
        "blk.{}.ffn_down_exps",
        &[HIDDEN, FEED_FORWARD],
    )
    .stacked("num_local_experts")
    .form("a tensor for each expert"),
    Rule::new(
        "model.layers.{}.block_sparse_moe.experts.{}.w3",
        "blk.{}.ffn_up_exps",
        &[FEED_FORWARD, HIDDEN],
    )
    .stacked("num_local_experts")
    .form("a tensor for each expert"),
];

pub(super) const EXPERTS_IN_ONE: &[Rule] = &[
    Rule::new("model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .form("one tensor for all experts"),
    Rule::split_exact(
        "model.layers.{}.mlp.experts.gate_up_proj",
        halves!(1, "blk.{}.ffn_gate_exps.weight", "blk.{}.ffn_up_exps.weight", FEED_FORWARD),
        &[COUNT, Dim::Product(&[Dim::Number(2), Dim::Key("intermediate_size")]), HIDDEN],
    )
    .form("one tensor for all experts"),
    Rule::exact(
        "model.layers.{}.mlp.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        &[COUNT, HIDDEN, FEED_FORWARD],
    )
    .form("one tensor for all experts"),
];
