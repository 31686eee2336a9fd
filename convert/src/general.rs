//! `general.*` keys: what the model is called, how large it is, how to sample from it.

use std::{path::Path, sync::LazyLock};

use gguf_io::metadata::Metadata;
use regex::Regex;
use serde_json::Value;

use crate::{Config, json, model::Tensor};

/// The parts of a model's name.
#[derive(Debug, Default, PartialEq)]
struct Name {
    full: Option<String>,
    organization: Option<String>,
    basename: Option<String>,
    finetune: Option<String>,
    version: Option<String>,
    size_label: Option<String>,
}

/// Writes the keys before the hyper-parameters: from generation_config.json, from the name
/// config.json gives the model, from the folder's name, from the size.
pub(crate) fn write(dir: &Path, config: &Config, tensors: &[Tensor], metadata: &mut Metadata) {
    metadata.insert("general.type", "model");
    sampling(dir, metadata);
    let size = Size::of(tensors);
    let given = config.get("_name_or_path").and_then(Value::as_str);
    // A longer path is one of somebody's computer.
    let given = given.filter(|path| path.matches('/').count() <= 1);
    let mut name = Name::default();
    for id in given.into_iter().map(str::to_owned).chain(folder(dir)) {
        name.fill(Name::parse(&id, size.total));
    }
    let full = name.full.as_deref().map(title);
    let organization = name.organization.as_deref().map(title);
    let size_label = name.size_label.or_else(|| size.label());
    for (key, value) in [
        ("general.name", full),
        ("general.version", name.version),
        ("general.organization", organization),
        ("general.finetune", name.finetune),
        ("general.basename", name.basename),
        ("general.size_label", size_label),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            metadata.insert(key, value);
        }
    }
}

/// The folder's own name; for a path such as `.` the name it has where it is.
fn folder(dir: &Path) -> Option<String> {
    let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
    name(dir).or_else(|| name(&dir.canonicalize().ok()?))
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

/// Recommended sampling. It is advice, so that a broken file is no reason to stop.
fn sampling(dir: &Path, metadata: &mut Metadata) {
    let settings = match json::read_optional(&dir.join("generation_config.json")) {
        Ok(settings) => settings.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "generation_config.json is left out");
            return;
        }
    };
    if let Some(sequence) = settings.get("sequence").and_then(Value::as_str) {
        if !sequence.is_empty() {
            metadata.insert("general.sampling.sequence", sequence);
        }
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
            _ => tracing::warn!(key, found = json::describe(value), "a sampling setting is left out"),
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
                [_, experts] if tensor.name.contains("_exps.") && tensor.name.contains(".bias") => *experts,
                [_, _, experts, ..] if tensor.name.contains("_exps.") => *experts,
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
            (_, experts) => Some(format!("{experts}x{}", rounded(self.shared.saturating_add(self.expert)))),
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

/// Words that are all lower case get a capital, but for versions and what begins with a digit.
fn title(text: &str) -> String {
    let word = |word: &str| {
        let lower = word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
        match lower && !VERSION_OR_NUMBER.is_match(word) {
            true => capitals(word),
            false => word.to_owned(),
        }
    };
    text.replace('-', " ")
        .split_whitespace()
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A capital at the start of every run of letters, as Python's `str.title` has it.
fn capitals(word: &str) -> String {
    let mut result = String::with_capacity(word.len());
    let mut inside = false;
    for c in word.chars() {
        if inside {
            result.extend(c.to_lowercase());
        } else {
            result.extend(c.to_uppercase());
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    result
}

/// A pattern that is a constant of this file.
fn pattern(text: &str) -> Regex {
    // Covered by the tests, which use every one.
    #[allow(clippy::expect_used, reason = "a constant")]
    Regex::new(text).expect("a valid pattern")
}

static VERSION_OR_NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(v\d+(?:\.\d+)*|\d.*)$"));
static VERSION: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)^(?:(v|iter)?\d+([.]\d+)*)$"));
static TYPE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)^(?:i?q\d(_\w)*|b?fp?(16|32))$"));
static SIZE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)^(?:(([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?|small|mini|medium|large|x?xl))$")
});
static FINETUNE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)^(?:chat|instruct|vision|lora)$"));

/// What a part of a name may be; several at once.
#[derive(Clone, Copy, Default, PartialEq)]
struct Role {
    basename: bool,
    size_label: bool,
    finetune: bool,
    version: bool,
    ty: bool,
}

impl Role {
    fn count(self) -> usize {
        [self.basename, self.size_label, self.finetune, self.version, self.ty]
            .into_iter()
            .filter(|set| *set)
            .count()
    }
}

