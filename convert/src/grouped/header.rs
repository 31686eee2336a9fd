//! The parts of a safetensors checkpoint around its data: headers, index, configuration.

use std::collections::BTreeMap;

use quant_core::grouped::GroupedType;
use serde_json::{Map, Value, json};

use super::Scheme;

/// A tensor of a safetensors file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: &'static str,
    /// Outermost dimension first.
    pub(super) shape: Vec<u64>,
    pub(super) bytes: u64,
}

impl Entry {
    /// Sorts as the reference implementation writes: large elements first, so that each tensor is
    /// aligned to its elements, then by name.
    pub(super) fn key(&self) -> (u8, &str) {
        let size = match self.dtype {
            "I64" => 0,
            "I32" | "F32" => 1,
            _ => 2,
        };
        (size, &self.name)
    }
}

/// The header of a file that holds these tensors one after the other, padded to eight bytes.
pub(super) fn header(entries: &[&Entry]) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut at = 0u64;
    for entry in entries {
        let end = at.saturating_add(entry.bytes);
        header.insert(
            entry.name.clone(),
            json!({"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [at, end]}),
        );
        at = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

/// `model.safetensors.index.json`.
pub(super) fn index(files: &BTreeMap<&str, &str>, total_size: u64) -> Vec<u8> {
    pretty(&json!({"metadata": {"total_size": total_size}, "weight_map": files}))
}

/// JSON as transformers writes it: two spaces, a line feed at the end.
pub(super) fn pretty(value: &Value) -> Vec<u8> {
    let mut bytes = format!("{value:#}").into_bytes();
    bytes.push(b'\n');
    bytes
}

/// What stands for all experts in `targets` and `ignore`. vLLM asks for those of every model as
/// `….experts.0.gate_proj`, whatever they are called in the checkpoint, and transformers looks for
/// an expression with "experts" in it.
pub(super) const EXPERTS: &str = r"re:.*\.experts\.\d+\..*";

/// How modules are named in `targets` and `ignore`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// Whether the text model is part of a multimodal one, which engines name in their own ways.
    pub(super) wrapper: bool,
}

impl Names {
    /// A module by its name in the checkpoint: as it is, or as an expression for what transformers
    /// and vLLM make of it. All of another part than the text model counts as one.
    pub(super) fn of(self, module: &str) -> String {
        const TEXT: &str = "language_model.";
        if !self.wrapper {
            return module.to_owned();
        }
        if module.ends_with("lm_head") {
            return "re:.*lm_head$".to_owned();
        }
        let bare = match module.split_once(TEXT) {
            Some((_, name)) => {
                let name = regex::escape(name.strip_prefix("model.").unwrap_or(name));
                return format!(r"re:.*language_model\.(model\.)?{name}$");
            }
            None => module.strip_prefix("model.").unwrap_or(module),
        };
        match bare.split_once('.') {
            Some((part, _)) if part != "layers" => {
                format!(r"re:(.*\.)?{}\..*", regex::escape(part))
            }
            _ => format!(r"re:(.*\.)?{}$", regex::escape(bare)),
        }
    }
}

/// The `quantization_config` of compressed-tensors: layers by scheme, and linear layers that are
/// left alone. The first that expressions match counts, so experts come first.
pub(super) fn quantization_config(layers: &[(String, Scheme)], ignore: &[String]) -> Value {
    let mut groups: Vec<(Scheme, Vec<&str>)> = Vec::new();
    for (module, scheme) in layers {
        // Per channel is one scheme, whatever the length of the rows.
        let same = |other: &Scheme| json_scheme(other) == json_scheme(scheme);
        match groups.iter_mut().find(|(other, _)| same(other)) {
            Some((_, modules)) => modules.push(module),
            None => groups.push((*scheme, vec![module])),
        }
    }
    let only = groups.len() == 1;
    let groups: Map<String, Value> = groups
        .iter()
        .enumerate()
        .map(|(i, (scheme, modules))| {
            let targets = if only { json!(["Linear"]) } else { json!(modules) };
            let group = json!({
                "targets": targets,
                "input_activations": null,
                "output_activations": null,
                "weights": json_scheme(scheme),
            });
            (format!("group_{i}"), group)
        })
        .collect();
    json!({
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignore,
        "kv_cache_scheme": null,
    })
}

fn json_scheme(scheme: &Scheme) -> Value {
    let (ty, len, channel) = match *scheme {
        Scheme::Groups { ty, len, channel } => (ty, len, channel),
        Scheme::Keep => (GroupedType::Int8Sym, 0, true),
    };
    json!({
        "num_bits": ty.bits(),
        "type": "int",
        "symmetric": ty.is_symmetric(),
        "strategy": if channel { "channel" } else { "group" },
        "group_size": if channel { Value::Null } else { json!(len) },
        "dynamic": false,
    })
}
