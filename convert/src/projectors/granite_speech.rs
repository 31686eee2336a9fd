//! Granite Speech: a conformer, and a transformer of queries that carries its output into the text model.

use std::path::Path;

use serde_json::Value;

use super::{Encoder, Kept, Projector, shared::*, whisper::AUDIO};
use crate::{
    Config, Result,
    architectures::{
        Architecture, Fill, ModelDefaults,
        parameters::{self, Constant, Parameter},
        tensors::{Dim, Rule, Step, Target},
    },
    json::Object,
};

pub(super) const GRANITE_SPEECH: Projector = Projector {
    classes: &[
        "GraniteSpeechForConditionalGeneration",
        "GraniteSpeechPlusForConditionalGeneration",
    ],
    name: "granite_speech",
    encoders: &[Encoder {
        config: &["encoder_config"],
        starts: &["encoder.", "projector."],
        prepare: queries,
        family: &FAMILY,
    }],
    types: &[(".conv_", Kept::F32)],
};

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "granite_speech_encoder",
        values: &[&[
            same("hidden_size", "hidden_dim"),
            count("hidden_size", 1024),
            count("feedforward_mult", 4),
            always("intermediate_size", Fill::Size(INSIDE)),
            same("num_attention_heads", "num_heads"),
            count("num_attention_heads", 8),
            count("num_hidden_layers", 10),
            count("dim_head", 128),
            count("input_dim", 160),
            count("output_dim", 42),
            count("context_size", 200),
            count("conv_kernel_size", 15),
            count("conv_expansion_factor", 2),
            count("max_pos_emb", 512),
            count(WINDOW, 15),
            count(RATE, 5),
            count("queries hidden_size", 768),
            count("queries encoder_hidden_size", 1408),
            count("queries intermediate_size", 3072),
            count("queries num_attention_heads", 12),
            count(QUERY_LAYERS, 12),
            count(EVERY, 2),
        ]],
        in_wrapper: &[],
    }],
    parameters: &[
        AUDIO,
        &[
            Parameter::Constant("projector_type", Constant::Text("granite_speech")),
            parameters::required("audio.num_mel_bins", &["input_dim"]),
            Parameter::Constant("audio.attention.layer_norm_epsilon", Constant::Number(1e-5)),
            parameters::required("audio.chunk_size", &["context_size"]),
            parameters::required("audio.conv_kernel_size", &["conv_kernel_size"]),
            parameters::required("audio.max_pos_emb", &["max_pos_emb"]),
            parameters::required("audio.projector.window_size", &[WINDOW]),
            parameters::required("audio.projector.downsample_rate", &[RATE]),
            parameters::required("audio.projector.head_count", &["queries num_attention_heads"]),
            Parameter::With(|config, keys| {
                if let Some(layers) = more_layers(config)?.filter(|layers| !layers.is_empty()) {
                    keys.set("audio.feature_layer", layers);
                }
                Ok(())
            }),
        ],
    ],
    wrappers: &["model."],
    check: |config| {
        if let Some(layers) = more_layers(config)? {
            let wanted = config.require("hidden_size")?.saturating_mul(layers.len() as u64 + 1);
            let found = config.require("queries encoder_hidden_size")?;
            if found != wanted {
                let expected =
                    format!("{wanted}: the encoder's output and those of cat_hidden_layers");
                let key = "projector_config.encoder_hidden_size";
                return Err(config.wrong(key, &found.to_string(), &expected));
            }
        }
        Ok(())
    },
    tensors: &[ENCODER, NORM, NORM_OF_REFERENCE, QUERIES],
    ..CLIP
};

/// The configuration of the transformer of queries is beside that of the encoder.
fn queries(_: &Path, part: &mut Object) -> Result<()> {
    let block = part.get("whole projector_config").and_then(Value::as_object).cloned();
    let block = block.unwrap_or_default().into_iter();
    part.extend(block.map(|(key, value)| (format!("queries {key}"), value)));
    Ok(())
}

