//! `general.*` keys: what the model is called, how large it is, how to sample from it.

use std::path::Path;

use gguf_io::metadata::Metadata;
use gguf_model::TensorName;
use serde_json::Value;

use crate::{
    Config,
    error::Quoted,
    json::{self, Object},
    model::Tensor,
    model_card::ModelCard,
    model_name::Name,
};

/// Writes the keys before the hyper-parameters: from the model card, from generation_config.json,
/// from the name config.json gives the model, from the [name of its folder](folder), from the size.
/// `overrides` are those of a metadata file.
pub(crate) fn write(
    dir: &Path,
    folder: Option<String>,
    config: &Config,
    tensors: &[Tensor],
    overrides: &Object,
    metadata: &mut Metadata,
) {
    metadata.insert("general.type", "model");
    let mut settings = match json::read_optional(&dir.join("generation_config.json")) {
        Ok(settings) => settings.unwrap_or_default(),
        Err(error) => {
            // It is advice, so that a broken file is no reason to stop.
            tracing::warn!(kind = "metadata", "generation_config.json is left out: {error}");
            Object::new()
        }
    };
    replace_sampling(&mut settings, overrides);
    sampling(&settings, metadata);
    let size = Size::of(tensors);
    let given = config.get("_name_or_path").and_then(Value::as_str);
    // A longer path is one of somebody's computer.
    let given = given.filter(|path| path.matches('/').count() <= 1);
    let mut card = ModelCard::read(dir, size.total);
    for id in given.into_iter().map(str::to_owned).chain(folder) {
        card.fill(Name::parse(&id, size.total));
    }
    card.replace(overrides);
    card.fill_size(size.label());
    card.write(metadata);
}

/// Sets the keys of a metadata file in those of a model that has been converted before.
pub(crate) fn replace(overrides: &Object, metadata: &mut Metadata) {
    let mut settings = Object::new();
    replace_sampling(&mut settings, overrides);
    sampling(&settings, metadata);
    let empty = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => value.is_null(),
    };
    for (key, _) in overrides.iter().filter(|(_, value)| empty(value)) {
        tracing::warn!(
            kind = "metadata",
            "`metadata`: key {} is empty, which leaves that of the GGUF file as it is",
            Quoted(key)
        );
    }
    let mut card = ModelCard::default();
    card.replace(overrides);
    card.write(metadata);
}

/// Enters the settings of a metadata file under the names of generation_config.json.
fn replace_sampling(settings: &mut Object, overrides: &Object) {
    for (key, value) in overrides {
        let Some(key) = key.strip_prefix("general.sampling.") else { continue };
        let names = SAMPLING.iter().find(|(_, name, _)| *name == key).map(|(names, ..)| *names);
        match names.and_then(<[_]>::first) {
            Some(name) => _ = settings.insert((*name).to_owned(), value.clone()),
            None if key == "sequence" => _ = settings.insert(key.to_owned(), value.clone()),
            None => tracing::warn!(
                kind = "metadata",
                "`metadata`: key \"general.sampling.{}\" is not known and is left out",
                key.escape_debug()
            ),
        }
    }
}

/// What the model is called by its folder: the folder's own name; for a path such as `.` the name it
/// has where it is. In the Hugging Face cache the name is that of the repository, where llama.cpp's
/// converter takes the hash of the commit.
pub(crate) fn folder(dir: &Path, like_reference: bool) -> Option<String> {
    let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
    // Where it is, by whatever links it is reached.
    let place = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let own = || name(dir).or_else(|| name(&place));
    if like_reference {
        return own();
    }
    let mut above = place.components().rev().filter_map(|part| part.as_os_str().to_str());
    let telling = above.find(|name| !says_nothing(name));
    telling
        .and_then(repository)
        .or_else(|| own().filter(|own| !says_nothing(own)))
        .or_else(|| telling.map(str::to_owned))
        .or_else(own)
}

/// `ORG/NAME` of the name that a repository has in the cache, `models--ORG--NAME`.
fn repository(name: &str) -> Option<String> {
    // Neither part has `--` in it.
    let id = name.strip_prefix("models--")?.replacen("--", "/", 1);
    (!id.is_empty()).then_some(id)
}

/// Whether a folder's name is one that programs give: that of a commit, or of a place in a cache.
fn says_nothing(name: &str) -> bool {
    let hash = matches!(name.len(), 40 | 64) && name.bytes().all(|b| b.is_ascii_hexdigit());
    hash || ["snapshots", "0_Transformer"].contains(&name)
}

/// Keys of generation_config.json and GGUF; whether the value is a count.
const SAMPLING: [(&[&str], &str, bool); 11] = [
    (&["top_k"], "top_k", true),
    (&["top_p"], "top_p", false),
    (&["min_p"], "min_p", false),
    (&["xtc_probability"], "xtc_probability", false),
    (&["xtc_threshold"], "xtc_threshold", false),
    (&["temperature"], "temp", false),
    (&["penalty_last_n"], "penalty_last_n", true),
    (&["penalty_repeat", "repetition_penalty"], "penalty_repeat", false),
    (&["mirostat"], "mirostat", true),
    (&["mirostat_tau"], "mirostat_tau", false),
    (&["mirostat_eta"], "mirostat_eta", false),
];

