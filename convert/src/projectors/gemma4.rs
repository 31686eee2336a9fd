//! Gemma 4: an encoder of images and, in the smaller models, one of sound, a conformer.

use super::{Encoder, Kept, Projector, nothing, shared::*, whisper::AUDIO};
use crate::architectures::{
    Architecture, Default, Fill, ModelDefaults,
    parameters::{self, Constant, Parameter},
    tensors::{Dim, Rule, Step},
};

pub(super) const GEMMA4: Projector = Projector {
    classes: &["Gemma4ForConditionalGeneration"],
    name: "gemma4v",
    encoders: &[
        IMAGES,
        SOUNDS,
        Encoder {
            family: &Architecture {
                parameters: &[&[
                    Parameter::Constant("vision.projector_type", Constant::Text("gemma4v")),
                    EPSILON,
                ]],
                tensors: &[],
                ..SIGHT
            },
            ..IMAGES
        },
        Encoder {
            family: &Architecture {
                parameters: &[&[
                    Parameter::Constant("audio.projector_type", Constant::Text("gemma4a")),
                    parameters::required("audio.num_mel_bins", &["input_feat_size"]),
                    parameters::required_number(
                        "audio.attention.layer_norm_epsilon",
                        &["layer_norm_eps"],
                    ),
                ]],
                tensors: &[],
                ..HEARING
            },
            ..SOUNDS
        },
    ],
    types: &[
        ("a.conv1d.", Kept::F32),
        ("a.input_projection.weight", Kept::F32),
        (".conv_dw.weight", Kept::F32),
    ],
};

const IMAGES: Encoder = Encoder {
    config: &["vision_config"],
    starts: &["vision_tower.", "embed_vision."],
    prepare: nothing,
    family: &SIGHT,
};

const SOUNDS: Encoder = Encoder {
    config: &["audio_config"],
    starts: &["audio_tower.", "embed_audio."],
    prepare: nothing,
    family: &HEARING,
};

/// A matrix, and between which values its input and its output are clipped where they are.
macro_rules! clipped {
    ($source:literal, $target:literal, $shape:expr) => {
        &[
            Rule::exact(concat!($source, ".linear.weight"), concat!($target, ".weight"), $shape),
            Rule::exact(concat!($source, ".input_min"), concat!($target, ".input_min"), ONE)
                .optional(),
            Rule::exact(concat!($source, ".input_max"), concat!($target, ".input_max"), ONE)
                .optional(),
            Rule::exact(concat!($source, ".output_min"), concat!($target, ".output_min"), ONE)
                .optional(),
            Rule::exact(concat!($source, ".output_max"), concat!($target, ".output_max"), ONE)
                .optional(),
        ]
    };
}

const ONE: &[Dim] = &[Dim::Number(1)];
const HEAD: Dim = Dim::Key("head_dim");
const QUERIES: Dim = Dim::Product(&[HEADS, HEAD]);
const KEYS: Dim = Dim::Product(&[Dim::Key("num_key_value_heads"), HEAD]);

/// What both encoders assume.
const EPSILONS: &[Default] = &[number("layer_norm_eps", 1e-6)];

