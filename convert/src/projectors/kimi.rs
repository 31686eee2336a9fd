//! Kimi-VL and Kimi-K2.5: MoonViT, rotary positions in two dimensions beside learned ones.

use std::path::Path;

use serde_json::Value;

use super::{Encoder, Projector, nothing, shared::*};
use crate::{
    Config, Result,
    architectures::{
        Architecture, Default, Fill, ModelDefaults,
        parameters::{Constant, Keys, Parameter},
        tensors::{Dim, Rule, Step},
    },
    json::Object,
};

pub(super) const KIMI_VL: Projector = Projector {
    classes: &["KimiVLForConditionalGeneration"],
    name: "kimivl",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_tower.", "multi_modal_projector."],
        prepare: nothing,
        family: &Architecture {
            defaults: &[ModelDefaults {
                model_type: "moonvit",
                values: &[
                    DEFAULTS,
                    // Nothing depends on it, engines want a number.
                    &[always("image_size", Fill::Whole(64 * 14)), number("layer_norm_eps", 1e-5)],
                ],
                in_wrapper: &[],
            }],
            parameters: &[
                VISION,
                &[
                    Parameter::Constant("projector_type", Constant::Text("kimivl")),
                    USE_GELU,
                    Parameter::Constant("vision.projector.scale_factor", Constant::Count(2)),
                    EPSILON,
                ],
            ],
            wrappers: &["vision_tower."],
            tensors: &[
                TOWER,
                &[
                    Rule::exact(
                        "patch_embed.pos_emb.weight",
                        "v.position_embd.weight",
                        &[HEIGHT, BREADTH, WIDTH],
                    )
                    .parts(&[&[Step::Fold(0, 2)]]),
                    Rule::split("encoder.blocks.{}.wqkv", APART, &[THREE_WIDTHS, WIDTH]).bias(),
                    Rule::new("multi_modal_projector.pre_norm", "mm.input_norm", &[WIDTH]).bias(),
                    Rule::new("multi_modal_projector.linear_1", "mm.1", &[SQUARE, SQUARE]).bias(),
                    Rule::new("multi_modal_projector.linear_2", "mm.2", &[TEXT_WIDTH, SQUARE])
                        .bias(),
                ],
            ],
            ..CLIP
        },
    }],
    types: &[],
};

pub(super) const KIMI_K25: Projector = Projector {
    classes: &["KimiK25ForConditionalGeneration", "Glm5vForConditionalGeneration"],
    name: "kimik25",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_tower.", "mm_projector."],
        prepare: merge_of_kernel,
        family: &Architecture {
            defaults: &[ModelDefaults {
                model_type: "moonvit3d",
                values: &[
                    &[
                        same("hidden_size", "vt_hidden_size"),
                        same("intermediate_size", "vt_intermediate_size"),
                        same("num_attention_heads", "vt_num_attention_heads"),
                    ],
                    DEFAULTS,
                    &[
                        with("image_size", |config| {
                            let side = HEIGHT.size(config)?;
                            Ok(Some(side.saturating_mul(config.require("patch_size")?).into()))
                        }),
                        count("init_pos_emb_time", 4),
                        same("layer_norm_eps", "projector_ln_eps"),
                        number("layer_norm_eps", 1e-5),
                    ],
                ],
                in_wrapper: &[],
            }],
            parameters: &[
                VISION,
                &[
                    Parameter::Constant("projector_type", Constant::Text("kimik25")),
                    Parameter::With(positions),
                ],
            ],
            wrappers: &["vision_tower."],
            endings: &[
                ("mm_projector.linear_1.weight", "mm_projector.proj.linear_1.weight"),
                ("mm_projector.linear_1.bias", "mm_projector.proj.linear_1.bias"),
                ("mm_projector.linear_2.weight", "mm_projector.proj.linear_2.weight"),
                ("mm_projector.linear_2.bias", "mm_projector.proj.linear_2.bias"),
                ("mm_projector.proj.0.weight", "mm_projector.proj.linear_1.weight"),
                ("mm_projector.proj.0.bias", "mm_projector.proj.linear_1.bias"),
                ("mm_projector.proj.2.weight", "mm_projector.proj.linear_2.weight"),
                ("mm_projector.proj.2.bias", "mm_projector.proj.linear_2.bias"),
            ],
            tensors: &[
                TOWER,
                &[
                    Rule::new("patch_embed.pos_emb", "v.position_embd", &[HEIGHT, BREADTH, WIDTH]),
                    Rule::new(
                        "encoder.blocks.{}.wqkv",
                        "v.blk.{}.attn_qkv",
                        &[THREE_WIDTHS, WIDTH],
                    )
                    .parts(HALVES)
                    .bias(),
                    Rule::new("mm_projector.pre_norm", "mm.input_norm", &[WIDTH]).bias(),
                    Rule::new("mm_projector.proj.linear_1", "mm.1", &[SQUARE, SQUARE]).bias(),
                    Rule::new("mm_projector.proj.linear_2", "mm.2", &[TEXT_WIDTH, SQUARE]).bias(),
                ],
            ],
            ..CLIP
        },
    }],
    types: &[],
};

