//! The parts of a model's name: `meta-llama/Llama-2-7b-chat-hf` is the fine-tune `chat-hf`, of size
//! `7B`, of `Llama-2`. The rules are gguf-py's, so that the keys made from them are the same.

use std::sync::LazyLock;

use regex::Regex;

/// The parts of a model's name.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Name {
    pub(crate) full: Option<String>,
    pub(crate) organization: Option<String>,
    pub(crate) basename: Option<String>,
    pub(crate) finetune: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) size_label: Option<String>,
}

/// Words that are all lower case get a capital, but for versions and what begins with a digit.
pub(crate) fn title(text: &str) -> String {
    let word = |word: &str| {
        let lower = word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
        match lower && !is(&VERSION_OR_NUMBER, word) {
            true => capitals(word),
            false => word.to_owned(),
        }
    };
    text.replace('-', " ").split_whitespace().map(word).collect::<Vec<_>>().join(" ")
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

/// A pattern; the tests use every one, so that each is known to be one.
type Pattern = LazyLock<Option<Regex>>;

fn is(pattern: &Pattern, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

static VERSION_OR_NUMBER: Pattern = LazyLock::new(|| Regex::new(r"^(v\d+(?:\.\d+)*|\d.*)$").ok());
static VERSION: Pattern = LazyLock::new(|| Regex::new(r"(?i)^(?:(v|iter)?\d+([.]\d+)*)$").ok());
static TYPE: Pattern = LazyLock::new(|| Regex::new(r"(?i)^(?:i?q\d(_\w)*|b?fp?(16|32))$").ok());
static SIZE: Pattern = LazyLock::new(|| {
    Regex::new(r"(?i)^(?:(([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?|small|mini|medium|large|x?xl))$")
        .ok()
});
static FINETUNE: Pattern =
    LazyLock::new(|| Regex::new(r"(?i)^(?:chat|instruct|vision|lora)$").ok());

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
    /// The parts of a name such as `meta-llama/Llama-2-7b-chat-hf`. `total` are the weights of the
    /// model, or with a minus those of the layers that an adapter is for, which are at most those of
    /// the model.
    pub(crate) fn parse(id: &str, total: i64) -> Self {
        if id.contains(' ') {
            return Self { full: Some(id.to_owned()), ..Self::default() };
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
fn annotate(part: &str, first: bool, total: i64) -> (String, Role) {
    let mut role = Role::default();
    let mut text = part.to_owned();
    if is(&VERSION, part) {
        role.version = true;
    } else if is(&TYPE, part) {
        role.ty = true;
        text = part.to_uppercase();
    } else if !first && is(&SIZE, part) {
        text = size_part(part);
        if let Some(weights) = weights(&text) {
            let all = total.unsigned_abs() as f64;
            let misses = match total {
                0 => false,
                1.. => (weights - all).abs() > (7.0 * all / 8.0).floor(),
                _ => weights < (all / 8.0).floor(),
            };
            if misses {
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
    } else if !first && is(&FINETUNE, part) {
        // That an adapter is one goes without saying.
        let redundant = total < 0 && part.eq_ignore_ascii_case("lora");
        role = Role { finetune: !redundant, ty: redundant, ..role };
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
    fn parts(id: &str, total: i64) -> [String; 6] {
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
            (
                "Mistral-7B-Instruct-v0.2",
                7_240_000_000,
                ["Mistral 7B Instruct v0.2", "", "Mistral", "Instruct", "v0.2", "7B"],
            ),
            (
                "meta-llama/Llama-2-7b-chat-hf",
                6_738_000_000,
                ["Llama 2 7b Chat Hf", "Meta Llama", "Llama-2", "chat-hf", "", "7B"],
            ),
            (
                "bigscience/bloom-7b1",
                7_069_000_000,
                ["Bloom 7b1", "Bigscience", "bloom", "", "", "7.1B"],
            ),
            (
                "Mixtral-8x7B-v0.1",
                46_700_000_000,
                ["Mixtral 8x7B v0.1", "", "Mixtral", "", "v0.1", "8x7B"],
            ),
            (
                "Qwen1.5-MoE-A2.7B-Chat",
                14_300_000_000,
                ["Qwen1.5 MoE A2.7B Chat", "", "Qwen1.5-MoE", "Chat", "", "A2.7B"],
            ),
            (
                "Yarn-Llama-2-7b-64k",
                6_738_000_000,
                ["Yarn Llama 2 7b 64k", "", "Yarn-Llama-2", "64k", "", "7B"],
            ),
            (
                "Hermes-2-Pro-Llama-3-8B",
                8_030_000_000,
                ["Hermes 2 Pro Llama 3 8B", "", "Hermes-2-Pro-Llama-3", "", "", "8B"],
            ),
            (
                "Phi-3-mini-4k-instruct",
                3_821_000_000,
                ["Phi 3 Mini 4k Instruct", "", "Phi-3", "4k-instruct", "", "mini"],
            ),
            ("tiny-llama2", 2_098_432, ["Tiny Llama2", "", "", "", "", ""]),
            (
                "model-Q4_K-small-1_5b",
                1_500_000_000,
                ["Model Q4_K Small 1_5b", "", "model", "small", "", "1.5B"],
            ),
            ("./model", 1, ["Model", "", "", "", "", ""]),
            ("A plain sentence", 1, ["A Plain Sentence", "", "", "", "", ""]),
            ("", 1, ["", "", "", "", "", ""]),
            (
                "TinyLlama-1.1B-Chat-v1.0",
                1_100_048_384,
                ["TinyLlama 1.1B Chat v1.0", "", "TinyLlama", "Chat", "v1.0", "1.1B"],
            ),
            (
                "Meta-Llama-3.1-8B-Instruct",
                8_030_261_248,
                ["Meta Llama 3.1 8B Instruct", "", "Meta-Llama-3.1", "Instruct", "", "8B"],
            ),
            (
                "SmolLM2-135M-Instruct",
                134_515_008,
                ["SmolLM2 135M Instruct", "", "SmolLM2", "Instruct", "", "135M"],
            ),
            ("foo-1k", 1_000_000_000, ["Foo 1k", "", "foo", "1k", "", ""]),
            ("v2-3-4b", 4_000_000_000, ["v2 3 4b", "", "v2-3", "", "", "4B"]),
            (
                "deepseek-llm-7b-base",
                6_910_000_000,
                ["Deepseek Llm 7b Base", "", "deepseek-llm", "base", "", "7B"],
            ),
            (
                "gpt-NeoX-20b--extra-lora",
                20_554_567_680,
                ["Gpt NeoX 20b Extra Lora", "", "gpt-NeoX", "extra-lora", "", "20B"],
            ),
            ("1b-model", 1_000_000_000, ["1b Model", "", "", "1b-model", "", ""]),
            ("o'neil-x-fp16", 5, ["O'Neil X Fp16", "", "", "", "", ""]),
            ("--", 1, ["", "", "", "", "", ""]),
            ("a/b/c-7B", 7_000_000_000, ["B/C 7B", "A", "b/c", "", "", "7B"]),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(parts(id, total), expected, "{id}");
        }
    }
}