impl Name {
    /// Takes what is not known yet.
    fn fill(&mut self, other: Self) {
        let pairs = [
            (&mut self.full, other.full),
            (&mut self.organization, other.organization),
            (&mut self.basename, other.basename),
            (&mut self.finetune, other.finetune),
            (&mut self.version, other.version),
            (&mut self.size_label, other.size_label),
        ];
        for (known, new) in pairs {
            if known.is_none() {
                *known = new;
            }
        }
    }

    /// The parts of a name such as `meta-llama/Llama-2-7b-chat-hf`.
    fn parse(id: &str, total: u64) -> Self {
        if id.contains(' ') {
            return Self {
                full: Some(id.to_owned()),
                ..Self::default()
            };
        }
        let (organization, full) = match id.split_once('/') {
            Some((organization, full)) => (Some(organization), full),
            None => (None, id),
        };
        // `./model` has no organization.
        let organization = organization.filter(|name| !name.starts_with('.'));
        let mut parts: Vec<(String, Role)> = full
            .split('-')
            .filter(|part| !part.is_empty())
            .enumerate()
            .map(|(i, part)| annotate(part, i == 0, total))
            .collect();
        settle(&mut parts);
        let joined = |wanted: fn(Role) -> bool| {
            let parts: Vec<&str> = parts
                .iter()
                .filter(|(_, role)| wanted(*role))
                .map(|(part, _)| part.as_str())
                .collect();
            (!parts.is_empty()).then_some(parts)
        };
        let size_label = joined(|role| role.size_label).map(|parts| {
            let mut unique: Vec<&str> = Vec::new();
            parts.into_iter().for_each(|part| {
                if !unique.contains(&part) {
                    unique.push(part);
                }
            });
            unique.join("-")
        });
        let finetune = joined(|role| role.finetune).map(|parts| parts.join("-"));
        let version = joined(|role| role.version && !role.basename).map(|parts| parts.join("-"));
        // A name of one part only says nothing.
        let telling = size_label.is_some() || finetune.is_some() || version.is_some();
        let basename = joined(|role| role.basename).filter(|_| telling);
        Self {
            full: Some(full.to_owned()),
            organization: organization.map(str::to_owned),
            basename: basename.map(|parts| parts.join("-")),
            finetune,
            version,
            size_label,
        }
    }
}

/// What one part of a name may be.
fn annotate(part: &str, first: bool, total: u64) -> (String, Role) {
    let mut role = Role::default();
    let mut text = part.to_owned();
    if VERSION.is_match(part) {
        role.version = true;
    } else if TYPE.is_match(part) {
        role.ty = true;
        text = part.to_uppercase();
    } else if !first && SIZE.is_match(part) {
        text = size_part(part);
        if let Some(weights) = weights(&text) {
            let total = total as f64;
            if total != 0.0 && (weights - total).abs() > (7.0 * total / 8.0).floor() {
                // More likely the length of the context.
                role.finetune = true;
                if let Some(unit) = text.pop() {
                    text.extend(unit.to_lowercase());
                }
            }
        }
        if role == Role::default() {
            role.size_label = true;
        }
    } else if !first && FINETUNE.is_match(part) {
        role.finetune = true;
    }
    (text, role)
}

/// A size in one spelling: `7b` and `7B`, `1_5B` and `1.5B`, bloom's `7b1` and `7.1B`.
fn size_part(part: &str) -> String {
    let mut chars: Vec<char> = part.replace('_', ".").chars().collect();
    if let [start @ .., unit, digit] = chars.as_slice()
        && digit.is_numeric()
    {
        chars = [start, &['.', *digit, *unit]].concat();
    }
    if let [.., digit, unit] = chars.as_mut_slice()
        && digit.is_numeric()
        && matches!(unit, 'k' | 'm' | 'b' | 't')
    {
        *unit = unit.to_ascii_uppercase();
    }
    chars.into_iter().collect()
}

/// The weights that a size stands for, if it is a plain number with a unit.
fn weights(size: &str) -> Option<f64> {
    let unit = size.chars().next_back()?;
    let number = size.strip_suffix(unit)?.parse::<f64>().ok().filter(|n| n.is_finite())?;
    let exponent = " KMBT".find(unit).map_or(-1, |place| place as i32);
    Some(number * 1000f64.powi(exponent))
}

