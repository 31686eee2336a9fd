//! What engines assume of an architecture, because GGUF has no key for it. A model that was trained with
//! another function or routing computes something else there.

use gguf_io::Metadata;
use gguf_model::{Activation, Forward, Gate};
use serde_json::Value;

use crate::{Config, error::Quoted};

/// Where families name the function of their feed-forward part; the first that is there counts.
const ACTIVATIONS: [&str; 6] = [
    "hidden_activation",
    "hidden_act",
    "activation_function",
    "mlp_hidden_act",
    "activation",
    "ffn_config.ffn_act_fn.name",
];

/// Warns of what config.json says otherwise than engines assume of the GGUF architecture `name`.
pub(super) fn warn(config: &Config, name: &str, metadata: &Metadata) {
    let Some(architecture) = gguf_model::Architecture::find(name) else { return };
    let forward = architecture.forward();
    let is_own = |f: &Forward| f.activation_key.is_some() || f.further_activation.is_some();
    if let Some(runs) = architecture.graph.activation.filter(|_| !forward.is_some_and(is_own)) {
        warn_of_activation(config, name, runs);
    }
    if let Some(forward) = forward
        && metadata.get(&format!("{name}.expert_weights_norm")).is_none()
    {
        warn_of_routing(config, forward);
    }
    let has_window = metadata.get(&format!("{name}.attention.sliding_window")).is_some();
    // A Llama 4 that says it has no window has none of what goes with one.
    if !(name == "llama4" && has_window) {
        warn_of_settings(config, name);
    }
    warn_of_scale(config, name);
    warn_of_steps(config, name);
    if name == "smollm3" || (name == "llama4" && !has_window) {
        warn_of_turned(config, name);
    }
    if name.starts_with("t5") {
        warn_of_gates(config, name);
    }
}

/// What engines take for granted: the GGUF architecture, a key of config.json, and the value that they
/// compute with.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("afmoe", "mup_enabled", "true"),
    ("bert", "position_embedding_type", "absolute"),
    ("bloom", "apply_residual_connection_post_layernorm", "false"),
    ("deepseek2", "rope_interleave", "true"),
    ("gemma3", "use_bidirectional_attention", "false"),
    ("gpt-oss", "swiglu_limit", "7.0"),
    ("gpt2", "scale_attn_by_inverse_layer_idx", "false"),
    ("gpt2", "scale_attn_weights", "true"),
    ("kimi-linear", "moe_renormalize", "true"),
    ("lfm2moe", "routed_scaling_factor", "1.0"),
    ("llama4", "attention_chunk_size", "8192"),
    ("llama4", "attn_scale", "0.1"),
    ("llama4", "attn_temperature_tuning", "true"),
    ("llama4", "floor_scale", "8192"),
    ("mimo2", "norm_topk_prob", "true"),
    ("minicpm3", "dim_model_base", "256"),
    ("minicpm3", "scale_depth", "1.4"),
    ("minicpm3", "scale_emb", "12"),
    ("mpt", "attn_config.softmax_scale", "absent"),
    ("mpt", "logit_scale", "absent"),
    ("olmoe", "rms_norm_eps", "1e-5"),
    ("starcoder", "scale_attn_weights", "true"),
    ("t5", "relative_attention_max_distance", "128"),
    ("t5encoder", "relative_attention_max_distance", "128"),
];

fn warn_of_settings(config: &Config, name: &str) {
    for (_, key, runs) in SETTINGS.iter().filter(|(of, ..)| *of == name) {
        let Some(said) = config.get(key) else { continue };
        let is_same = match (said.as_f64(), runs.parse::<f64>()) {
            (Some(said), Ok(runs)) => said == runs,
            _ => {
                said.as_str() == Some(*runs)
                    || said.as_bool().is_some_and(|said| runs.parse() == Ok(said))
            }
        };
        if !is_same {
            tracing::warn!(
                kind = "setting",
                "config.json: {key} is {}, but engines run the architecture {name} as if it were {runs}: \
                 the model will not compute what it was trained to",
                crate::json::describe(said)
            );
        }
    }
}

/// Warns of a Gemma whose attention is scaled otherwise than engines scale it. They know its models of
/// 27 B by their layers.
fn warn_of_scale(config: &Config, name: &str) {
    const KEY: &str = "query_pre_attn_scalar";
    let number = |key: &str| config.get(key).and_then(Value::as_f64);
    let largest = match name {
        "gemma2" => 46.0,
        "gemma3" => 62.0,
        _ => return,
    };
    let runs = match number("num_hidden_layers") == Some(largest) {
        true => number("hidden_size").zip(number("num_attention_heads")).map(|(a, b)| a / b),
        false => number("head_dim"),
    };
    if let (Some(said), Some(runs)) = (number(KEY), runs)
        && said != runs
    {
        tracing::warn!(
            kind = "setting",
            "config.json: {KEY} is {said}, but engines scale the attention of the architecture {name} as if \
             it were {runs}: the model will not compute what it was trained to"
        );
    }
}

