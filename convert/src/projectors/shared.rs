//! What several projectors have in common.

use serde_json::Value;

use crate::{
    Config, Result,
    architectures::{
        Architecture, BASE, Default, Fill,
        parameters::{self, Constant, Keys, Parameter},
        tensors::{Dim, Rule, Step, Target},
    },
    json::describe,
};

/// Where the width of the text model is put.
pub(super) const TEXT_WIDTH_KEY: &str = "width of the text model";
/// Values of a token in the text model.
pub(super) const TEXT_WIDTH: Dim = Dim::Key(TEXT_WIDTH_KEY);
/// Keys that count the layers of an encoder, beside `num_hidden_layers`.
pub(super) const LAYERS: [&str; 7] = [
    "n_layers",
    "n_layer",
    "num_layers",
    "depth",
    "layers",
    "encoder_layers",
    "vt_num_hidden_layers",
];

pub(super) const WIDTH: Dim = Dim::Key("hidden_size");
pub(super) const INNER: Dim = Dim::Key("intermediate_size");
pub(super) const HEADS: Dim = Dim::Key("num_attention_heads");
pub(super) const PATCH: Dim = Dim::Key("patch_size");
pub(super) const CHANNELS: Dim = Dim::Key("num_channels");
pub(super) const TWO: Dim = Dim::Number(2);
/// Patches of an image.
pub(super) const PATCHES: Dim = Dim::Derived("patches of an image", |config| {
    let side = config.require("image_size")? / config.require("patch_size")?;
    Ok(side.saturating_mul(side))
});
/// Patches of an image, and a vector for the whole of it.
pub(super) const PATCHES_AND_CLASS: Dim = Dim::Sum(&[PATCHES, Dim::Number(1)]);

/// A projector's encoder, to be completed by each.
pub(super) const CLIP: Architecture =
    Architecture { name: "clip", prefix: "", parameters: &[VISION], tokenizers: &[], ..BASE };

pub(super) const fn count(key: &'static str, value: u64) -> Default {
    Default { key, value: Fill::Whole(value), null: false, given: false }
}

pub(super) const fn number(key: &'static str, value: f64) -> Default {
    Default { key, value: Fill::Number(value), null: false, given: false }
}

pub(super) const fn text(key: &'static str, value: &'static str) -> Default {
    Default { key, value: Fill::Text(value), null: false, given: false }
}

pub(super) const fn same(key: &'static str, other: &'static str) -> Default {
    Default { key, value: Fill::Given(other), null: false, given: false }
}

pub(super) const fn with(
    key: &'static str,
    value: fn(&Config) -> Result<Option<Value>>,
) -> Default {
    Default { key, value: Fill::With(value), null: false, given: false }
}

/// A value that takes the place of the one given.
pub(super) const fn always(key: &'static str, value: Fill) -> Default {
    Default { key, value, null: true, given: true }
}

/// What transformers' SigLIP assumes.
pub(super) const SIGLIP_DEFAULTS: &[Default] = &[
    count("hidden_size", 768),
    count("intermediate_size", 3072),
    count("num_hidden_layers", 12),
    count("num_attention_heads", 12),
    count("num_channels", 3),
    count("image_size", 224),
    count("patch_size", 16),
    number("layer_norm_eps", 1e-6),
    text("hidden_act", "gelu_pytorch_tanh"),
];

/// Three colours, where nothing is said.
pub(super) const COLOURS: &[Default] = &[
    same("num_channels", "in_channels"),
    same("num_channels", "in_chans"),
    count("num_channels", 3),
];

