//! Mistral's own format: `params.json`, `consolidated.safetensors` and `tekken.json`.
//!
//! Its keys become those of config.json, so that what works on a configuration works on both. The
//! tensors keep their names: `architectures/mistral_format.rs` has rules for them.

use std::{
    io,
    path::{Path, PathBuf},
};

use gguf_io::{Checkpoint, Limits, SourceFile};
use serde_json::{Value, json};

use crate::{Result, json::Object};

/// The file of the configuration.
pub(crate) const PARAMS: &str = "params.json";

/// What the names of the weights' files begin with.
const WEIGHTS: &str = "consolidated";

/// Keys of params.json, and what config.json calls them.
const KEYS: [(&str, &str); 8] = [
    ("dim", "hidden_size"),
    ("n_layers", "num_hidden_layers"),
    ("n_heads", "num_attention_heads"),
    ("n_kv_heads", "num_key_value_heads"),
    ("hidden_dim", "intermediate_size"),
    ("norm_eps", "rms_norm_eps"),
    ("tied_embeddings", "tie_word_embeddings"),
    ("max_seq_len", "max_position_embeddings"),
];

/// What params.json calls a key of config.json.
pub(crate) fn own_name(key: &str) -> &str {
    KEYS.iter().find(|(_, there)| *there == key).map_or(key, |(own, _)| own)
}

/// Whether a folder holds a model in this format and not one as transformers has it.
pub(crate) fn is_here(dir: &Path) -> bool {
    dir.join(PARAMS).is_file()
        && !has_weights(dir)
        && weights(dir).is_ok_and(|files| !files.is_empty())
}

/// Whether there are weights as transformers has them, with their configuration.
fn has_weights(dir: &Path) -> bool {
    let name = |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let names = std::fs::read_dir(dir).into_iter().flatten().filter_map(name);
    let mut weights = names.filter(|name| {
        name.starts_with("model")
            && (name.ends_with(".safetensors") || name.ends_with(".index.json"))
    });
    dir.join("config.json").is_file() && weights.next().is_some()
}

/// The files of the weights, in the order of their names.
fn weights(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(WEIGHTS) && name.ends_with(".safetensors") {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Opens the weights. Scales of eight-bit codes get the names that others give them.
///
/// # Errors
/// As [`Checkpoint::read`].
pub(crate) fn open(dir: &Path, limits: &Limits) -> Result<Checkpoint> {
    let io = |error| gguf_io::Error::Io { path: dir.into(), action: "cannot open", error };
    let files = weights(dir).map_err(io)?;
    let files = files.iter().map(SourceFile::open).collect::<Result<_, _>>()?;
    let mut checkpoint = Checkpoint::read(files, limits)?;
    let renamed = std::mem::take(&mut checkpoint.tensors).into_iter().map(|(name, tensor)| {
        let module = |end: &str| name.strip_suffix(end);
        let name = match (module("qscale_weight"), module("qscale_act")) {
            (Some(module), _) => format!("{module}weight_scale"),
            (_, Some(module)) => format!("{module}input_scale"),
            _ => name,
        };
        (name, tensor)
    });
    checkpoint.tensors = renamed.collect();
    Ok(checkpoint)
}

/// What config.json would say.
pub(crate) fn translated(params: Object) -> Object {
    let mut values = params;
    for (own, key) in KEYS {
        if let Some(value) = values.remove(own) {
            values.entry(key).or_insert(value);
        }
    }
    values.insert("model_type".into(), "mistral".into());
    if let Some(vision) = values.remove("vision_encoder") {
        values.insert("vision_config".into(), vision);
    }
    if let Some(audio) = values.remove("multimodal") {
        values.insert("audio_config".into(), audio);
    }
    let eight_bits = values.get("quantization").and_then(|how| how.get("qformat_weight"));
    if eight_bits.and_then(Value::as_str) == Some("fp8_e4m3") {
        values.insert("quantization_config".into(), json!({"quant_method": "fp8"}));
        values.remove("quantization");
    }
    values
}