/// Warns of steps of time that are bounded, which engines do not bound.
fn warn_of_steps(config: &Config, name: &str) {
    const KEY: &str = "time_step_limit";
    let bound = |at: usize| config.get(KEY)?.get(at)?.as_f64();
    // No bound is Infinity, which is no number in JSON.
    if bound(0).is_some_and(|least| least > 0.0) || bound(1).is_some_and(|most| most < 1e30) {
        tracing::warn!(
            kind = "setting",
            "config.json: {KEY} bounds the steps of time, which engines do not do in the architecture {name}: \
             the model will not compute what it was trained to"
        );
    }
}

/// Warns where other layers go without rotary embedding than each fourth.
fn warn_of_turned(config: &Config, name: &str) {
    const EACH: u64 = 4;
    let layers = config.get("num_hidden_layers").and_then(Value::as_u64).unwrap_or(0);
    let stated = config.get("no_rope_layers").and_then(Value::as_array).filter(|l| !l.is_empty());
    let interval = config.get("no_rope_layer_interval").and_then(Value::as_u64).unwrap_or(EACH);
    let turns = |layer: u64, each: u64| !layer.wrapping_add(1).is_multiple_of(each);
    let is_same = match stated {
        Some(stated) => {
            (0..layers).zip(stated).all(|(layer, said)| (*said != 0) == turns(layer, EACH))
        }
        None => interval == EACH || layers < interval.min(EACH),
    };
    if !is_same {
        let key = if stated.is_some() { "no_rope_layers" } else { "no_rope_layer_interval" };
        tracing::warn!(
            kind = "setting",
            "config.json: {key} says otherwise, but engines run the architecture {name} with rotary \
             embedding in all layers but each fourth: the model will not compute what it was trained to"
        );
    }
}

/// Warns of T5's functions: engines take GELU where there are gates, else ReLU.
fn warn_of_gates(config: &Config, name: &str) {
    const KEY: &str = "feed_forward_proj";
    let Some(said) = config.get(KEY).and_then(Value::as_str) else { return };
    let runs = if said.starts_with("gated-") { "gated-gelu" } else { "relu" };
    if said != runs && said != "gated-gelu_new" {
        tracing::warn!(
            kind = "activation",
            "config.json: {KEY} is {}, but engines run the architecture {name} as if it were {runs}: the \
             model will not compute what it was trained to",
            Quoted(said)
        );
    }
}

fn warn_of_activation(config: &Config, name: &str, runs: Activation) {
    let (runs, names): (_, &[&str]) = match runs {
        Activation::Silu => ("SiLU", &["silu", "swish", "swiglu"]),
        // The difference between its approximations is small.
        Activation::Gelu => (
            "GELU",
            &[
                "gelu",
                "gelu_new",
                "gelu_fast",
                "gelu_python",
                "gelu_pytorch_tanh",
                "gelu_tanh",
                "geglu",
            ],
        ),
        Activation::ReluSquared => ("the square of ReLU", &["relu2", "relu_squared"]),
        _ => return,
    };
    let said = |key| Some((key, config.get(key).and_then(Value::as_str)?));
    let said = ACTIVATIONS.into_iter().find_map(said);
    if let Some((key, said)) = said.filter(|(_, said)| !names.contains(&&*said.to_lowercase())) {
        tracing::warn!(
            kind = "activation",
            "config.json: {key} is {}, but engines run the architecture {name} with {runs}: the model \
             will not compute what it was trained to",
            Quoted(said)
        );
    }
}

fn warn_of_routing(config: &Config, forward: &Forward) {
    const KEY: &str = "norm_topk_prob";
    let routing = &forward.routing;
    // The weights of the chosen ones add up to one there, divided or not.
    if routing.gate == Gate::SoftmaxOfChosen {
        return;
    }
    if let Some(said) = config.get(KEY).and_then(Value::as_bool)
        && said != routing.normalized
    {
        let runs = if routing.normalized { "divide" } else { "do not divide" };
        tracing::warn!(
            kind = "routing",
            "config.json: {KEY} is {said}, but engines {runs} the weights of the chosen experts by their \
             sum in the architecture {}: the model will not compute what it was trained to",
            forward.architecture
        );
    }
}