/// What is written of every encoder of images.
pub(super) const VISION: &[Parameter] = &[
    Parameter::FileType,
    Parameter::Constant("has_vision_encoder", Constant::Flag(true)),
    parameters::required("vision.projection_dim", &[TEXT_WIDTH_KEY]),
    Parameter::Whole { key: "vision.image_size", from: &["image_size"], otherwise: None },
    parameters::required("vision.patch_size", &["patch_size"]),
    parameters::required("vision.embedding_length", &["hidden_size", "width", "vt_hidden_size"]),
    parameters::required(
        "vision.feed_forward_length",
        &["intermediate_size", "vt_intermediate_size"],
    ),
    parameters::required("vision.block_count", &["num_hidden_layers"]),
    parameters::required(
        "vision.attention.head_count",
        &["num_attention_heads", "num_heads", "heads", "vt_num_attention_heads"],
    ),
    Parameter::With(|config, keys| colours(config, keys, "image_mean")),
    Parameter::With(|config, keys| colours(config, keys, "image_std")),
];

/// Three numbers of the preprocessor, one for each colour.
fn colours(config: &Config, keys: &mut Keys<'_>, name: &str) -> Result<()> {
    let from = format!("preprocessor {name}");
    let Some(value) = config.get(&from) else {
        return Err(config.missing(&from, "three numbers"));
    };
    let numbers: Option<Vec<f32>> = value.as_array().and_then(|values| {
        values.iter().map(|v| v.as_f64().map(|n| n as f32).filter(|n| n.is_finite())).collect()
    });
    match numbers {
        Some(numbers) if numbers.len() == 3 => {
            keys.set(&format!("vision.{name}"), numbers);
            Ok(())
        }
        _ => Err(config.wrong(&from, &describe(value), "three numbers")),
    }
}

pub(super) const USE_GELU: Parameter = Parameter::Constant("use_gelu", Constant::Flag(true));
pub(super) const USE_SILU: Parameter = Parameter::Constant("use_silu", Constant::Flag(true));
pub(super) const EPSILON: Parameter =
    parameters::required_number("vision.attention.layer_norm_epsilon", &["layer_norm_eps"]);

/// The activation, which is one of two.
pub(super) const ACTIVATION: Parameter = Parameter::With(|config, keys| {
    const KEY: &str = "hidden_act";
    match config.get(KEY).and_then(Value::as_str) {
        Some("silu") => keys.set("use_silu", true),
        Some("gelu") => keys.set("use_gelu", true),
        _ => {
            let found = config.get(KEY).map_or_else(|| "missing".into(), describe);
            return Err(config.wrong(KEY, &found, "silu or gelu"));
        }
    }
    Ok(())
});