const DEFAULTS: &[Default] = &[
    count("hidden_size", 1152),
    count("intermediate_size", 4304),
    count("num_hidden_layers", 27),
    count("num_attention_heads", 16),
    count("num_channels", 3),
    count("patch_size", 14),
    count("init_pos_emb_height", 64),
    count("init_pos_emb_width", 64),
    count(MERGE, 2),
];

const MERGE: &str = "patches that are merged";
const HEIGHT: Dim = Dim::Key("init_pos_emb_height");
const BREADTH: Dim = Dim::Key("init_pos_emb_width");
const SQUARE: Dim = Dim::Product(&[WIDTH, Dim::Key(MERGE), Dim::Key(MERGE)]);

/// Patches are merged by the same number in both directions.
fn merge_of_kernel(_: &Path, part: &mut Object) -> Result<()> {
    let first = part.get("merge_kernel_size").and_then(|sizes| sizes.get(0)).cloned();
    part.extend(first.map(|first| (MERGE.to_owned(), first)));
    Ok(())
}

const TOWER: &[Rule] = &[
    Rule::new("patch_embed.proj", "v.patch_embd", &[WIDTH, CHANNELS, PATCH, PATCH]).bias(),
    Rule::new("encoder.blocks.{}.norm0", "v.blk.{}.ln1", &[WIDTH]).bias(),
    Rule::new("encoder.blocks.{}.norm1", "v.blk.{}.ln2", &[WIDTH]).bias(),
    Rule::new("encoder.blocks.{}.wo", "v.blk.{}.attn_out", &[WIDTH, WIDTH]).bias(),
    Rule::new("encoder.blocks.{}.mlp.fc0", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
    Rule::new("encoder.blocks.{}.mlp.fc1", "v.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
    Rule::new("encoder.final_layernorm", "v.post_ln", &[WIDTH]).bias(),
];

const QUARTER: Dim = Dim::Derived("a quarter of a head", |config| {
    Ok(config.quotient("hidden_size", "num_attention_heads")? / 4)
});
/// Pairs of the two directions in turns become a half for each direction.
const TURN: [Step; 3] =
    [Step::Unfold(0, &[HEADS, QUARTER, TWO]), Step::Swap(1, 2), Step::Fold(0, 4)];
const HALVES: &[&[Step]] = &[
    &[Step::Narrow { axis: 0, from: None, len: WIDTH }, TURN[0], TURN[1], TURN[2]],
    &[Step::Narrow { axis: 0, from: Some(WIDTH), len: WIDTH }, TURN[0], TURN[1], TURN[2]],
    &[
        Step::Narrow { axis: 0, from: Some(Dim::Product(&[TWO, WIDTH])), len: WIDTH },
        Step::Fold(0, 1),
    ],
];

/// The grid of learned positions, and how many patches an image may have.
fn positions(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    for name in ["height", "width", "time"] {
        let count = config.require(&format!("init_pos_emb_{name}"))?;
        // As the reference's converter has it, without the name of the architecture.
        keys.set_global(
            &format!("vision.pos_emb_{name}"),
            u32::try_from(count).unwrap_or(u32::MAX),
        );
    }
    let activation = config.get("projector_hidden_act").and_then(Value::as_str).unwrap_or("gelu");
    keys.set("use_gelu", activation == "gelu");
    let epsilon = config.number("layer_norm_eps")?.unwrap_or(1e-5);
    keys.set_number("vision.attention.layer_norm_epsilon", epsilon);
    keys.set_count("vision.projector.scale_factor", config.require(MERGE)?);
    let patch = config.require("patch_size")?;
    let pixels = patch.saturating_mul(patch);
    let most = config.positive("preprocessor in_patch_limit")?.unwrap_or(16_384);
    for (key, patches) in [("vision.image_min_pixels", 8), ("vision.image_max_pixels", most)] {
        keys.set_count(key, pixels.saturating_mul(patches));
    }
    Ok(())
}
