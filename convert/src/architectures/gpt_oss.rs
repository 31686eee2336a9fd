//! gpt-oss: experts in MXFP4, carried over as they are; attention sinks.

use serde_json::{Value, json};

use super::{
    Architecture, BASE, Fill,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS},
    rope,
    shared::*,
    tensors::{Dim, Rule, Step, Target},
};

pub(super) const GPT_OSS: Architecture = Architecture {
    name: "gpt-oss",
    classes: &["GptOssForCausalLM"],
    defaults: &[model(
        "gpt_oss",
        &[&[
            count("max_position_embeddings", 131_072),
            number("rms_norm_eps", 1e-5),
            number("rope_theta", 150_000.0),
            default("rope_parameters", Fill::With(|config| Ok(rope::assumed(config, block())))),
            count("num_key_value_heads", 8),
            count("head_dim", 64),
            count("num_local_experts", 128),
            count("num_experts_per_tok", 4),
            count("sliding_window", 128),
            flag("attention_bias", true),
        ]],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("attention.sliding_window", &["sliding_window"]),
            parameters::required("expert_feed_forward_length", &["intermediate_size"]),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        ATTENTION,
        &[
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new(
                "model.layers.{}.post_attention_layernorm",
                "blk.{}.post_attention_norm",
                &[HIDDEN],
            ),
            Rule::exact("model.layers.{}.self_attn.sinks", "blk.{}.attn_sinks.weight", &[HEADS]),
            Rule::new("model.layers.{}.mlp.router", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN]).bias(),
            Rule::exact(
                "model.layers.{}.mlp.experts.down_proj_bias",
                "blk.{}.ffn_down_exps.bias",
                &[COUNT, HIDDEN],
            ),
            Rule::split_exact(
                "model.layers.{}.mlp.experts.gate_up_proj_bias",
                &[
                    Target {
                        name: "blk.{}.ffn_gate_exps.bias",
                        parts: &[&[Step::EverySecond(1, 0)]],
                    },
                    Target {
                        name: "blk.{}.ffn_up_exps.bias",
                        parts: &[&[Step::EverySecond(1, 1)]],
                    },
                ],
                &[COUNT, BOTH],
            ),
        ],
        CODES,
        FLOATS,
    ],
    check: check_heads,
    needs_output: true,
    ..BASE
};

const COUNT: Dim = Dim::Key("num_local_experts");
const BOTH: Dim = Dim::Product(&[Dim::Number(2), Dim::Key("intermediate_size")]);

/// As published: rows of gate and up take turns.
const CODES: &[Rule] = &[
    Rule::exact(
        "model.layers.{}.mlp.experts.down_proj_blocks",
        "blk.{}.ffn_down_exps.weight",
        &[COUNT, HIDDEN, FEED_FORWARD],
    )
    .mxfp4("model.layers.{}.mlp.experts.down_proj_scales")
    .form("MXFP4"),
    Rule::split_exact(
        "model.layers.{}.mlp.experts.gate_up_proj_blocks",
        &[
            Target { name: "blk.{}.ffn_gate_exps.weight", parts: &[&[Step::EverySecond(1, 0)]] },
            Target { name: "blk.{}.ffn_up_exps.weight", parts: &[&[Step::EverySecond(1, 1)]] },
        ],
        &[COUNT, BOTH, HIDDEN],
    )
    .mxfp4("model.layers.{}.mlp.experts.gate_up_proj_scales")
    .form("MXFP4"),
];

/// As fine-tuned: floats, stored by columns.
const FLOATS: &[Rule] = &[
    Rule::exact(
        "model.layers.{}.mlp.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        &[COUNT, FEED_FORWARD, HIDDEN],
    )
    .parts(&[&[Step::Swap(1, 2)]])
    .form("floats"),
    Rule::split_exact(
        "model.layers.{}.mlp.experts.gate_up_proj",
        &[
            Target {
                name: "blk.{}.ffn_gate_exps.weight",
                parts: &[&[Step::Swap(1, 2), Step::EverySecond(1, 0)]],
            },
            Target {
                name: "blk.{}.ffn_up_exps.weight",
                parts: &[&[Step::Swap(1, 2), Step::EverySecond(1, 1)]],
            },
        ],
        &[COUNT, HIDDEN, BOTH],
    )
    .form("floats"),
];

fn block() -> Value {
    json!({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "truncate": false, "original_max_position_embeddings": 4096})
}
