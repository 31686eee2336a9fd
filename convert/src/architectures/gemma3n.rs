//! Gemma 3n, its text model: several streams of states that predict each other (AltUp), learned
//! residuals of low rank (LAuReL), vectors of tokens for each layer, layers that borrow keys and values.

use serde_json::Value;

use crate::{
    Config, Result,
    json::describe,
    model::{Encoding, Piece, Tensor, TensorData, View},
};

use super::{
    Architecture, BASE, Fill,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    shared::*,
    tensors::{Dim, Rule, layers},
};

pub(super) const GEMMA3N: Architecture = Architecture {
    name: NAME,
    classes: &["Gemma3nForConditionalGeneration", "Gemma3nForCausalLM"],
    defaults: &[part(
        "gemma3n_text",
        &sizes([262_400, 2048, 16_384, 35, 8]),
        &[&[
            count("max_position_embeddings", 32_768),
            count("num_key_value_heads", 2),
            count("head_dim", 256),
            count("sliding_window", 512),
            count("hidden_size_per_layer_input", 256),
            count("vocab_size_per_layer_input", 262_144),
            count("num_kv_shared_layers", 15),
            count("altup_active_idx", 0),
            count("altup_num_inputs", 4),
            count("laurel_rank", 64),
            number("rms_norm_eps", 1e-6),
            number("rope_theta", 1_000_000.0),
            number("rope_local_base_freq", 10_000.0),
            number("final_logit_softcapping", 30.0),
            default("layer_types", Fill::With(types)),
            default("activation_sparsity_pattern", Fill::With(sparsity)),
            default(OTHER_STREAMS, Fill::Whole(3)),
        ]],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, OWN],
    rename: |_, name| {
        STREAMS.into_iter().find_map(|stream| {
            let number = name.strip_prefix("model.")?.strip_prefix(stream)?.strip_prefix('.')?;
            Some(format!("model.streams.0.{stream}.{number}"))
        })
    },
    tensors: &[ENDS, MATRICES, ATTENTION, HEAD_NORMS, GATED_MLP, NORMS],
    check,
    last: &[("tokenizer.ggml.add_space_prefix", Constant::Flag(false))],
    ..BASE
};

const NAME: &str = "gemma3n";

/// Matrices from and to the streams beside the one that layers work on.
const STREAMS: [&str; 2] = ["altup_projections", "altup_unembed_projections"];

/// How many those are.
const OTHER_STREAMS: &str = "streams but for the active one";

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Every fifth layer sees everything.
fn types(config: &Config) -> Result<Option<Value>> {
    let name = |layer: u64| if (layer + 1).is_multiple_of(5) { FULL } else { SLIDING };
    Ok(Some((0..layers(config)?).map(name).collect()))
}

/// The first ten layers of a deep model let a twentieth of their values pass.
fn sparsity(config: &Config) -> Result<Option<Value>> {
    let count = layers(config)?;
    let share = |layer: u64| if count > 10 && layer < 10 { 0.95 } else { 0.0 };
    Ok(Some((0..count).map(share).collect()))
}

/// What llama.cpp's graph has as fixed numbers.
fn check(config: &Config) -> Result<()> {
    for (key, expected) in [("altup_num_inputs", 4), ("laurel_rank", 64)] {
        let found = config.require(key)?;
        if found != expected {
            let expected = format!("{expected}: llama.cpp's graph has no other number");
            return Err(config.wrong(key, &found.to_string(), &expected));
        }
    }
    check_heads(config)
}

const OWN: &[Parameter] = &[
    parameters::number("final_logit_softcapping", &["final_logit_softcapping"]),
    parameters::required("attention.sliding_window", &["sliding_window"]),
    Parameter::Whole { key: "altup.active_idx", from: &["altup_active_idx"], otherwise: Some(0) },
    parameters::required("altup.num_inputs", &["altup_num_inputs"]),
    parameters::required("embedding_length_per_layer_input", &["hidden_size_per_layer_input"]),
    Parameter::Whole {
        key: "attention.shared_kv_layers",
        from: &["num_kv_shared_layers"],
        otherwise: Some(0),
    },
    Parameter::With(by_layer),
];

fn by_layer(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    const SHARES: &str = "activation_sparsity_pattern";
    let list = |key: &str| {
        let list = config.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        match list.len() as u64 == layers(config)? {
            true => Ok(list),
            false => {
                let found = format!("a list of {}", list.len());
                Err(config.wrong(key, &found, "an entry for each layer"))
            }
        }
    };
    let scale = |share: &Value| match share.as_f64() {
        Some(share) if (0.0..=1.0).contains(&share) => Ok(quantile(share)),
        _ => Err(config.wrong(SHARES, &describe(share), "numbers from 0 to 1")),
    };
    let scales = list(SHARES)?.iter().map(scale).collect::<Result<Vec<f32>>>()?;
    keys.set("activation_sparsity_scale", scales);
    let sliding: Vec<bool> = list("layer_types")?.iter().map(|kind| kind == SLIDING).collect();
    keys.set("attention.sliding_window_pattern", sliding);
    Ok(())
}

/// The number of standard deviations below which this share of normal values is, rounded at the steps
/// at which PyTorch rounds.
fn quantile(share: f64) -> f32 {
    let share = share as f32;
    if share <= 0.0 {
        return f32::NEG_INFINITY;
    }
    if share >= 1.0 {
        return f32::INFINITY;
    }
    let inverse = inverse_error_function(f64::from(2.0 * share - 1.0)) as f32;
    inverse * std::f32::consts::SQRT_2
}

/// By Newton's method, from the error function.
fn inverse_error_function(y: f64) -> f64 {
    let slope = 2.0 / std::f64::consts::PI.sqrt();
    // A first guess that is near enough for all of single precision.
    let log = (1.0 - y * y).ln();
    let a = 2.0 / (std::f64::consts::PI * 0.147) + log / 2.0;
    let mut x = ((a * a - log / 0.147).sqrt() - a).sqrt().copysign(y);
    for _ in 0..4 {
        x -= (error_function(x) - y) / (slope * (-x * x).exp());
    }
    x
}

/// By its series, all of whose terms have one sign.
fn error_function(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while f64::abs(term) > 1e-17 * f64::abs(sum) && n < 500.0 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
}

const INPUT: Dim = Dim::Key("hidden_size_per_layer_input");
const ALL_INPUTS: Dim =
    Dim::Product(&[Dim::Key("num_hidden_layers"), Dim::Key("hidden_size_per_layer_input")]);
const PER_LAYER: &str = "per_layer_token_embd";
const RANK: Dim = Dim::Key("laurel_rank");
const INPUTS: Dim = Dim::Key("altup_num_inputs");
const PAIRS: Dim = Dim::Product(&[Dim::Key("altup_num_inputs"), Dim::Key("altup_num_inputs")]);

const ENDS: &[Rule] = &[
    Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head(),
    Rule::new("model.norm", "output_norm", &[HIDDEN]),
    Rule::new(
        "model.embed_tokens_per_layer",
        PER_LAYER,
        &[Dim::Key("vocab_size_per_layer_input"), ALL_INPUTS],
    ),
    Rule::new("model.per_layer_model_projection", "per_layer_model_proj", &[ALL_INPUTS, HIDDEN]),
    Rule::new("model.per_layer_projection_norm", "per_layer_proj_norm", &[INPUT]),
];

/// One for each of the other streams, all of them in one tensor.
const MATRICES: &[Rule] = &[
    Rule::new("model.streams.{}.altup_projections.{}", "altup_proj", &[HIDDEN, HIDDEN])
        .stacked(OTHER_STREAMS)
        .in_layers(|_, layer| layer == 0),
    Rule::new(
        "model.streams.{}.altup_unembed_projections.{}",
        "altup_unembd_proj",
        &[HIDDEN, HIDDEN],
    )
    .stacked(OTHER_STREAMS)
    .in_layers(|_, layer| layer == 0),
];

const NORMS: &[Rule] = &[
    Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.per_layer_input_gate", "blk.{}.inp_gate", &[INPUT, HIDDEN]),
    Rule::new("model.layers.{}.per_layer_projection", "blk.{}.proj", &[HIDDEN, INPUT]),
    Rule::new("model.layers.{}.post_per_layer_input_norm", "blk.{}.post_norm", &[HIDDEN]),
    Rule::new(
        "model.layers.{}.altup.correction_coefs",
        "blk.{}.altup_correct_coef",
        &[INPUTS, INPUTS],
    ),
    Rule::exact(
        "model.layers.{}.altup.correct_output_scale",
        "blk.{}.altup_correct_scale.weight",
        &[HIDDEN],
    ),
    Rule::new(
        "model.layers.{}.altup.prediction_coefs",
        "blk.{}.altup_predict_coef",
        &[PAIRS, INPUTS],
    ),
    Rule::new("model.layers.{}.altup.modality_router", "blk.{}.altup_router", &[INPUTS, HIDDEN]),
    Rule::new("model.layers.{}.altup.router_norm", "blk.{}.altup_router_norm", &[HIDDEN]),
    Rule::new("model.layers.{}.laurel.linear_left", "blk.{}.laurel_l", &[RANK, HIDDEN]),
    Rule::new("model.layers.{}.laurel.linear_right", "blk.{}.laurel_r", &[HIDDEN, RANK]),
    Rule::new("model.layers.{}.laurel.post_laurel_norm", "blk.{}.laurel_post_norm", &[HIDDEN]),
];

/// Tokens of images and sound have no vectors for layers: llama.cpp wants rows of zeros for them.
///
/// # Errors
/// If the configuration is not that of Gemma 3n after all.
pub(crate) fn pad(
    architecture: &Architecture,
    config: &Config,
    tensors: &mut [Tensor],
) -> Result<()> {
    if architecture.name != NAME {
        return Ok(());
    }
    let rows = config.require("vocab_size")?;
    let name = format!("{PER_LAYER}.weight");
    let Some(tensor) = tensors.iter_mut().find(|tensor| tensor.name == name) else { return Ok(()) };
    let ty = tensor.source_type();
    if let Tensor { shape, data: TensorData::Stored { pieces, .. }, .. } = tensor
        && let [width, count] = &mut shape[..]
        && let Some(more) = rows.checked_sub(*count).filter(|more| *more > 0)
        && let Some(view) = View::whole(&[more, *width])
    {
        pieces.push(Piece { file: 0, offset: 0, encoding: Encoding::Zeros(ty), view });
        *count = rows;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_pytorch() {
        // torch.distributions.Normal(0, 1).icdf(torch.tensor(share)).
        for (share, expected) in QUANTILES {
            assert_eq!(quantile(share), expected, "{share}");
        }
    }

    const QUANTILES: [(f64, f32); 8] = [
        (0.0, f32::NEG_INFINITY),
        (0.05, -1.644_853_6),
        (0.25, -0.674_489_74),
        (0.5, 0.0),
        (0.9, 1.281_551_5),
        (0.95, 1.644_853_6),
        (0.99, 2.326_348_3),
        (1.0, f32::INFINITY),
    ];
}