const SIGHT: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "gemma4_vision",
        values: &[
            &[
                count("hidden_size", 768),
                count("intermediate_size", 3072),
                count("num_hidden_layers", 16),
                count("num_attention_heads", 12),
                same("num_key_value_heads", "num_attention_heads"),
                count("head_dim", 64),
                count("num_channels", 3),
                count("patch_size", 16),
                count("position_embedding_size", 10_240),
                // No image has this size, engines want a number.
                always("image_size", Fill::Whole(224)),
            ],
            EPSILONS,
        ],
        in_wrapper: &[],
    }],
    parameters: &[VISION],
    wrappers: &["model.vision_tower.", "vision_tower.", "model."],
    tensors: &[
        &[
            Rule::exact(
                "patch_embedder.position_embedding_table",
                "v.position_embd.weight",
                &[TWO, Dim::Key("position_embedding_size"), WIDTH],
            ),
            Rule::new(
                "patch_embedder.input_proj",
                "v.patch_embd",
                &[WIDTH, Dim::Product(&[PATCH, PATCH, CHANNELS])],
            )
            .parts(COLOURS_FIRST),
            Rule::new("encoder.layers.{}.self_attn.q_norm", "v.blk.{}.attn_q_norm", &[HEAD]),
            Rule::new("encoder.layers.{}.self_attn.k_norm", "v.blk.{}.attn_k_norm", &[HEAD]),
            Rule::new("encoder.layers.{}.input_layernorm", "v.blk.{}.ln1", &[WIDTH]),
            Rule::new(
                "encoder.layers.{}.post_attention_layernorm",
                "v.blk.{}.attn_post_norm",
                &[WIDTH],
            ),
            Rule::new("encoder.layers.{}.pre_feedforward_layernorm", "v.blk.{}.ln2", &[WIDTH]),
            Rule::new(
                "encoder.layers.{}.post_feedforward_layernorm",
                "v.blk.{}.ffn_post_norm",
                &[WIDTH],
            ),
            Rule::exact("std_bias", "v.std_bias", &[WIDTH]).if_true("standardize"),
            Rule::exact("std_scale", "v.std_scale", &[WIDTH]).if_true("standardize"),
            Rule::new(
                "embed_vision.embedding_projection",
                "mm.input_projection",
                &[TEXT_WIDTH, WIDTH],
            ),
        ],
        clipped!("encoder.layers.{}.self_attn.q_proj", "v.blk.{}.attn_q", &[QUERIES, WIDTH]),
        clipped!("encoder.layers.{}.self_attn.k_proj", "v.blk.{}.attn_k", &[KEYS, WIDTH]),
        clipped!("encoder.layers.{}.self_attn.v_proj", "v.blk.{}.attn_v", &[KEYS, WIDTH]),
        clipped!("encoder.layers.{}.self_attn.o_proj", "v.blk.{}.attn_out", &[WIDTH, QUERIES]),
        clipped!("encoder.layers.{}.mlp.gate_proj", "v.blk.{}.ffn_gate", &[INNER, WIDTH]),
        clipped!("encoder.layers.{}.mlp.up_proj", "v.blk.{}.ffn_up", &[INNER, WIDTH]),
        clipped!("encoder.layers.{}.mlp.down_proj", "v.blk.{}.ffn_down", &[WIDTH, INNER]),
    ],
    ..CLIP
};

