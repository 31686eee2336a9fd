//! Whisper's encoder, as Qwen2-Audio, Ultravox, Voxtral and Audio Flamingo 3 have it.

use super::{Encoder, Kept, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, Default, ModelDefaults,
    parameters::{self, Constant, Parameter},
    tensors::{Dim, Rule, Step},
};

pub(super) const QWEN2_AUDIO: Projector = Projector {
    classes: &["Qwen2AudioForConditionalGeneration"],
    name: "qwen2a",
    encoders: &[Encoder {
        family: &Architecture {
            parameters: &[
                AUDIO,
                &[Parameter::Constant("projector_type", Constant::Text("qwen2a"))],
                AFTER,
            ],
            tensors: &[
                CONVOLUTIONS,
                LAYERS,
                ENDS,
                &[Rule::new("multi_modal_projector.linear", "mm.a.fc", &[TEXT_WIDTH, WIDTH])
                    .bias()],
            ],
            ..FAMILY
        },
        ..ENCODER
    }],
    types: &CONV,
};

pub(super) const VOXTRAL: Projector = Projector {
    classes: &["VoxtralForConditionalGeneration"],
    name: "voxtral",
    encoders: &[Encoder {
        family: &Architecture {
            parameters: &[
                AUDIO,
                &[Parameter::Constant("projector_type", Constant::Text("voxtral"))],
                AFTER,
                &[Parameter::Constant("audio.projector.stack_factor", Constant::Count(4))],
            ],
            tensors: &[
                CONVOLUTIONS,
                LAYERS,
                ENDS,
                &[
                    Rule::new("multi_modal_projector.linear_1", "mm.a.mlp.1", &[TEXT_WIDTH, INNER]),
                    Rule::new(
                        "multi_modal_projector.linear_2",
                        "mm.a.mlp.2",
                        &[TEXT_WIDTH, TEXT_WIDTH],
                    ),
                ],
            ],
            ..FAMILY
        },
        ..ENCODER
    }],
    types: &CONV,
};

pub(super) const AUDIO_FLAMINGO: Projector = Projector {
    classes: &["AudioFlamingo3ForConditionalGeneration"],
    name: "musicflamingo",
    encoders: &[Encoder {
        family: &Architecture {
            parameters: &[
                AUDIO,
                &[Parameter::Constant("projector_type", Constant::Text("musicflamingo"))],
                AFTER,
            ],
            tensors: &[
                CONVOLUTIONS,
                LAYERS,
                ENDS,
                &[
                    Rule::new("multi_modal_projector.linear_1", "mm.a.mlp.1", &[TEXT_WIDTH, WIDTH])
                        .maybe_bias(),
                    Rule::new(
                        "multi_modal_projector.linear_2",
                        "mm.a.mlp.2",
                        &[TEXT_WIDTH, TEXT_WIDTH],
                    )
                    .maybe_bias(),
                ],
            ],
            ..FAMILY
        },
        ..ENCODER
    }],
    // Trained in BF16, whose values half precision may not hold.
    types: &[("a.conv1d.", Kept::F32)],
};

pub(super) const ULTRAVOX: Projector = Projector {
    classes: &["UltravoxModel"],
    name: "ultravox",
    encoders: &[Encoder {
        family: &Architecture {
            parameters: &[
                AUDIO,
                &[Parameter::Constant("projector_type", Constant::Text("ultravox"))],
                AFTER,
                &[parameters::required("audio.projector.stack_factor", &[STACK])],
            ],
            tensors: &[
                CONVOLUTIONS,
                LAYERS,
                ENDS,
                &[
                    Rule::new("multi_modal_projector.ln_pre", "mm.a.norm_pre", &[STACKED]),
                    Rule::new("multi_modal_projector.linear_1", "mm.a.mlp.1", &[MIDDLE, STACKED]),
                    // The gate takes half of it.
                    Rule::new("multi_modal_projector.ln_mid", "mm.a.norm_mid", &[HALF]),
                    Rule::new("multi_modal_projector.linear_2", "mm.a.mlp.2", &[LAST, HALF]),
                ],
            ],
            ..FAMILY
        },
        ..ENCODER
    }],
    types: &CONV,
};

const STACK: &str = "whole stack_factor";
const STACKED: Dim = Dim::Product(&[WIDTH, Dim::Key(STACK)]);
// What the projector is as wide as, config.json does not say.
const MIDDLE: Dim = Dim::Key("multi_modal_projector_linear_1_weight rows");
const LAST: Dim = Dim::Key("multi_modal_projector_linear_2_weight rows");
const HALF: Dim = Dim::Derived("half of linear_1", |config| Ok(MIDDLE.size(config)? / 2));

