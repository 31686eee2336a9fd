//! Step3-VL: a plain encoder with scales for each layer, two convolutions that put patches together.

use super::{Encoder, Kept, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, ModelDefaults,
    parameters::{Constant, Parameter},
    tensors::{Dim, Rule},
};

pub(super) const STEP3VL: Projector = Projector {
    classes: &["StepVLForConditionalGeneration", "Step3p7ForConditionalGeneration"],
    name: "step3vl",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_model.", "vit_large_projector."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[("mm.0.weight", Kept::Float), ("mm.1.weight", Kept::Float)],
};

const STRIDE: &str = "whole understand_projector_stride";
/// The widths behind the first and the second convolution: each takes every second patch.
const DOUBLE: Dim = Dim::Product(&[TWO, WIDTH]);
const FOURFOLD: Dim = Dim::Product(&[Dim::Number(4), WIDTH]);
const SIDE: Dim = Dim::Number(3);

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "",
        values: &[&[
            same("hidden_size", "width"),
            same("num_attention_heads", "heads"),
            count("num_channels", 3),
            with("intermediate_size", |config| {
                let ratio = config.number("mlp_ratio")?.unwrap_or(8960.0 / 1536.0);
                let inner = config.require("hidden_size")? as f64 * ratio;
                Ok(Some((inner.round_ties_even() as u64).into()))
            }),
            number("layer_norm_eps", 1e-5),
            with("preprocessor image_mean", |_| {
                Ok(Some(vec![0.481_454_66, 0.457_827_5, 0.408_210_73].into()))
            }),
            with("preprocessor image_std", |_| {
                Ok(Some(vec![0.268_629_54, 0.261_302_58, 0.275_777_11].into()))
            }),
        ]],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("step3vl")),
            EPSILON,
            Parameter::With(|config, keys| {
                let stride = config.require(STRIDE)?;
                keys.set_count("vision.projector.scale_factor", stride.saturating_mul(stride));
                Ok(())
            }),
            // Nowhere in a file, but in the code of the model.
            Parameter::Constant("vision.preproc_image_size", Constant::Count(3024)),
        ],
    ],
    wrappers: &["vision_model."],
    check: |config| match config.require(STRIDE)? {
        2 => Ok(()),
        other => {
            let expected = "2: llama.cpp knows no other distance between patches";
            Err(config.wrong("understand_projector_stride", &other.to_string(), expected))
        }
    },
    tensors: &[&[
        Rule::new("conv1", "v.patch_embd", &[WIDTH, CHANNELS, PATCH, PATCH]).maybe_bias(),
        Rule::exact("positional_embedding", "v.position_embd.weight", &[PATCHES, WIDTH]),
        Rule::new("ln_pre", "v.pre_ln", &[WIDTH]).bias(),
        Rule::new("ln_post", "v.post_ln", &[WIDTH]).bias().optional(),
        Rule::new("transformer.resblocks.{}.ln_1", "v.blk.{}.ln1", &[WIDTH]).bias(),
        Rule::new("transformer.resblocks.{}.ln_2", "v.blk.{}.ln2", &[WIDTH]).bias(),
        Rule::exact(
            "transformer.resblocks.{}.attn.in_proj_weight",
            "v.blk.{}.attn_qkv.weight",
            &[THREE_WIDTHS, WIDTH],
        ),
        Rule::exact(
            "transformer.resblocks.{}.attn.in_proj_bias",
            "v.blk.{}.attn_qkv.bias",
            &[THREE_WIDTHS],
        ),
        Rule::new("transformer.resblocks.{}.attn.out_proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH])
            .bias(),
        Rule::new("transformer.resblocks.{}.mlp.c_fc", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
        Rule::new("transformer.resblocks.{}.mlp.c_proj", "v.blk.{}.ffn_down", &[WIDTH, INNER])
            .bias(),
        Rule::exact("transformer.resblocks.{}.ls_1.gamma", "v.blk.{}.ls1.weight", &[WIDTH]),
        Rule::exact("transformer.resblocks.{}.ls_2.gamma", "v.blk.{}.ls2.weight", &[WIDTH]),
        Rule::new("vit_downsampler1", "mm.0", &[DOUBLE, WIDTH, SIDE, SIDE]).bias(),
        Rule::new("vit_downsampler2", "mm.1", &[FOURFOLD, DOUBLE, SIDE, SIDE]).bias(),
        Rule::new("vit_large_projector", "mm.model.fc", &[TEXT_WIDTH, FOURFOLD]),
    ]],
    ..CLIP
};