/// The layers whose output goes to the queries beside that of the last.
fn more_layers(config: &Config) -> Result<Option<Vec<i32>>> {
    const KEY: &str = "cat_hidden_layers";
    let Some(value) = config.get(KEY) else { return Ok(None) };
    let number = |value: &Value| value.as_i64().and_then(|number| i32::try_from(number).ok());
    let layers: Option<Vec<i32>> =
        value.as_array().and_then(|layers| layers.iter().map(number).collect());
    let wrong = || config.wrong(KEY, &crate::json::describe(value), "a list of layers");
    layers.map(Some).ok_or_else(wrong)
}

const WINDOW: &str = "whole window_size";
const RATE: &str = "whole downsample_rate";
const QUERY_LAYERS: &str = "queries num_hidden_layers";
const EVERY: &str = "queries cross_attention_frequency";

const INSIDE: Dim = Dim::Product(&[WIDTH, Dim::Key("feedforward_mult")]);
const ONE: Dim = Dim::Number(1);
const ATTENTION: Dim = Dim::Product(&[HEADS, Dim::Key("dim_head")]);
const TWO_ATTENTIONS: Dim = Dim::Product(&[TWO, ATTENTION]);
const WIDER: Dim = Dim::Product(&[WIDTH, Dim::Key("conv_expansion_factor")]);
const TWICE_WIDER: Dim = Dim::Product(&[TWO, WIDER]);
const OUTPUT: Dim = Dim::Key("output_dim");
const DISTANCES: Dim = Dim::Sum(&[Dim::Product(&[TWO, Dim::Key("max_pos_emb")]), ONE]);
const QUERY: Dim = Dim::Key("queries hidden_size");
const QUERY_INNER: Dim = Dim::Key("queries intermediate_size");
const SEEN: Dim = Dim::Key("queries encoder_hidden_size");
const COUNT: Dim = Dim::Derived("queries of a window", |config| config.quotient(WINDOW, RATE));

/// Keys and values, which are in one matrix.
const KEYS_AND_VALUES: &[Target] = &[
    Target {
        name: "a.blk.{}.attn_k",
        parts: &[&[Step::Narrow { axis: 0, from: None, len: ATTENTION }]],
    },
    Target {
        name: "a.blk.{}.attn_v",
        parts: &[&[Step::Narrow { axis: 0, from: Some(ATTENTION), len: ATTENTION }]],
    },
];

const TRAINING: &str = "only training needs it";

