//! ERNIE 4.5 with experts, and the text model of PaddleOCR-VL.

use super::{
    Architecture, Default, Fill, ernie4_5,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};
use crate::Config;

pub(super) const ERNIE4_5_MOE: Architecture = Architecture {
    name: "ernie4_5-moe",
    classes: &["Ernie4_5_MoeForCausalLM"],
    defaults: &[model(
        "ernie4_5_moe",
        &[
            &[
                count("vocab_size", 103_424),
                count("max_position_embeddings", 131_072),
                number("rms_norm_eps", 1e-5),
                number("rope_theta", 500_000.0),
                count("num_key_value_heads", 4),
                count("moe_intermediate_size", 1536),
                count("moe_k", 6),
                count("moe_num_experts", 64),
                count("moe_num_shared_experts", 2),
                count("moe_layer_start_index", 1),
                count("moe_layer_interval", 1),
                default("moe_layer_end_index", Fill::Given("num_hidden_layers")),
            ],
            BIASES,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("expert_count", &["moe_num_experts"]),
            parameters::required("expert_used_count", &["moe_k"]),
            parameters::required("interleave_moe_layer_step", &["moe_layer_interval"]),
            parameters::whole("leading_dense_block_count", &["moe_layer_start_index"]),
            parameters::count("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::whole("expert_shared_count", &["moe_num_shared_experts"]),
            Parameter::With(|config, keys| {
                if shares(config, u64::MAX) {
                    // llama.cpp's converter derives it from the width of the dense layers and the
                    // heads of keys, which comes to the same in the models that are published.
                    let width = if config.like_reference() {
                        config.require("intermediate_size")?
                            / config.require("num_key_value_heads")?
                    } else {
                        SHARED.size(config)?
                    };
                    keys.set_count("expert_shared_feed_forward_length", width);
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
            Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
                .in_layers(dense)
                .bias_if("mlp_bias"),
            Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
                .in_layers(dense)
                .bias_if("mlp_bias"),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
                .in_layers(dense)
                .bias_if("mlp_bias"),
            Rule::new("model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
                .in_layers(sparse),
            Rule::exact(
                "model.layers.{}.mlp.moe_statics.e_score_correction_bias",
                "blk.{}.exp_probs_b.bias",
                &[Dim::Number(1), COUNT],
            )
            .parts(&[&[Step::Fold(0, 2)]])
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.gate_proj",
                "blk.{}.ffn_gate_exps",
                &[WIDTH, HIDDEN],
            )
            .stacked("moe_num_experts")
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.up_proj",
                "blk.{}.ffn_up_exps",
                &[WIDTH, HIDDEN],
            )
            .stacked("moe_num_experts")
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.down_proj",
                "blk.{}.ffn_down_exps",
                &[HIDDEN, WIDTH],
            )
            .stacked("moe_num_experts")
            .in_layers(sparse),
            Rule::new(
                "model.layers.{}.mlp.shared_experts.gate_proj",
                "blk.{}.ffn_gate_shexp",
                &[SHARED, HIDDEN],
            )
            .in_layers(shares),
            Rule::new(
                "model.layers.{}.mlp.shared_experts.up_proj",
                "blk.{}.ffn_up_shexp",
                &[SHARED, HIDDEN],
            )
            .in_layers(shares),
            Rule::new(
                "model.layers.{}.mlp.shared_experts.down_proj",
                "blk.{}.ffn_down_shexp",
                &[HIDDEN, SHARED],
            )
            .in_layers(shares),
            Rule::left_out("model.mtp_emb_norm.{}", FURTHER),
            Rule::left_out("model.mtp_hidden_norm.{}", FURTHER),
            Rule::left_out("model.mtp_linear_proj.{}", FURTHER),
        ],
    ],
    rename: |_, name| {
        // All parts of layers that predict further tokens are one to the rules.
        name.starts_with("model.mtp_block.").then(|| "model.mtp_emb_norm.0.weight".to_owned())
    },
    ..ernie4_5::ERNIE4_5
};

pub(super) const PADDLEOCR: Architecture = Architecture {
    name: "paddleocr",
    classes: &["PaddleOCRVLForConditionalGeneration"],
    defaults: &[part(
        "paddleocr_vl_text",
        &sizes([103_424, 1024, 3072, 18, 16]),
        &[
            &[
                count("max_position_embeddings", 131_072),
                number("rms_norm_eps", 1e-5),
                number("rope_theta", 500_000.0),
                count("head_dim", 128),
                count("num_key_value_heads", 2),
                flag("tie_word_embeddings", true),
            ],
            BIASES,
            SAME_HEADS,
        ],
    )],
    ..ernie4_5::ERNIE4_5
};

const BIASES: &[Default] = &[
    default("attention_bias", Fill::Given("use_bias")),
    default("mlp_bias", Fill::Given("use_bias")),
];
const FURTHER: &str = "layers that predict further tokens are not converted";
const WIDTH: Dim = Dim::Key("moe_intermediate_size");
const COUNT: Dim = Dim::Key("moe_num_experts");
const SHARED: Dim =
    Dim::Product(&[Dim::Key("moe_intermediate_size"), Dim::Key("moe_num_shared_experts")]);

fn sparse(config: &Config, layer: u64) -> bool {
    let number = |key: &str| config.whole(key).ok().flatten();
    let first = number("moe_layer_start_index").unwrap_or(0);
    let step = number("moe_layer_interval").unwrap_or(1);
    layer >= first && layer.wrapping_add(1).checked_rem(step).is_none_or(|rest| rest == 0)
}

fn dense(config: &Config, layer: u64) -> bool {
    !sparse(config, layer)
}

fn shares(config: &Config, layer: u64) -> bool {
    (layer == u64::MAX || sparse(config, layer))
        && config.whole("moe_num_shared_experts").ok().flatten().is_some_and(|n| n > 0)
}
