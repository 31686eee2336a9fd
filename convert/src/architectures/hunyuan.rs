//! HunYuan: norms of queries and keys; dense, with experts, and the text model of HunyuanOCR.

use serde_json::Value;

use super::{
    Architecture, BASE, Default, Fill,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    rope::Rope,
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{
    Config, Result,
    tokenizer::{Adjustment, Kind},
};

pub(super) const HUNYUAN_DENSE: Architecture = Architecture {
    name: "hunyuan-dense",
    classes: &["HunYuanDenseV1ForCausalLM"],
    defaults: &[model("hunyuan_v1_dense", DEFAULTS)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[Parameter::With(|config, keys| stretched(config, keys, 50.0))],
    ],
    tensors: &[HEAD_OR_TIED, OUTPUT_NORM, NORMS, ATTENTION, NAMED_NORMS, GATED_MLP],
    check: check_heads,
    tokenizers: &[Kind::ByteLevel],
    special: &[Adjustment::EndsByConfig],
    ..BASE
};

pub(super) const HUNYUAN_VL: Architecture = Architecture {
    name: "hunyuan_vl",
    classes: &["HunYuanVLForConditionalGeneration"],
    defaults: &[part("hunyuan_vl_text", &sizes([290_943, 4096, 11_008, 32, 32]), DEFAULTS)],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, &[Parameter::With(axes)]],
    ..HUNYUAN_DENSE
};

pub(super) const HUNYUAN_MOE: Architecture = Architecture {
    name: "hunyuan-moe",
    classes: &["HunYuanMoEV1ForCausalLM"],
    defaults: &[model("hunyuan_v1_moe", &[GIVEN, SAME_HEADS])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("expert_shared_feed_forward_length", &["intermediate_size"]),
            Parameter::Size("expert_feed_forward_length", WIDTH),
            Parameter::Size("expert_used_count", USED),
            Parameter::Size("expert_shared_count", SHARED),
            Parameter::With(|config, keys| stretched(config, keys, 1000.0)),
        ],
    ],
    tensors: &[
        HEAD_OR_TIED,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        NAMED_NORMS,
        &[
            Rule::new("model.layers.{}.mlp.gate.wg", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN]),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.down_proj",
                "blk.{}.ffn_down_exps",
                &[HIDDEN, WIDTH],
            )
            .stacked("num_experts"),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.gate_proj",
                "blk.{}.ffn_gate_exps",
                &[WIDTH, HIDDEN],
            )
            .stacked("num_experts"),
            Rule::new(
                "model.layers.{}.mlp.experts.{}.up_proj",
                "blk.{}.ffn_up_exps",
                &[WIDTH, HIDDEN],
            )
            .stacked("num_experts"),
            Rule::new(
                "model.layers.{}.mlp.shared_mlp.gate_proj",
                "blk.{}.ffn_gate_shexp",
                &[FEED_FORWARD, HIDDEN],
            ),
            Rule::new(
                "model.layers.{}.mlp.shared_mlp.up_proj",
                "blk.{}.ffn_up_shexp",
                &[FEED_FORWARD, HIDDEN],
            ),
            Rule::new(
                "model.layers.{}.mlp.shared_mlp.down_proj",
                "blk.{}.ffn_down_shexp",
                &[HIDDEN, FEED_FORWARD],
            ),
        ],
    ],
    special: &[],
    ..HUNYUAN_DENSE
};

const WIDTH: Dim =
    Dim::Derived("moe_intermediate_size", |config| same(config, "moe_intermediate_size"));
const USED: Dim = Dim::Derived("moe_topk", |config| same(config, "moe_topk"));
const SHARED: Dim = Dim::Derived("num_shared_expert", |config| same(config, "num_shared_expert"));
const COUNT: Dim = Dim::Key("num_experts");

/// What all layers have, where config.json says it for each.
fn same(config: &Config, key: &str) -> Result<u64> {
    let numbers = config.get(key).and_then(Value::as_array).map(Vec::as_slice);
    match numbers.and_then(<[Value]>::split_first) {
        None if numbers.is_none() => config.require(key),
        Some((first, others)) if others.iter().all(|other| other == first) => {
            config.require_in(key, Some(0))
        }
        _ => Err(config.wrong(key, "numbers that differ", "the same number for each layer")),
    }
}

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 2048),
    number("rms_norm_eps", 1e-5),
    number("rope_theta", 10_000.0),
];
const DEFAULTS: &[&[Default]] = &[
    GIVEN,
    // Some say that they have one expert, which is none.
    &[replaced(
        "num_experts",
        Fill::With(|config| Ok(config.whole("num_experts")?.map(|_| Value::Null))),
    )],
    SAME_HEADS,
];

const HEAD_OR_TIED: &[Rule] = &[
    Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new("lm_head", "output", &[VOCAB, HIDDEN])
        .head_unless("tie_word_embeddings", "the output is the token embedding"),
];
const NAMED_NORMS: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.query_layernorm", "blk.{}.attn_q_norm", &[HEAD]),
    Rule::new("model.layers.{}.self_attn.key_layernorm", "blk.{}.attn_k_norm", &[HEAD]),
];

/// The longest context that the authors give for their scaling.
const LONGEST: u32 = 256 * 1024;

/// Their scaling, which raises the base frequency: a power of `alpha`.
fn stretched(config: &Config, keys: &mut Keys<'_>, alpha: f64) -> Result<()> {
    let rope = Rope::read(config)?;
    if rope.kind()?.as_deref() != Some("dynamic") {
        return Ok(());
    }
    let alpha = rope.number("alpha")?.unwrap_or(alpha);
    let theta = rope.number("rope_theta")?.unwrap_or(10_000.0);
    let head = HEAD.size(config)? as f64;
    keys.set_number("rope.freq_base", theta * alpha.powf(head / (head - 2.0)));
    keys.set("rope.scaling.type", "none");
    keys.set_number("rope.scaling.factor", 1.0);
    keys.set("rope.scaling.original_context_length", LONGEST);
    keys.set("context_length", LONGEST);
    Ok(())
}

/// Positions of several axes, with the same scaling left to the engine.
fn axes(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let rope = Rope::read(config)?;
    let kind = rope.kind()?;
    let sections = rope.sections_of("xdrope_section")?.or(rope.sections()?);
    let (Some("xdrope" | "dynamic"), Some(mut sections)) = (kind.as_deref(), sections) else {
        return stretched(config, keys, 50.0);
    };
    sections.resize(4, 0);
    keys.set_number("rope.freq_base", rope.number("rope_theta")?.unwrap_or(10_000.0));
    keys.set("rope.scaling.type", "none");
    keys.set_number("rope.scaling.factor", rope.number("factor")?.unwrap_or(1.0));
    if let Some(alpha) = rope.number("alpha")? {
        keys.set_number("rope.scaling.alpha", alpha);
    }
    let context = config.require("max_position_embeddings")?;
    keys.set_count("rope.scaling.original_context_length", context);
    keys.set_count("context_length", context);
    keys.set("rope.dimension_sections", sections);
    Ok(())
}