const ENCODER: &[Rule] = &[
    Rule::new("encoder.input_linear", "a.input_projection", &[WIDTH, Dim::Key("input_dim")]).bias(),
    Rule::new("encoder.layers.{}.ff1.pre_norm", "a.blk.{}.ffn_norm", &[WIDTH]).bias(),
    Rule::new("encoder.layers.{}.ff1.up_proj", "a.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
    Rule::new("encoder.layers.{}.ff1.down_proj", "a.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
    Rule::new("encoder.layers.{}.ff2.pre_norm", "a.blk.{}.ffn_norm_1", &[WIDTH]).bias(),
    Rule::new("encoder.layers.{}.ff2.up_proj", "a.blk.{}.ffn_up_1", &[INNER, WIDTH]).bias(),
    Rule::new("encoder.layers.{}.ff2.down_proj", "a.blk.{}.ffn_down_1", &[WIDTH, INNER]).bias(),
    Rule::new("encoder.layers.{}.attn.pre_norm", "a.blk.{}.ln1", &[WIDTH]).bias(),
    Rule::new("encoder.layers.{}.attn.to_q", "a.blk.{}.attn_q", &[ATTENTION, WIDTH]),
    Rule::split("encoder.layers.{}.attn.to_kv", KEYS_AND_VALUES, &[TWO_ATTENTIONS, WIDTH]),
    Rule::new("encoder.layers.{}.attn.to_out", "a.blk.{}.attn_out", &[WIDTH, ATTENTION]).bias(),
    Rule::exact(
        "encoder.layers.{}.attn.rel_pos_emb.weight",
        "a.blk.{}.attn_rel_pos_emb",
        &[DISTANCES, Dim::Key("dim_head")],
    ),
    Rule::new("encoder.layers.{}.conv.norm", "a.blk.{}.norm_conv", &[WIDTH]).bias(),
    Rule::new("encoder.layers.{}.conv.up_conv", "a.blk.{}.conv_pw1", &[TWICE_WIDER, WIDTH, ONE])
        .parts(&[&[Step::Fold(1, 2)]])
        .bias(),
    Rule::new(
        "encoder.layers.{}.conv.depth_conv.conv",
        "a.blk.{}.conv_dw",
        &[WIDER, ONE, Dim::Key("conv_kernel_size")],
    )
    .parts(&[&[Step::Fold(0, 2)]]),
    Rule::new("encoder.layers.{}.conv.down_conv", "a.blk.{}.conv_pw2", &[WIDTH, WIDER, ONE])
        .parts(&[&[Step::Fold(1, 2)]])
        .bias(),
    Rule::left_out("encoder.layers.{}.conv.batch_norm.num_batches_tracked", TRAINING),
    Rule::left_out("encoder.layers.{}.attn.attention_dists", "it follows from positions"),
    Rule::new("encoder.layers.{}.post_norm", "a.blk.{}.ln2", &[WIDTH]).bias(),
    Rule::new("encoder.out", "a.enc_ctc_out", &[OUTPUT, WIDTH]).bias(),
    Rule::new("encoder.out_mid", "a.enc_ctc_out_mid", &[WIDTH, OUTPUT]).bias(),
];

/// A batch norm under a name in the output.
macro_rules! batch_norm {
    ($target:literal, $when:expr) => {
        &[
            Rule::new("encoder.layers.{}.conv.batch_norm", $target, &[WIDER]).bias().when($when),
            Rule::exact(
                "encoder.layers.{}.conv.batch_norm.running_mean",
                concat!($target, ".running_mean"),
                &[WIDER],
            )
            .when($when),
            Rule::exact(
                "encoder.layers.{}.conv.batch_norm.running_var",
                concat!($target, ".running_var"),
                &[WIDER],
            )
            .when($when),
        ]
    };
}

const NORM: &[Rule] = batch_norm!("a.blk.{}.conv_norm", |config| Ok(!config.like_reference()));
/// The reference's converter takes its name for that of a variance: engines load no such file.
const NORM_OF_REFERENCE: &[Rule] =
    batch_norm!("a.blk.{}.conv_norm_var", |config| Ok(config.like_reference()));

/// A matrix of the transformer of queries, by its names after those of the layers.
macro_rules! query {
    ($source:literal, $target:literal, $shape:expr) => {
        Rule::new(
            concat!("projector.qformer.encoder.layer.{}.", $source),
            concat!("a.proj_blk.{}.", $target),
            $shape,
        )
        .bias()
        .counted(QUERY_LAYERS)
    };
}

/// Whether queries look at sound in this layer.
fn crosses(config: &Config, layer: u64) -> bool {
    let every = config.require(EVERY).unwrap_or(1);
    layer.checked_rem(every) == Some(0)
}

const QUERIES: &[Rule] = &[
    Rule::exact("projector.query", "a.proj_query", &[ONE, COUNT, QUERY]),
    Rule::new("projector.qformer.layernorm", "a.proj_norm", &[QUERY]).bias(),
    Rule::new("projector.linear", "a.proj_linear", &[TEXT_WIDTH, QUERY]).bias(),
    query!("attention.attention.query", "self_attn_q", &[QUERY, QUERY]),
    query!("attention.attention.key", "self_attn_k", &[QUERY, QUERY]),
    query!("attention.attention.value", "self_attn_v", &[QUERY, QUERY]),
    query!("attention.output.dense", "self_attn_out", &[QUERY, QUERY]),
    query!("attention.output.LayerNorm", "self_attn_norm", &[QUERY]),
    query!("crossattention.attention.query", "cross_attn_q", &[QUERY, QUERY]).in_layers(crosses),
    query!("crossattention.attention.key", "cross_attn_k", &[QUERY, SEEN]).in_layers(crosses),
    query!("crossattention.attention.value", "cross_attn_v", &[QUERY, SEEN]).in_layers(crosses),
    query!("crossattention.output.dense", "cross_attn_out", &[QUERY, QUERY]).in_layers(crosses),
    query!("crossattention.output.LayerNorm", "cross_attn_norm", &[QUERY]).in_layers(crosses),
    query!("intermediate_query.dense", "ffn_up", &[QUERY_INNER, QUERY]),
    query!("output_query.dense", "ffn_down", &[QUERY, QUERY_INNER]),
    query!("output_query.LayerNorm", "ffn_norm", &[QUERY]),
];
