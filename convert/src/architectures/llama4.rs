//! Llama 4: experts in some layers, all of a layer in one tensor by columns, and a shared one.

use super::{
    Architecture, BASE, Default, Fill, llama,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step, Target},
};
use crate::{Config, tokenizer::Kind};

pub(super) const LLAMA4: Architecture = Architecture {
    name: "llama4",
    classes: &["Llama4ForConditionalGeneration", "Llama4ForCausalLM"],
    defaults: &[part(
        "llama4_text",
        SIZES,
        &[
            &[
                count("intermediate_size_mlp", 16_384),
                count("max_position_embeddings", 131_072),
                number("rms_norm_eps", 1e-5),
                number("rope_theta", 500_000.0),
                count("num_key_value_heads", 8),
                count("head_dim", 128),
                count("num_experts_per_tok", 1),
                count("num_local_experts", 16),
                count("interleave_moe_layer_step", 1),
                // The shared keys take the width of dense layers under the first of these names.
                default("dense_intermediate_size", Fill::Given("intermediate_size_mlp")),
            ],
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        llama::ROPE,
        &[
            parameters::whole("interleave_moe_layer_step", &["interleave_moe_layer_step"]),
            parameters::required("expert_feed_forward_length", &["intermediate_size"]),
            Parameter::With(|config, keys| {
                let types = config.get("layer_types").and_then(|types| types.as_array());
                let full = |types: &Vec<serde_json::Value>| {
                    types.iter().all(|ty| ty.as_str() == Some("full_attention"))
                };
                if types.is_some_and(full) {
                    keys.set_count("attention.sliding_window", 0);
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
            dense("model.layers.{}.feed_forward.gate_proj", "blk.{}.ffn_gate", &[DENSE, HIDDEN]),
            dense("model.layers.{}.feed_forward.up_proj", "blk.{}.ffn_up", &[DENSE, HIDDEN]),
            Rule::exact(
                "model.layers.{}.feed_forward.down_proj.weight",
                "blk.{}.ffn_down.weight",
                &[HIDDEN, DENSE],
            )
            .in_layers(is_dense),
            sparse("model.layers.{}.feed_forward.router", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN]),
            Rule::split_exact(
                "model.layers.{}.feed_forward.experts.gate_up_proj",
                &[
                    Target {
                        name: "blk.{}.ffn_gate_exps.weight",
                        parts: &[&[
                            Step::Swap(1, 2),
                            Step::Narrow { axis: 1, from: None, len: FEED_FORWARD },
                        ]],
                    },
                    Target {
                        name: "blk.{}.ffn_up_exps.weight",
                        parts: &[&[
                            Step::Swap(1, 2),
                            Step::Narrow { axis: 1, from: Some(FEED_FORWARD), len: FEED_FORWARD },
                        ]],
                    },
                ],
                &[COUNT, HIDDEN, Dim::Product(&[Dim::Number(2), Dim::Key("intermediate_size")])],
            )
            .in_layers(is_sparse),
            Rule::exact(
                "model.layers.{}.feed_forward.experts.down_proj",
                "blk.{}.ffn_down_exps.weight",
                &[COUNT, FEED_FORWARD, HIDDEN],
            )
            .parts(&[&[Step::Swap(1, 2)]])
            .in_layers(is_sparse),
            sparse(
                "model.layers.{}.feed_forward.shared_expert.gate_proj",
                "blk.{}.ffn_gate_shexp",
                &[FEED_FORWARD, HIDDEN],
            ),
            sparse(
                "model.layers.{}.feed_forward.shared_expert.up_proj",
                "blk.{}.ffn_up_shexp",
                &[FEED_FORWARD, HIDDEN],
            ),
            sparse(
                "model.layers.{}.feed_forward.shared_expert.down_proj",
                "blk.{}.ffn_down_shexp",
                &[HIDDEN, FEED_FORWARD],
            ),
        ],
    ],
    check: check_heads,
    computed: llama3_factors,
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};

const SIZES: &[Default] = &sizes([202_048, 5120, 8192, 48, 40]);
const DENSE: Dim = Dim::Key("intermediate_size_mlp");
const COUNT: Dim = Dim::Key("num_local_experts");

const fn dense(source: &'static str, target: &'static str, shape: &'static [Dim]) -> Rule {
    Rule::new(source, target, shape).in_layers(is_dense)
}

const fn sparse(source: &'static str, target: &'static str, shape: &'static [Dim]) -> Rule {
    Rule::new(source, target, shape).in_layers(is_sparse)
}

fn is_sparse(config: &Config, layer: u64) -> bool {
    if let Some(layers) = config.get("moe_layers").and_then(|layers| layers.as_array()) {
        return layers.iter().any(|other| other.as_u64() == Some(layer));
    }
    let step = config.whole("interleave_moe_layer_step").ok().flatten().unwrap_or(1);
    layer.saturating_add(1).checked_rem(step) == Some(0)
}

fn is_dense(config: &Config, layer: u64) -> bool {
    !is_sparse(config, layer)
}