const HEARING: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "gemma4_audio",
        values: &[
            &[
                count("hidden_size", 1024),
                always("intermediate_size", Fill::Size(INNER_OF_SOUND)),
                count("num_hidden_layers", 12),
                count("num_attention_heads", 8),
                count("conv_kernel_size", 5),
                count("output_proj_dims", 1536),
                count("input_feat_size", 128),
                with("subsampling_conv_channels", |_| Ok(Some(vec![128, 32].into()))),
            ],
            EPSILONS,
        ],
        in_wrapper: &[],
    }],
    parameters: &[AUDIO],
    wrappers: &["model.audio_tower.", "audio_tower.", "model."],
    tensors: &[
        &[
            Rule::new(
                "subsample_conv_projection.layer0.conv",
                "a.conv1d.0",
                &[FIRST, Dim::Number(1), SIDE, SIDE],
            ),
            Rule::new("subsample_conv_projection.layer0.norm", "a.conv1d.0.norm", &[FIRST]),
            Rule::new(
                "subsample_conv_projection.layer1.conv",
                "a.conv1d.1",
                &[SECOND, FIRST, SIDE, SIDE],
            ),
            Rule::new("subsample_conv_projection.layer1.norm", "a.conv1d.1.norm", &[SECOND]),
            Rule::new(
                "subsample_conv_projection.input_proj_linear",
                "a.input_projection",
                &[WIDTH, Dim::Product(&[QUARTER, SECOND])],
            ),
            Rule::new("layers.{}.feed_forward1.pre_layer_norm", "a.blk.{}.ffn_norm", &[WIDTH]),
            Rule::new(
                "layers.{}.feed_forward1.post_layer_norm",
                "a.blk.{}.ffn_post_norm",
                &[WIDTH],
            ),
            Rule::new("layers.{}.feed_forward2.pre_layer_norm", "a.blk.{}.ffn_norm_1", &[WIDTH]),
            Rule::new(
                "layers.{}.feed_forward2.post_layer_norm",
                "a.blk.{}.ffn_post_norm_1",
                &[WIDTH],
            ),
            Rule::exact(
                "layers.{}.self_attn.per_dim_scale",
                "a.blk.{}.per_dim_scale.weight",
                &[HEAD_OF_SOUND],
            )
            .softplus(),
            Rule::new(
                "layers.{}.self_attn.relative_k_proj",
                "a.blk.{}.attn_k_rel",
                &[WIDTH, WIDTH],
            ),
            Rule::new(
                "layers.{}.lconv1d.depthwise_conv1d",
                "a.blk.{}.conv_dw",
                &[WIDTH, Dim::Number(1), Dim::Key("conv_kernel_size")],
            )
            .parts(&[&[Step::Fold(0, 2)]]),
            Rule::new("layers.{}.lconv1d.pre_layer_norm", "a.blk.{}.conv_norm", &[WIDTH]),
            Rule::new("layers.{}.lconv1d.conv_norm", "a.blk.{}.norm_conv", &[WIDTH]),
            Rule::new("layers.{}.norm_pre_attn", "a.blk.{}.attn_pre_norm", &[WIDTH]),
            Rule::new("layers.{}.norm_post_attn", "a.blk.{}.attn_post_norm", &[WIDTH]),
            Rule::new("layers.{}.norm_out", "a.blk.{}.ln2", &[WIDTH]),
            Rule::new("output_proj", "a.pre_encode.out", &[OUTPUT, WIDTH]).bias(),
            Rule::new(
                "embed_audio.embedding_projection",
                "mm.a.input_projection",
                &[TEXT_WIDTH, OUTPUT],
            ),
        ],
        clipped!("layers.{}.feed_forward1.ffw_layer_1", "a.blk.{}.ffn_up", &[INNER, WIDTH]),
        clipped!("layers.{}.feed_forward1.ffw_layer_2", "a.blk.{}.ffn_down", &[WIDTH, INNER]),
        clipped!("layers.{}.feed_forward2.ffw_layer_1", "a.blk.{}.ffn_up_1", &[INNER, WIDTH]),
        clipped!("layers.{}.feed_forward2.ffw_layer_2", "a.blk.{}.ffn_down_1", &[WIDTH, INNER]),
        clipped!("layers.{}.self_attn.q_proj", "a.blk.{}.attn_q", &[WIDTH, WIDTH]),
        clipped!("layers.{}.self_attn.k_proj", "a.blk.{}.attn_k", &[WIDTH, WIDTH]),
        clipped!("layers.{}.self_attn.v_proj", "a.blk.{}.attn_v", &[WIDTH, WIDTH]),
        clipped!("layers.{}.self_attn.post", "a.blk.{}.attn_out", &[WIDTH, WIDTH]),
        clipped!("layers.{}.lconv1d.linear_start", "a.blk.{}.conv_pw1", &[DOUBLE, WIDTH]),
        clipped!("layers.{}.lconv1d.linear_end", "a.blk.{}.conv_pw2", &[WIDTH, WIDTH]),
    ],
    ..CLIP
};

const SIDE: Dim = Dim::Number(3);
const DOUBLE: Dim = Dim::Product(&[TWO, WIDTH]);
const INNER_OF_SOUND: Dim = Dim::Product(&[Dim::Number(4), WIDTH]);
const OUTPUT: Dim = Dim::Key("output_proj_dims");
const HEAD_OF_SOUND: Dim = Dim::Derived("size of a head of sound", |config| {
    config.quotient("hidden_size", "num_attention_heads")
});
const CHANNELS_OF_SOUND: &str = "subsampling_conv_channels";
const FIRST: Dim = Dim::Derived("first of subsampling_conv_channels", |config| {
    config.require_in(CHANNELS_OF_SOUND, Some(0))
});
const SECOND: Dim = Dim::Derived("second of subsampling_conv_channels", |config| {
    config.require_in(CHANNELS_OF_SOUND, Some(1))
});
const QUARTER: Dim =
    Dim::Derived("a quarter of the first of subsampling_conv_channels", |config| {
        Ok(FIRST.size(config)? / 4)
    });
