//! Qwen2.5-Omni, Qwen3-Omni and Qwen3-ASR: an encoder of images and one of sound, or that of sound alone.

use super::{Encoder, Kept, Projector, nothing, qwen2vl, qwen3vl, shared::*, whisper};
use crate::{
    Config, Result,
    architectures::{
        Architecture, ModelDefaults,
        parameters::{Constant, Keys, Parameter},
        tensors::{Dim, Rule, Step},
    },
    model::{Tensor, TensorData},
};

pub(super) const QWEN2_5_OMNI: Projector = Projector {
    classes: &["Qwen2_5OmniModel"],
    name: "qwen2.5o",
    encoders: &[
        Encoder { family: &Architecture { parameters: &[VISION], ..WINDOWED }, ..IMAGES },
        Encoder {
            family: &Architecture {
                parameters: &[
                    whisper::AUDIO,
                    whisper::AFTER,
                    &[Parameter::Constant("projector_type", Constant::Text("qwen2.5o"))],
                ],
                tensors: &[
                    whisper::CONVOLUTIONS,
                    whisper::LAYERS,
                    END,
                    &[
                        Rule::new("proj", "mm.a.fc", &[TEXT_WIDTH, WIDTH]).bias(),
                        Rule::left_out("audio_bos_eos_token", "the model does not use them"),
                    ],
                ],
                ..SOUND
            },
            ..SOUNDS
        },
        Encoder {
            family: &Architecture {
                parameters: &[&[USE_SILU, Parameter::With(pattern), EPSILON]],
                tensors: &[],
                ..WINDOWED
            },
            ..IMAGES
        },
    ],
    types: &[("a.conv1d.1.weight", Kept::F16), ("a.conv1d.2.weight", Kept::F16)],
};

pub(super) const QWEN3_OMNI: Projector = Projector {
    classes: &["Qwen3OmniMoeForConditionalGeneration", "Qwen3ASRForConditionalGeneration"],
    name: "qwen3a",
    encoders: &[
        Encoder { family: &Architecture { parameters: &[VISION], ..DEEP }, ..IMAGES },
        Encoder {
            family: &Architecture {
                parameters: &[whisper::AUDIO, whisper::AFTER],
                tensors: &[
                    whisper::LAYERS,
                    END,
                    &[
                        Rule::exact(
                            "conv2d1.weight",
                            "a.conv2d.1.weight",
                            &[INSIDE, ONE, SIDE, SIDE],
                        ),
                        Rule::exact("conv2d1.bias", "a.conv2d.1.bias", &[INSIDE]).parts(PLANE),
                        Rule::exact("conv2d2.weight", "a.conv2d.2.weight", SQUARES),
                        Rule::exact("conv2d2.bias", "a.conv2d.2.bias", &[INSIDE]).parts(PLANE),
                        Rule::exact("conv2d3.weight", "a.conv2d.3.weight", SQUARES),
                        Rule::exact("conv2d3.bias", "a.conv2d.3.bias", &[INSIDE]).parts(PLANE),
                        Rule::new("conv_out", "a.conv_out", &[WIDTH, FREQUENCIES]).maybe_bias(),
                        Rule::new("proj1", "mm.a.mlp.1", &[WIDTH, WIDTH]).bias(),
                        Rule::new("proj2", "mm.a.mlp.2", &[TEXT_WIDTH, WIDTH]).bias(),
                    ],
                ],
                ..SOUND
            },
            ..SOUNDS
        },
        Encoder {
            family: &Architecture {
                parameters: &[
                    qwen3vl::AFTER,
                    &[Parameter::Constant(
                        "vision.projector_type",
                        Constant::Text("qwen3vl_merger"),
                    )],
                ],
                tensors: &[],
                ..DEEP
            },
            ..IMAGES
        },
        Encoder {
            family: &Architecture {
                parameters: &[&[Parameter::Constant(
                    "audio.projector_type",
                    Constant::Text("qwen3a"),
                )]],
                tensors: &[],
                ..SOUND
            },
            ..SOUNDS
        },
    ],
    types: &[
        ("a.conv2d.1.weight", Kept::F16),
        ("a.conv2d.2.weight", Kept::F16),
        ("a.conv2d.3.weight", Kept::F16),
        ("a.conv_out.weight", Kept::F16),
    ],
};

const IMAGES: Encoder = Encoder {
    config: &["thinker_config", "vision_config"],
    starts: &["thinker.visual.", "visual."],
    prepare: nothing,
    family: &DEEP,
};

const SOUNDS: Encoder = Encoder {
    config: &["thinker_config", "audio_config"],
    starts: &["thinker.audio_tower.", "audio_tower."],
    prepare: nothing,
    family: &SOUND,
};

