//! HRM-Text: two stacks of layers, run through in turns; no norm has weights.

use super::{
    Architecture, BASE, Default, Fill,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step, Target},
};

pub(super) const HRM_TEXT: Architecture = Architecture {
    name: "hrm_text",
    classes: &["HrmTextForCausalLM"],
    defaults: &[model("hrm_text", &[GIVEN])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            Parameter::Size("rope.dimension_count", HEAD),
            parameters::required_number("embedding_scale", &["embedding_scale"]),
            parameters::required("hrm.layers_per_stack", &[STACK]),
            parameters::required("hrm.h_cycles", &["H_cycles"]),
            parameters::required("hrm.l_cycles", &["L_cycles"]),
            Parameter::Flag { key: "hrm.prefix_lm", from: "prefix_lm", otherwise: Some(false) },
        ],
    ],
    tensors: &[
        &[
            Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
            Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head(),
            Rule::exact("model.z_L_init", "hrm.z_l_init", &[HIDDEN]),
        ],
        LAYER,
    ],
    rename: |config, name| {
        let rest = name.strip_prefix("model.")?;
        if let Some(rest) = rest.strip_prefix("L_module.") {
            return Some(format!("model.{rest}"));
        }
        // The slow stack comes after the fast one.
        let (layer, rest) = rest.strip_prefix("H_module.layers.")?.split_once('.')?;
        let layer = layer.parse::<u64>().ok()?.checked_add(config.require(STACK).ok()?)?;
        Some(format!("model.layers.{layer}.{rest}"))
    },
    ..BASE
};

const STACK: &str = "num_layers_per_stack";
const BOTH: &str = "layers of both stacks";

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 2048),
    number("rms_norm_eps", 1e-6),
    number("rope_theta", 10_000.0),
    count("head_dim", 128),
    count("H_cycles", 2),
    count("L_cycles", 3),
    or_null(
        "embedding_scale",
        Fill::With(|config| {
            let range = config.number("initializer_range")?.unwrap_or(0.02);
            Ok(Some((1.0 / range).into()))
        }),
    ),
    // Files written while training count the layers of a stack as the layers.
    or_null(STACK, Fill::Same("num_hidden_layers")),
    // Each pass through a stack counts: its layers have keys and values of their own.
    replaced("num_hidden_layers", Fill::Size(PASSES)),
    default(BOTH, Fill::Size(Dim::Product(&[TWO, Dim::Key(STACK)]))),
    or_null("num_key_value_heads", Fill::Same("num_attention_heads")),
];

const PASSES: Dim = Dim::Product(&[
    Dim::Key(STACK),
    Dim::Key("H_cycles"),
    Dim::Sum(&[Dim::Key("L_cycles"), Dim::Number(1)]),
]);

const fn quarter(name: &'static str, parts: &'static [&'static [Step]]) -> Target {
    Target { name, parts }
}

const SECOND: Dim = QUERY;
const THIRD: Dim = Dim::Product(&[TWO, QUERY]);
const FOURTH: Dim = Dim::Product(&[Dim::Number(3), QUERY]);

const LAYER: &[Rule] = &[
    Rule::split(
        "model.layers.{}.attn.gqkv_proj",
        &[
            quarter("blk.{}.attn_gate", &[&[Step::Narrow { axis: 0, from: None, len: QUERY }]]),
            quarter(
                "blk.{}.attn_q",
                &[&[Step::Narrow { axis: 0, from: Some(SECOND), len: QUERY }]],
            ),
            quarter("blk.{}.attn_k", &[&[Step::Narrow { axis: 0, from: Some(THIRD), len: QUERY }]]),
            quarter(
                "blk.{}.attn_v",
                &[&[Step::Narrow { axis: 0, from: Some(FOURTH), len: QUERY }]],
            ),
        ],
        &[Dim::Product(&[Dim::Number(4), QUERY]), HIDDEN],
    )
    .counted(BOTH),
    Rule::new("model.layers.{}.attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY]).counted(BOTH),
    Rule::split(
        "model.layers.{}.mlp.gate_up_proj",
        &[
            Target {
                name: "blk.{}.ffn_gate",
                parts: &[&[Step::Narrow { axis: 0, from: None, len: FEED_FORWARD }]],
            },
            Target {
                name: "blk.{}.ffn_up",
                parts: &[&[Step::Narrow { axis: 0, from: Some(FEED_FORWARD), len: FEED_FORWARD }]],
            },
        ],
        &[Dim::Product(&[TWO, Dim::Key("intermediate_size")]), HIDDEN],
    )
    .counted(BOTH),
    Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .counted(BOTH),
];