/// Recommended sampling.
fn sampling(settings: &Object, metadata: &mut Metadata) {
    let sequence = settings.get("sequence").and_then(Value::as_str);
    if let Some(sequence) = sequence.filter(|sequence| !sequence.is_empty()) {
        metadata.insert("general.sampling.sequence", sequence);
    }
    for (names, key, count) in SAMPLING {
        let value = names.iter().find_map(|name| settings.get(*name));
        let Some(value) = value.filter(|value| !value.is_null()) else {
            continue;
        };
        let key = format!("general.sampling.{key}");
        let whole = value.as_i64().and_then(|number| i32::try_from(number).ok());
        match (count, whole, value.as_f64()) {
            (true, Some(number), _) => _ = metadata.insert(key, number),
            (false, _, Some(number)) => _ = metadata.insert(key, number as f32),
            _ => {
                let found = json::describe(value);
                tracing::warn!(
                    kind = "metadata",
                    "{key} is left out: the setting {} for it is {found}, not a {}",
                    names.first().copied().unwrap_or_default(),
                    if count { "whole number of 32 bits" } else { "number" }
                )
            }
        }
    }
}

/// Numbers of weights.
#[derive(Debug, Default, PartialEq)]
struct Size {
    total: u64,
    shared: u64,
    /// Of one expert of each layer.
    expert: u64,
    experts: u64,
}

impl Size {
    fn of(tensors: &[Tensor]) -> Self {
        let mut size = Self::default();
        let mut stacks = 0;
        for tensor in tensors {
            let elements = tensor.elements();
            size.total = size.total.saturating_add(elements);
            let experts = match tensor.shape.as_slice() {
                [_, _, experts, ..] if TensorName::parse(&tensor.name).is_expert_stack() => {
                    *experts
                }
                _ => 0,
            };
            match elements.checked_div(experts) {
                Some(each) => {
                    size.expert = size.expert.saturating_add(each);
                    size.experts = size.experts.saturating_add(experts);
                    stacks += 1;
                }
                None => size.shared = size.shared.saturating_add(elements),
            }
        }
        size.experts = size.experts.checked_div(stacks).unwrap_or(0);
        size
    }

    fn label(&self) -> Option<String> {
        match (self.total, self.experts) {
            (0, _) => None,
            (total, 0) => Some(rounded(total)),
            (_, experts) => {
                Some(format!("{experts}x{}", rounded(self.shared.saturating_add(self.expert))))
            }
        }
    }
}

/// A number of weights in two digits or more: `1.8M`, `13B`, `405B`.
fn rounded(weights: u64) -> String {
    let n = weights as f64;
    let (scaled, unit) = match n {
        n if n > 1e12 => (n * 1e-12, 'T'),
        n if n > 1e9 => (n * 1e-9, 'B'),
        n if n > 1e6 => (n * 1e-6, 'M'),
        n => (n * 1e-3, 'K'),
    };
    let whole = scaled.round_ties_even();
    let digits = if whole == 0.0 { 0 } else { format!("{whole:.0}").len() };
    format!("{scaled:.*}{unit}", 2usize.saturating_sub(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ggml-org/llama.cpp#6239: a model named after a commit.
    #[test]
    fn folders_of_a_cache_have_the_name_of_the_repository_llama_cpp_6239() {
        let commit = "fe8a4ea1ffedaf415f4da2f062534de366a451e6";
        for (path, expected, reference) in [
            ("plain-model", "plain-model", "plain-model"),
            ("plain-model/", "plain-model", "plain-model"),
            (
                &*format!("hub/models--TinyLlama--TinyLlama-1.1B/snapshots/{commit}"),
                "TinyLlama/TinyLlama-1.1B",
                commit,
            ),
            (&format!("models--gpt2/snapshots/{commit}/"), "gpt2", commit),
            ("models--a--b-7B", "a/b-7B", "models--a--b-7B"),
            (&format!("b-7B/{commit}"), "b-7B", commit),
            ("all-MiniLM/0_Transformer", "all-MiniLM", "0_Transformer"),
            ("models--", "models--", "models--"),
            ("fe8a4ea", "fe8a4ea", "fe8a4ea"),
        ] {
            let path = Path::new("/nowhere").join(path);
            assert_eq!(folder(&path, false).as_deref(), Some(expected), "{path:?}");
            assert_eq!(folder(&path, true).as_deref(), Some(reference), "{path:?}");
        }
    }

    #[test]
    fn sizes_have_two_digits() {
        for (weights, expected) in [
            (2_098_432, "2.1M"),
            (6_738_415_616, "6.7B"),
            (9_990_000_000, "10B"),
            (13_015_864_320, "13B"),
            (405_853_388_800, "406B"),
            (1_000_000, "1000K"),
            (999, "1.0K"),
            (400, "0.40K"),
            (500, "0.50K"),
            (1_500, "1.5K"),
            (94_999, "95K"),
            (95_000, "95K"),
            (99_500, "100K"),
            (999_999, "1000K"),
            (2_500_000, "2.5M"),
            (10_500_000, "10M"),
            (9_950_000, "10M"),
            (9_949_999, "10M"),
            (0, "0.00K"),
            (1_100_048_384, "1.1B"),
            (134_515_008, "135M"),
        ] {
            assert_eq!(rounded(weights), expected, "{weights}");
        }
    }
}
