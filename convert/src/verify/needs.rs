//! The metadata and tensors that programs which load a model ask for.

use gguf_io::{
    GgufFile, TensorInfo,
    metadata::{Array, Metadata, Value},
};

use super::Findings;
use crate::{error::Quoted, recipe::ModelFacts};

/// Architectures whose layers are normalized by their root mean square, which needs an epsilon.
const RMS: &[&str] = &[
    "llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3",
    "mistral3",
];
/// Architectures whose layers are normalized by mean and variance.
const MEAN: &[&str] = &["phi2", "gpt2", "gptneox", "starcoder2", "falcon", "bloom", "stablelm"];

const LAYERS_HELP: &str = "the file is incomplete or its block_count wrong";

/// Checks what a language model needs.
pub(super) fn check(model: &GgufFile, found: &mut Findings) {
    let metadata = &model.metadata;
    let facts = match ModelFacts::from_metadata(metadata) {
        Ok(facts) => facts,
        Err(error) => return found.problem(|| error.to_string()),
    };
    if facts.arch == "clip" {
        return found.note("architecture clip: its metadata is not checked");
    }
    let arch = &facts.arch;
    for name in ["context_length", "embedding_length"] {
        positive(metadata, &format!("{arch}.{name}"), found);
    }
    let epsilon = if RMS.contains(&arch.as_str()) {
        Some("layer_norm_rms_epsilon")
    } else if MEAN.contains(&arch.as_str()) {
        Some("layer_norm_epsilon")
    } else {
        found.note(&format!("architecture {}: only what all models need is checked", Quoted(arch)));
        None
    };
    if let Some(name) = epsilon {
        let key = format!("{arch}.attention.{name}");
        match metadata.get(&key) {
            Some(Value::Float32(v)) if v.is_finite() && *v > 0.0 => {}
            other => wrong(&key, other, "a positive FLOAT32", found),
        }
    }
    if model.tensors.is_empty() {
        return found.problem(|| "there are no tensors: the file holds no model".into());
    }
    let words = vocabulary(metadata, found);
    embedding(model, arch, words, found);
    layers(&model.tensors, facts.layers, found);
}

fn wrong(key: &str, value: Option<&Value>, expected: &str, found: &mut Findings) {
    found.problem(|| {
        let value = match value {
            None => "missing".to_owned(),
            Some(Value::Array(a)) => {
                format!("an array of {} {}", a.len(), a.element_type().name())
            }
            Some(Value::String(_)) => "a STRING".into(),
            Some(value) => format!("{value:?}"),
        };
        format!("key {} is {value}, expected {expected}", Quoted(key))
    });
}

fn positive(metadata: &Metadata, key: &str, found: &mut Findings) {
    if metadata.get_u64(key).is_none_or(|n| n == 0 || n > u64::from(u32::MAX)) {
        wrong(key, metadata.get(key), "a positive integer of 32 bits", found);
    }
}

/// Checks the tokenizer; returns the number of its tokens.
fn vocabulary(metadata: &Metadata, found: &mut Findings) -> Option<u64> {
    const MODEL: &str = "tokenizer.ggml.model";
    const TOKENS: &str = "tokenizer.ggml.tokens";
    let Some(model) = metadata.get(MODEL).and_then(Value::as_str) else {
        wrong(MODEL, metadata.get(MODEL), "the kind of the tokenizer", found);
        return None;
    };
    if matches!(model, "none" | "no_vocab") {
        return None;
    }
    let count = match metadata.get(TOKENS) {
        Some(Value::Array(Array::String(tokens))) if !tokens.is_empty() => tokens.len(),
        other => {
            wrong(TOKENS, other, "an array of strings", found);
            return None;
        }
    };
    let beside = |key: &str, ok: fn(&Array) -> bool, ty: &str, found: &mut Findings| match metadata
        .get(key)
    {
        None => {}
        Some(Value::Array(array)) if ok(array) && array.len() == count => {}
        other => wrong(key, other, &format!("{count} {ty}, one for each token"), found),
    };
    let floats = |a: &Array| matches!(a, Array::Float32(v) if v.iter().all(|v| !v.is_nan()));
    beside("tokenizer.ggml.scores", floats, "FLOAT32 that are numbers", found);
    let ints = |a: &Array| matches!(a, Array::Int32(_));
    beside("tokenizer.ggml.token_type", ints, "INT32", found);
    if model == "gpt2" {
        const MERGES: &str = "tokenizer.ggml.merges";
        if !matches!(metadata.get(MERGES), Some(Value::Array(Array::String(_)))) {
            wrong(MERGES, metadata.get(MERGES), "an array of strings", found);
        }
    }
    for (key, value) in metadata.iter() {
        if key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id") {
            let id = value.as_u64();
            if id.is_none_or(|id| id >= count as u64) {
                wrong(key, Some(value), &format!("a token below {count}"), found);
            }
        }
    }
    Some(count as u64)
}

fn embedding(model: &GgufFile, arch: &str, words: Option<u64>, found: &mut Findings) {
    const NAME: &str = "token_embd.weight";
    let Some(tensor) = model.tensors.iter().find(|t| t.name == NAME) else {
        return found.problem(|| format!("tensor {NAME} is missing"));
    };
    let columns = model.metadata.get_u64(&format!("{arch}.embedding_length"));
    let shape = (tensor.shape.first(), tensor.shape.get(1));
    let fits =
        |expected: Option<u64>, found: Option<&u64>| expected.is_none_or(|n| found == Some(&n));
    if !fits(columns, shape.0) || !fits(words, shape.1) {
        found.problem(|| {
            let shown = |n: Option<u64>| n.map_or_else(|| "any".into(), |n| n.to_string());
            format!(
                "tensor {NAME} has shape {:?}, expected [{}, {}] (embedding_length, tokens)",
                tensor.shape,
                shown(columns),
                shown(words)
            )
        });
    }
}

/// Every layer has tensors, and no tensor is of a layer there is not.
fn layers(tensors: &[TensorInfo], count: u32, found: &mut Findings) {
    let mut seen = vec![false; usize::try_from(count).unwrap_or_default()];
    for tensor in tensors {
        let layer = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
        let Some(layer) = layer else { continue };
        match layer.parse::<usize>().ok().and_then(|n| seen.get_mut(n)) {
            Some(seen) => *seen = true,
            None => found.problem(|| {
                format!(
                    "tensor {} is of no layer, block_count is {count}; {LAYERS_HELP}",
                    Quoted(&tensor.name)
                )
            }),
        }
    }
    for (n, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
        found.problem(|| format!("layer {n} of {count} has no tensors; {LAYERS_HELP}"));
    }
}
