//! Cohere 2 with experts (North): one norm for both parts of a layer, a sliding window in most.

use serde_json::Value;

use crate::{Config, Result};

use super::{
    Architecture, BASE, Fill, deepseek2,
    nextn::{self, Further},
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const COHERE2MOE: Architecture = Architecture {
    name: "cohere2moe",
    classes: &["Cohere2MoeForCausalLM"],
    defaults: &[model(
        "cohere2_moe",
        &[
            &[
                count("max_position_embeddings", 8192),
                number("layer_norm_eps", 1e-5),
                number("logit_scale", 0.0625),
                count("sliding_window", 4096),
                count("head_dim", 128),
                count("num_experts_per_tok", 2),
                default("expert_selection_fn", Fill::Text("softmax")),
                flag("norm_topk_prob", true),
                default("moe_intermediate_size", Fill::Same("intermediate_size")),
                default("n_routed_experts", Fill::Same("num_experts")),
                default("n_shared_experts", Fill::Given("num_shared_experts")),
                default("first_k_dense_replace", Fill::With(leading)),
                flag("tie_word_embeddings", true),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required_number("logit_scale", &["logit_scale"]),
            parameters::required("attention.sliding_window", &["sliding_window"]),
            Parameter::With(|config, keys| {
                let sliding = sliding_layers(config, |layer| (layer + 1) % 4 != 0)?;
                keys.set("attention.sliding_window_pattern", sliding);
                Ok(())
            }),
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::required("expert_feed_forward_length", &["intermediate_size"]),
            parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
            Parameter::Flag {
                key: "expert_weights_norm",
                from: "norm_topk_prob",
                otherwise: Some(false),
            },
            Parameter::With(|config, keys| {
                if let Some(shared @ 1..) = config.whole("num_shared_experts")? {
                    keys.set_count("expert_shared_count", shared);
                    let width = FEED_FORWARD.size(config)?.saturating_mul(shared);
                    keys.set_count("expert_shared_feed_forward_length", width);
                }
                Ok(())
            }),
            nextn::IF_ANY,
            parameters::required("rope.dimension_count", &["head_dim"]),
            Parameter::Constant("rope.scaling.type", Constant::Text("none")),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        ATTENTION,
        &[
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[WIDTH, HIDDEN])
                .in_layers(is_dense),
            Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[WIDTH, HIDDEN])
                .in_layers(is_dense),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, WIDTH])
                .in_layers(is_dense),
        ],
        deepseek2::EXPERTS,
        nextn::NEXTN,
    ],
    further: Further::Counted("num_nextn_predict_layers"),
    check,
    ..BASE
};

const WIDTH: Dim = Dim::KeyOr("prefix_dense_intermediate_size", &FEED_FORWARD);

fn is_dense(config: &Config, layer: u64) -> bool {
    !deepseek2::sparse(config, layer)
}

/// Layers before the first with experts.
fn leading(config: &Config) -> Result<Option<Value>> {
    let types = config.get("mlp_layer_types").and_then(Value::as_array);
    let dense =
        |types: &Vec<Value>| types.iter().take_while(|ty| ty.as_str() == Some("dense")).count();
    Ok(Some(types.map_or(0, dense).into()))
}

fn check(config: &Config) -> Result<()> {
    const KEY: &str = "shared_expert_combination_strategy";
    if let (Some(1..), Some(other)) =
        (config.whole("num_shared_experts")?, config.get(KEY).and_then(Value::as_str))
        && other != "average"
    {
        return Err(config.wrong(KEY, &format!("{other:?}"), "average: llama.cpp has no other"));
    }
    check_heads(config)
}