const CONV: [(&str, Kept); 2] =
    [("a.conv1d.1.weight", Kept::F16), ("a.conv1d.2.weight", Kept::F16)];

const ENCODER: Encoder = Encoder {
    config: &["audio_config"],
    starts: &["audio_tower.", "multi_modal_projector."],
    prepare: nothing,
    family: &FAMILY,
};

const FAMILY: Architecture = Architecture {
    defaults: &[
        ModelDefaults { model_type: "qwen2_audio_encoder", values: &[LARGE], in_wrapper: &[] },
        ModelDefaults { model_type: "whisper", values: &[LARGE], in_wrapper: &[] },
    ],
    wrappers: &["model.audio_tower.", "audio_tower.", "model."],
    ..CLIP
};

/// Whisper's names for sizes, and what the encoders of these models assume.
pub(super) const LARGE: &[Default] = &[
    same("hidden_size", "d_model"),
    count("hidden_size", 1280),
    same("intermediate_size", "encoder_ffn_dim"),
    count("intermediate_size", 5120),
    same("num_attention_heads", "encoder_attention_heads"),
    count("num_attention_heads", 20),
    count("num_hidden_layers", 32),
    count("num_mel_bins", 128),
    count("max_source_positions", 1500),
    number("layer_norm_eps", 1e-5),
];

/// What is written of every encoder of sound.
pub(super) const AUDIO: &[Parameter] = &[
    Parameter::FileType,
    Parameter::Constant("has_audio_encoder", Constant::Flag(true)),
    parameters::required("audio.projection_dim", &[TEXT_WIDTH_KEY]),
    parameters::required("audio.embedding_length", &["hidden_size"]),
    parameters::required("audio.feed_forward_length", &["intermediate_size"]),
    parameters::required("audio.block_count", &["num_hidden_layers"]),
    parameters::required("audio.attention.head_count", &["num_attention_heads"]),
];

pub(super) const AFTER: &[Parameter] = &[
    parameters::required("audio.num_mel_bins", &["num_mel_bins"]),
    parameters::required_number("audio.attention.layer_norm_epsilon", &["layer_norm_eps"]),
];

/// A bias in the shape in which it is added to what comes out of a convolution.
const COLUMN: &[&[Step]] = &[&[Step::Unfold(0, &[WIDTH])]];

/// Two convolutions over time.
pub(super) const CONVOLUTIONS: &[Rule] = &[
    Rule::exact(
        "conv1.weight",
        "a.conv1d.1.weight",
        &[WIDTH, Dim::Key("num_mel_bins"), Dim::Number(3)],
    ),
    Rule::exact("conv1.bias", "a.conv1d.1.bias", &[WIDTH]).parts(COLUMN),
    Rule::exact("conv2.weight", "a.conv1d.2.weight", &[WIDTH, WIDTH, Dim::Number(3)]),
    Rule::exact("conv2.bias", "a.conv1d.2.bias", &[WIDTH]).parts(COLUMN),
];

/// Layers below the name of the tower.
pub(super) const LAYERS: &[Rule] = &[
    Rule::new("layers.{}.self_attn_layer_norm", "a.blk.{}.ln1", &[WIDTH]).bias(),
    Rule::new("layers.{}.final_layer_norm", "a.blk.{}.ln2", &[WIDTH]).bias(),
    Rule::new("layers.{}.self_attn.q_proj", "a.blk.{}.attn_q", &[WIDTH, WIDTH]).bias(),
    Rule::new("layers.{}.self_attn.k_proj", "a.blk.{}.attn_k", &[WIDTH, WIDTH]).maybe_bias(),
    Rule::new("layers.{}.self_attn.v_proj", "a.blk.{}.attn_v", &[WIDTH, WIDTH]).bias(),
    Rule::new("layers.{}.self_attn.out_proj", "a.blk.{}.attn_out", &[WIDTH, WIDTH]).bias(),
    Rule::new("layers.{}.fc1", "a.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
    Rule::new("layers.{}.fc2", "a.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
];

/// Learned positions and the last norm.
const ENDS: &[Rule] = &[
    Rule::new("embed_positions", "a.position_embd", &[Dim::Key("max_source_positions"), WIDTH]),
    Rule::new("layer_norm", "a.post_ln", &[WIDTH]).bias(),
];