/// Decides between what the parts may be.
fn settle(parts: &mut [(String, Role)]) {
    // A word such as `small` is no size where a number is.
    if parts.iter().any(|(part, role)| role.size_label && part.chars().any(char::is_numeric)) {
        for (part, role) in parts.iter_mut() {
            role.size_label &= !part.chars().all(char::is_alphabetic);
        }
    }
    let mut at_start = true;
    for (part, role) in parts.iter_mut() {
        let word = role.count() == 0 && part.starts_with(char::is_alphabetic);
        if at_start && (word || role.version) {
            role.basename = true;
        } else {
            at_start = false;
            role.finetune |= role.count() == 0;
        }
    }
    // A version at the end is not part of the name.
    for (_, role) in parts.iter_mut().rev() {
        if !(role.basename && role.count() > 1) {
            break;
        }
        role.basename = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, organization, basename, finetune, version, size label.
    fn parts(id: &str, total: u64) -> [String; 6] {
        let name = Name::parse(id, total);
        [
            name.full.as_deref().map(title),
            name.organization.as_deref().map(title),
            name.basename,
            name.finetune,
            name.version,
            name.size_label,
        ]
        .map(Option::unwrap_or_default)
    }

    #[test]
    fn names_are_taken_apart() {
        // Results of gguf-py's Metadata.get_model_id_components and id_to_title.
        for (id, total, expected) in [
            ("Mistral-7B-Instruct-v0.2", 7_240_000_000, ["Mistral 7B Instruct v0.2", "", "Mistral", "Instruct", "v0.2", "7B"]),
            ("meta-llama/Llama-2-7b-chat-hf", 6_738_000_000, ["Llama 2 7b Chat Hf", "Meta Llama", "Llama-2", "chat-hf", "", "7B"]),
            ("bigscience/bloom-7b1", 7_069_000_000, ["Bloom 7b1", "Bigscience", "bloom", "", "", "7.1B"]),
            ("Mixtral-8x7B-v0.1", 46_700_000_000, ["Mixtral 8x7B v0.1", "", "Mixtral", "", "v0.1", "8x7B"]),
            ("Qwen1.5-MoE-A2.7B-Chat", 14_300_000_000, ["Qwen1.5 MoE A2.7B Chat", "", "Qwen1.5-MoE", "Chat", "", "A2.7B"]),
            ("Yarn-Llama-2-7b-64k", 6_738_000_000, ["Yarn Llama 2 7b 64k", "", "Yarn-Llama-2", "64k", "", "7B"]),
            ("Hermes-2-Pro-Llama-3-8B", 8_030_000_000, ["Hermes 2 Pro Llama 3 8B", "", "Hermes-2-Pro-Llama-3", "", "", "8B"]),
            ("Phi-3-mini-4k-instruct", 3_821_000_000, ["Phi 3 Mini 4k Instruct", "", "Phi-3", "4k-instruct", "", "mini"]),
            ("tiny-llama2", 2_098_432, ["Tiny Llama2", "", "", "", "", ""]),
            ("model-Q4_K-small-1_5b", 1_500_000_000, ["Model Q4_K Small 1_5b", "", "model", "small", "", "1.5B"]),
            ("./model", 1, ["Model", "", "", "", "", ""]),
            ("A plain sentence", 1, ["A Plain Sentence", "", "", "", "", ""]),
            ("", 1, ["", "", "", "", "", ""]),
            ("TinyLlama-1.1B-Chat-v1.0", 1_100_048_384, ["TinyLlama 1.1B Chat v1.0", "", "TinyLlama", "Chat", "v1.0", "1.1B"]),
            ("Meta-Llama-3.1-8B-Instruct", 8_030_261_248, ["Meta Llama 3.1 8B Instruct", "", "Meta-Llama-3.1", "Instruct", "", "8B"]),
            ("SmolLM2-135M-Instruct", 134_515_008, ["SmolLM2 135M Instruct", "", "SmolLM2", "Instruct", "", "135M"]),
            ("foo-1k", 1_000_000_000, ["Foo 1k", "", "foo", "1k", "", ""]),
            ("v2-3-4b", 4_000_000_000, ["v2 3 4b", "", "v2-3", "", "", "4B"]),
            ("deepseek-llm-7b-base", 6_910_000_000, ["Deepseek Llm 7b Base", "", "deepseek-llm", "base", "", "7B"]),
            ("gpt-NeoX-20b--extra-lora", 20_554_567_680, ["Gpt NeoX 20b Extra Lora", "", "gpt-NeoX", "extra-lora", "", "20B"]),
            ("1b-model", 1_000_000_000, ["1b Model", "", "", "1b-model", "", ""]),
            ("o'neil-x-fp16", 5, ["O'Neil X Fp16", "", "", "", "", ""]),
            ("--", 1, ["", "", "", "", "", ""]),
            ("a/b/c-7B", 7_000_000_000, ["B/C 7B", "A", "b/c", "", "", "7B"]),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(parts(id, total), expected, "{id}");
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
