//! Qwen3-VL, its text models with and without experts: Qwen3's graphs, positions of several axes,
//! states of images added in the first layers.

use crate::{Config, Result, tokenizer::Adjustment};

use super::{
    Architecture, BASE, Default, Fill, encoder,
    parameters::{COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    qwen3, qwen3moe, rerank,
    shared::*,
    tensors::{Dim, Rule, Step, Target},
};

pub(super) const QWEN3VL: Architecture = Architecture {
    name: "qwen3vl",
    classes: &["Qwen3VLForConditionalGeneration"],
    defaults: &[part("qwen3_vl_text", SIZES, QWEN3VL_DEFAULTS)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            Parameter::With(encoder::pooling),
            Parameter::With(rerank::keys),
            Parameter::With(deepstack),
        ],
    ],
    tensors: qwen3::QWEN3.tensors,
    check: check_heads,
    ..BASE
};

pub(super) const QWEN3VLMOE: Architecture = Architecture {
    name: "qwen3vlmoe",
    classes: &["Qwen3VLMoeForConditionalGeneration"],
    defaults: &[part("qwen3_vl_moe_text", MOE_SIZES, QWEN3VLMOE_DEFAULTS)],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, qwen3moe::WIDTH, &[Parameter::With(deepstack)]],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION, HEAD_NORMS, BY_COLUMNS, EXPERTS],
    check: check_heads,
    ..BASE
};

/// Qwen3-ASR: Qwen3-VL's text model, no states of images.
pub(super) const QWEN3ASR: Architecture = Architecture {
    classes: &["Qwen3ASRForConditionalGeneration"],
    defaults: &[part("qwen3_asr_text", SIZES, QWEN3VL_DEFAULTS)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[Parameter::With(encoder::pooling), Parameter::With(rerank::keys), NO_DEEPSTACK],
    ],
    special: &[Adjustment::Template(CHATML), Adjustment::TurnEnds("<|im_end|>")],
    ..QWEN3VL
};

/// Qwen3-Omni: Qwen3-VL with experts, its text model.
pub(super) const QWEN3OMNI: Architecture = Architecture {
    classes: &["Qwen3OmniMoeForConditionalGeneration"],
    defaults: &[part("qwen3_omni_moe_text", OMNI_SIZES, OMNI_DEFAULTS)],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, qwen3moe::WIDTH, &[NO_DEEPSTACK]],
    special: &[Adjustment::TurnEnds("<|im_end|>")],
    ..QWEN3VLMOE
};

const QWEN3VL_DEFAULTS: &[&[Default]] = &[
    &[
        count("max_position_embeddings", 128_000),
        number("rms_norm_eps", 1e-6),
        number("rope_theta", 500_000.0),
        count("num_key_value_heads", 32),
        count("head_dim", 128),
    ],
    SAME_HEADS,
];

const QWEN3VLMOE_DEFAULTS: &[&[Default]] = &[
    &[
        count("max_position_embeddings", 128_000),
        number("rms_norm_eps", 1e-6),
        number("rope_theta", 500_000.0),
        count("num_key_value_heads", 16),
        default("num_experts", Fill::Given("num_local_experts")),
        count("num_experts", 60),
        count("num_experts_per_tok", 4),
        count("moe_intermediate_size", 1408),
    ],
    SAME_HEADS,
];

const OMNI_DEFAULTS: &[&[Default]] = &[
    &[
        count("max_position_embeddings", 32_768),
        number("rms_norm_eps", 1e-6),
        number("rope_theta", 1_000_000.0),
        count("num_key_value_heads", 4),
        default("num_experts", Fill::Given("num_local_experts")),
        count("num_experts", 128),
        count("num_experts_per_tok", 8),
        count("moe_intermediate_size", 768),
    ],
    SAME_HEADS,
];

const NO_DEEPSTACK: Parameter = Parameter::Constant("n_deepstack_layers", Constant::Count(0));

/// What Qwen3-ASR's own template means.
const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + \
                      message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if \
                      add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const SIZES: &[Default] = &sizes([151_936, 4096, 22_016, 32, 32]);
const MOE_SIZES: &[Default] = &sizes([151_936, 2048, 5632, 24, 16]);
const OMNI_SIZES: &[Default] = &sizes([3584, 2048, 18_944, 28, 28]);

/// The number of layers that states of images are added to: three if the configuration leaves them
/// to its class, which is what transformers saves for the largest models.
fn deepstack(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    const ASSUMED: u64 = 3;
    let vision = config.get("vision_config");
    let layers = vision.map_or(ASSUMED, |vision| match vision.get("deepstack_visual_indexes") {
        None => ASSUMED,
        Some(layers) => layers.as_array().map_or(0, |layers| layers.len() as u64),
    });
    keys.set_count("n_deepstack_layers", layers);
    Ok(())
}

const COUNT: Dim = Dim::Key("num_experts");
const INNER: Dim = Dim::Key("moe_intermediate_size");

/// The form of the published files: all experts of a layer in one tensor, each matrix stored by
/// columns. transformers 5 stores them by rows.
const COLUMNS: &str = "experts stored by columns";

const BY_COLUMNS: &[Rule] = &[
    Rule::exact(
        "model.layers.{}.mlp.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        &[COUNT, INNER, HIDDEN],
    )
    .parts(&[&[Step::Swap(1, 2)]])
    .form(COLUMNS),
    Rule::split_exact(
        "model.layers.{}.mlp.experts.gate_up_proj",
        &[
            Target {
                name: "blk.{}.ffn_gate_exps.weight",
                parts: &[&[Step::Narrow { axis: 2, from: None, len: INNER }, Step::Swap(1, 2)]],
            },
            Target {
                name: "blk.{}.ffn_up_exps.weight",
                parts: &[&[
                    Step::Narrow { axis: 2, from: Some(INNER), len: INNER },
                    Step::Swap(1, 2),
                ]],
            },
        ],
        &[COUNT, HIDDEN, Dim::Product(&[Dim::Number(2), Dim::Key("moe_intermediate_size")])],
    )
    .form(COLUMNS),
];