/// Qwen2.5-VL's encoder, with matrices of their own for queries, keys and values.
const WINDOWED: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "qwen2_5_omni_vision_encoder",
        values: &[qwen2vl::WINDOWED, qwen2vl::COMMON_SIZES, qwen2vl::COMMON],
        in_wrapper: &[],
    }],
    wrappers: &["thinker.visual.", "visual."],
    tensors: &[
        qwen2vl::AROUND,
        qwen2vl::GATED,
        &[
            Rule::new("blocks.{}.attn.q", "v.blk.{}.attn_q", &[WIDTH, WIDTH]).bias(),
            Rule::new("blocks.{}.attn.k", "v.blk.{}.attn_k", &[WIDTH, WIDTH]).bias(),
            Rule::new("blocks.{}.attn.v", "v.blk.{}.attn_v", &[WIDTH, WIDTH]).bias(),
        ],
    ],
    ..qwen2vl::FAMILY
};

/// Qwen3-VL's encoder, with Qwen2-VL's names for what is behind it.
const DEEP: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "qwen3_omni_moe_vision_encoder",
        values: &[qwen3vl::DEEP, qwen3vl::DEFAULTS],
        in_wrapper: &[],
    }],
    wrappers: &["thinker.visual.", "model.visual.", "visual."],
    rename: |config, name| {
        let (start, rest) = match name.strip_prefix("merger_list.") {
            Some(merger) => {
                let (number, rest) = merger.split_once('.')?;
                (format!("deepstack.{}", qwen3vl::numbered(config, number)?), rest)
            }
            None => ("merger".to_owned(), name.strip_prefix("merger.")?),
        };
        let (part, end) = rest.rsplit_once('.')?;
        let part = match part {
            "ln_q" => "norm",
            "mlp.0" => "linear_fc1",
            "mlp.2" => "linear_fc2",
            other => other,
        };
        Some(format!("{start}.{part}.{end}"))
    },
    ..qwen3vl::FAMILY
};

const SOUND: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "qwen3_omni_moe_audio_encoder",
        values: &[whisper::LARGE, &[count("downsample_hidden_size", 480)]],
        in_wrapper: &[],
    }],
    wrappers: &["thinker.audio_tower.", "audio_tower."],
    check: |config| {
        let width = config.require("hidden_size")?;
        if width < 4 || width % 2 == 1 {
            return Err(config.wrong("d_model", &width.to_string(), "an even number from 4 on"));
        }
        Ok(())
    },
    computed: positions,
    ..CLIP
};

/// The norm after the layers.
const END: &[Rule] = &[Rule::new("ln_post", "a.post_ln", &[WIDTH]).bias()];

const ONE: Dim = Dim::Number(1);
const SIDE: Dim = Dim::Number(3);
const INSIDE: Dim = Dim::Key("downsample_hidden_size");
const SQUARES: &[Dim] = &[INSIDE, INSIDE, SIDE, SIDE];
/// What three convolutions leave of the frequencies, each of which takes every second.
const FREQUENCIES: Dim = Dim::Product(&[
    INSIDE,
    Dim::Derived("frequencies after the convolutions", |config| {
        Ok((0..3).fold(config.require("num_mel_bins")?, |bins, _| bins.div_ceil(2)))
    }),
]);
/// A bias in the shape in which it is added to what comes out of a convolution.
const PLANE: &[&[Step]] = &[&[Step::Unfold(0, &[INSIDE, ONE])]];

/// Positions, which the model computes and no checkpoint holds: sines, then cosines, at each of 1500
/// moments.
fn positions(config: &Config, _: &mut Keys<'_>) -> Result<Vec<Tensor>> {
    const MOMENTS: u16 = 1500;
    let width = config.require("hidden_size")?;
    let half = u32::try_from(width / 2).unwrap_or(u32::MAX);
    // In the single precision in which the model computes them.
    let step = -(10_000f64.ln() / (f64::from(half) - 1.0)) as f32;
    let speeds: Vec<f32> = (0..half).map(|i| f64::from(step * i as f32).exp() as f32).collect();
    let angles = |moment: u16| speeds.iter().map(move |speed| f64::from(f32::from(moment) * speed));
    let values = (0..MOMENTS)
        .flat_map(|moment| angles(moment).map(f64::sin).chain(angles(moment).map(f64::cos)))
        .map(|value| value as f32)
        .collect();
    Ok(vec![Tensor {
        name: "a.position_embd.weight".into(),
        shape: vec![width, MOMENTS.into()],
        data: TensorData::Computed(values),
    }])
}