/// Layers of SigLIP and CLIP, below the name of the tower.
pub(super) const SIGLIP_LAYERS: &[Rule] = &[
    Rule::new("encoder.layers.{}.layer_norm1", "v.blk.{}.ln1", &[WIDTH]).bias(),
    Rule::new("encoder.layers.{}.layer_norm2", "v.blk.{}.ln2", &[WIDTH]).bias(),
    Rule::new("encoder.layers.{}.self_attn.q_proj", "v.blk.{}.attn_q", &[WIDTH, WIDTH]).bias(),
    Rule::new("encoder.layers.{}.self_attn.k_proj", "v.blk.{}.attn_k", &[WIDTH, WIDTH]).bias(),
    Rule::new("encoder.layers.{}.self_attn.v_proj", "v.blk.{}.attn_v", &[WIDTH, WIDTH]).bias(),
    Rule::new("encoder.layers.{}.self_attn.out_proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH]).bias(),
    Rule::new("encoder.layers.{}.mlp.fc1", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
    Rule::new("encoder.layers.{}.mlp.fc2", "v.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
];

/// Values of a patch by rows, then columns, then colours; matrices have the colours outermost.
pub(super) const COLOURS_FIRST: &[&[Step]] =
    &[&[Step::Unfold(1, &[PATCH, PATCH]), Step::Swap(2, 3), Step::Swap(1, 2)]];

/// Patches, positions and the last norm of SigLIP.
pub(super) const SIGLIP_ENDS: &[Rule] = &[
    Rule::new("embeddings.patch_embedding", "v.patch_embd", &[WIDTH, CHANNELS, PATCH, PATCH])
        .bias(),
    Rule::new("embeddings.position_embedding", "v.position_embd", &[PATCHES, WIDTH]),
    Rule::new("post_layernorm", "v.post_ln", &[WIDTH]).bias(),
];

/// The left-out head of SigLIP, which pools an image into one vector.
pub(super) const SIGLIP_HEAD: &[Rule] = &[
    Rule::left_out("head.attention.in_proj_weight", HEAD),
    Rule::left_out("head.attention.in_proj_bias", HEAD),
    Rule::left_out("head.attention.out_proj", HEAD),
    Rule::left_out("head.layernorm", HEAD),
    Rule::left_out("head.mlp.fc1", HEAD),
    Rule::left_out("head.mlp.fc2", HEAD),
    Rule::left_out("head.probe", HEAD),
];

const HEAD: &str = "they pool an image into one vector, which no projector does";

/// What names of a tower's tensors may begin with: rules have what comes after.
pub(super) const TOWERS: &[&str] = &[
    "model.vision_tower.vision_model.",
    "vision_tower.vision_model.",
    "model.vision_model.",
    "vision_model.",
    "model.vision_tower.",
    "vision_tower.",
    "model.",
];

/// A third of a matrix of queries, keys and values, or of its bias.
const THIRD: [&[&[Step]]; 3] = [
    &[&[Step::Narrow { axis: 0, from: None, len: WIDTH }]],
    &[&[Step::Narrow { axis: 0, from: Some(WIDTH), len: WIDTH }]],
    &[&[Step::Narrow { axis: 0, from: Some(Dim::Product(&[TWO, WIDTH])), len: WIDTH }]],
];

/// Queries, keys and values, taken apart.
pub(super) const APART: &[Target] = &[
    Target { name: "v.blk.{}.attn_q", parts: THIRD[0] },
    Target { name: "v.blk.{}.attn_k", parts: THIRD[1] },
    Target { name: "v.blk.{}.attn_v", parts: THIRD[2] },
];

pub(super) const THREE_WIDTHS: Dim = Dim::Product(&[Dim::Number(3), WIDTH]);

/// Patches of two images after each other, a matrix for each of the two.
pub(super) const TWO_IMAGES: &[Target] = &[
    Target {
        name: "v.patch_embd.weight",
        parts: &[&[Step::Narrow { axis: 2, from: None, len: Dim::Number(1) }, Step::Fold(1, 2)]],
    },
    Target {
        name: "v.patch_embd.weight.1",
        parts: &[&[
            Step::Narrow { axis: 2, from: Some(Dim::Number(1)), len: Dim::Number(1) },
            Step::Fold(1, 2),
        ]],
    },
];

/// The shape of [`TWO_IMAGES`] together.
pub(super) const TWO_PATCHES: &[Dim] = &[WIDTH, CHANNELS, TWO, PATCH, PATCH];

/// How many patches of a side are one token's, where that is not what engines assume.
pub(super) fn scale_factor(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    const ASSUMED: u64 = 4;
    let tokens = config.positive("preprocessor image_seq_length")?.unwrap_or(256);
    let side = config.require("image_size")? / config.require("patch_size")?;
    let factor = side / tokens.isqrt().max(1);
    if factor > 0 && factor != ASSUMED {
        keys.set_count("vision.projector.scale_factor", factor);
    }
    Ok(())
}

/// The number of every so many layers with full attention, counted by the list of these layers.
pub(super) fn pattern(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    const KEY: &str = "fullatt_block_indexes";
    let Some(value) = config.get(KEY) else {
        return Err(config.missing(KEY, "a list of layers"));
    };
    let numbers: Option<Vec<u64>> =
        value.as_array().and_then(|values| values.iter().map(Value::as_u64).collect());
    let numbers = numbers.unwrap_or_default();
    let step = numbers.first().and_then(|first| first.checked_add(1));
    let even = numbers.windows(2).all(|pair| match pair {
        [a, b] => a.checked_add(step.unwrap_or(0)) == Some(*b),
        _ => true,
    });
    match step.and_then(|step| u32::try_from(step).ok()).filter(|_| even) {
        Some(step) => {
            keys.set("vision.n_wa_pattern", step);
            Ok(())
        }
        None => Err(config.wrong(KEY, &describe(value), "layers at the same distance")),
    }
}
