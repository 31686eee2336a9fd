//! The files of a folder that hold no weights: written anew, or copied.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use super::{
    Scheme,
    experts::is_expert,
    header,
    layers::{Role, in_layer},
    layout::FolderLayout,
    source,
};
use crate::{Error, Result, json, model::Model};

/// Files that describe the weights, by name.
pub(super) fn descriptions(
    dir: &Path,
    modules: &Modules,
    layout: &FolderLayout,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut texts = vec![("config.json".to_owned(), config(dir, modules)?)];
    if layout.files.len() > 1 {
        let file = |file: usize| layout.files.get(file).map_or("", |file| file.name.as_str());
        let placed = layout.placed().iter();
        let map: BTreeMap<&str, &str> =
            placed.clone().map(|p| (p.entry.name.as_str(), file(p.place.file))).collect();
        let total = placed.map(|p| p.entry.bytes).sum();
        texts.push(("model.safetensors.index.json".to_owned(), header::index(&map, total)));
    }
    Ok(texts)
}

/// The modules that config.json names.
#[derive(Debug)]
pub(super) struct Modules {
    /// Quantized ones and how.
    quantized: Vec<(String, Scheme)>,
    /// Linear layers that stay as they are.
    ignored: Vec<String>,
}

impl Modules {
    /// The modules of a model whose tensors have these roles and schemes.
    pub(super) fn new(
        model: &Model,
        roles: &[Role],
        schemes: &[Scheme],
        names: header::Names,
    ) -> Self {
        let (mut quantized, mut ignored) = (Vec::new(), BTreeSet::new());
        let (mut stacked, mut experts, mut tied) = (false, None, true);
        for ((tensor, role), scheme) in model.tensors.iter().zip(roles).zip(schemes) {
            let module = source::module(&tensor.name);
            tied &= *role != Role::Output;
            match *scheme {
                _ if is_expert(role) => experts = Some(*scheme),
                Scheme::Groups { .. } => quantized.push((names.of(module), *scheme)),
                Scheme::Keep => {
                    stacked |= tensor.shape.len() > 2 && in_layer(&tensor.name).is_some();
                    // What the embedding is was decided by its name alone.
                    let embedding = Role::of(&tensor.name, 2) == Role::Embedding;
                    if tensor.shape.len() == 2 && !embedding {
                        ignored.insert(names.of(module));
                    }
                }
            }
        }
        if tied {
            ignored.insert(names.of("lm_head"));
        }
        match experts {
            Some(scheme @ Scheme::Groups { .. }) => {
                quantized.insert(0, (header::EXPERTS.to_owned(), scheme));
            }
            Some(Scheme::Keep) => drop(ignored.insert(header::EXPERTS.to_owned())),
            // vLLM looks for the experts of a stack under the names of single ones.
            None if stacked => drop(ignored.insert(header::EXPERTS.to_owned())),
            None => {}
        }
        Self { quantized, ignored: ignored.into_iter().collect() }
    }
}

/// The checkpoint's config.json with the description of the quantization.
fn config(dir: &Path, modules: &Modules) -> Result<Vec<u8>> {
    let mut config = json::read_object(&dir.join("config.json"))?;
    // What it says of the packed weights it had: MLX, and text models with a key of their own.
    config.shift_remove("quantization");
    for part in config.values_mut().filter_map(Value::as_object_mut) {
        part.shift_remove("quantization_config");
    }
    let quantization = header::quantization_config(&modules.quantized, &modules.ignored);
    config.insert("quantization_config".into(), quantization);
    Ok(header::pretty(&Value::Object(config)))
}

/// Extensions of files that hold weights, which are not carried over.
const WEIGHTS: &[&str] = &[
    "safetensors",
    "bin",
    "pt",
    "pth",
    "ckpt",
    "gguf",
    "h5",
    "msgpack",
    "onnx",
    "ot",
    "dat",
    "npz",
];

/// Files written anew, or that would describe what they no longer belong to.
const REPLACED: &[&str] = &[
    "config.json",
    "model.safetensors.index.json",
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
];

/// Bytes a file may be long to count as small.
const LONGEST: u64 = json::TOKENIZER;

/// The other files of the folder, sorted: tokenizer, generation settings, license.
pub(super) fn copied(dir: &Path) -> Result<Vec<String>> {
    let io =
        |error| Error::Files(gguf_io::Error::Io { path: dir.into(), action: "cannot list", error });
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let Ok(name) = entry.map_err(io)?.file_name().into_string() else { continue };
        let path = dir.join(&name);
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let weights = WEIGHTS.iter().any(|known| known.eq_ignore_ascii_case(extension))
            || name.ends_with(".index.json");
        // Links are followed: caches of downloads are made of them.
        let small = std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= LONGEST);
        if small && !weights && !name.starts_with('.') && !REPLACED.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
