//! What engines assume of an architecture, because GGUF has no key for it. A model that was trained with
//! another function or routing computes something else there.

use gguf_io::Metadata;
use gguf_model::{Activation, Forward, Gate};
use serde_json::Value;

use crate::{Config, error::Quoted};

/// Where families name the function of their feed-forward part; the first that is there counts.
const ACTIVATIONS: [&str; 5] =
    ["hidden_activation", "hidden_act", "activation_function", "mlp_hidden_act", "activation"];

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
