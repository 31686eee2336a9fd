//! Model families: how the tensors and hyper-parameters of each become GGUF's.
//!
//! A family is one file that declares an [`Architecture`]; the engine beside it
//! ([`parameters`], [`tensors`]) does the work. To add one: declare it, list it in [`ALL`].

pub(crate) mod fp8;
pub mod parameters;
mod refusals;
mod rope;
mod rule;
mod shared;
pub mod tensors;

mod arcee;
mod bert;
mod bloom;
mod cohere;
mod cohere2;
mod deepseek2;
mod distilbert;
mod dots1;
mod encoder;
mod ernie4_5;
mod exaone4;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_oss;
mod gptneox;
mod granite;
mod granitemoe;
mod llama;
mod mistral3;
mod mixtral;
mod modern_bert;
mod mpt;
mod nemotron;
mod nomic_bert;
mod olmo;
mod olmo2;
mod olmoe;
mod phi2;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen3moe;
mod roberta;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder;
mod starcoder2;

use serde_json::Value;

use crate::{Config, Error, Result, model::Tensor, tokenizer};

use parameters::{COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Keys, Parameter};
use tensors::{Dim, Rule};
use tokenizer::Kind;

/// All families.
pub const ALL: &[&Architecture] = &[
    &arcee::ARCEE,
    &bert::BERT,
    &bloom::BLOOM,
    &cohere2::COHERE2,
    &cohere::COHERE,
    &deepseek2::DEEPSEEK2,
    &distilbert::DISTILBERT,
    &dots1::DOTS1,
    &ernie4_5::ERNIE4_5,
    &exaone4::EXAONE4,
    &falcon::FALCON,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &gemma::GEMMA,
    &gpt2::GPT2,
    &gpt_oss::GPT_OSS,
    &gptneox::GPTNEOX,
    &granite::GRANITE,
    &granitemoe::GRANITEMOE,
    &llama::LLAMA,
    &mistral3::MISTRAL3,
    &mixtral::MIXTRAL,
    &modern_bert::MODERN_BERT,
    &mpt::MPT,
    &nemotron::NEMOTRON,
    &nomic_bert::NOMIC_BERT,
    &olmo2::OLMO2,
    &olmo::OLMO,
    &olmoe::OLMOE,
    &phi2::PHI2,
    &phi3::PHI3,
    &qwen2::QWEN2,
    &qwen2moe::QWEN2MOE,
    &qwen3::QWEN3,
    &qwen3moe::QWEN3MOE,
    &roberta::ROBERTA,
    &roberta::XLM_ROBERTA,
    &seed_oss::SEED_OSS,
    &smollm3::SMOLLM3,
    &stablelm::STABLELM,
    &starcoder2::STARCODER2,
    &starcoder::STARCODER,
];

/// Makes tensors that no checkpoint holds.
pub type Computed = fn(&Config, &mut Keys<'_>) -> Result<Vec<Tensor>>;

/// A model family.
#[derive(Debug)]
pub struct Architecture {
    /// GGUF's name for it: the value of `general.architecture` and the prefix of its keys.
    pub name: &'static str,
    /// The Hugging Face classes it covers.
    pub classes: &'static [&'static str],
    /// What the configuration classes of transformers assume where config.json is silent.
    pub defaults: &'static [ModelDefaults],
    /// Hyper-parameters, in the order they are written.
    pub parameters: &'static [&'static [Parameter]],
    /// Tensors of the checkpoint.
    pub tensors: &'static [&'static [Rule]],
    /// What names of tensors begin with that some checkpoints leave out.
    pub prefix: &'static str,
    /// What names of tensors begin with in some checkpoints, before those of the rules.
    pub wrappers: &'static [&'static str],
    /// Endings of names of tensors in older checkpoints, and those they have today.
    pub endings: &'static [(&'static str, &'static str)],
    /// Why layers after the last are no part of the output, if checkpoints have such.
    pub beyond: Option<&'static str>,
    /// Relations between hyper-parameters that must hold.
    pub check: fn(&Config) -> Result<()>,
    /// Tensors that no checkpoint holds, written before the others, and keys that go with them.
    pub computed: Computed,
    /// Tokenizers, in the order they are looked for.
    pub tokenizers: &'static [tokenizer::Kind],
    /// What else the tokenizer's keys depend on.
    pub special: &'static [tokenizer::Adjustment],
    /// Keys that are written after those of a SentencePiece tokenizer.
    pub last: &'static [(&'static str, Constant)],
}

/// What most families have, to be completed by each.
pub const BASE: Architecture = Architecture {
    name: "",
    classes: &[],
    defaults: &[],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE],
    tensors: &[],
    prefix: "model.",
    wrappers: &[],
    endings: &[],
    beyond: None,
    check: |_| Ok(()),
    computed: |_, _| Ok(Vec::new()),
    tokenizers: &[Kind::SentencePiece, Kind::ByteLevel],
    special: &[],
    last: &[],
};

/// What a configuration class of transformers assumes.
#[derive(Debug)]
pub struct ModelDefaults {
    /// `model_type` in config.json.
    pub model_type: &'static str,
    /// Applied in order, so that a later one can use an earlier.
    pub values: &'static [&'static [Default]],
}

/// A value for a key that config.json leaves out.
#[derive(Debug)]
pub struct Default {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: Fill,
    /// Whether an explicit `null` is replaced as well.
    pub null: bool,
}

/// Where a default comes from.
#[derive(Debug)]
pub enum Fill {
    /// A whole number.
    Whole(u64),
    /// Any other number.
    Number(f64),
    /// The value of another key.
    Same(&'static str),
    /// One key divided by another.
    Quotient(&'static str, &'static str),
    /// The value of another key, if it has one.
    Given(&'static str),
    /// The sum of sizes.
    Sum(&'static [Dim]),
    /// A text.
    Text(&'static str),
    /// `true` or `false`.
    Flag(bool),
    /// What data cannot say; nothing is filled in for `None`.
    With(fn(&Config) -> Result<Option<Value>>),
}

/// The family of a Hugging Face class.
///
/// # Errors
/// [`Error::Architecture`] if no family covers the class.
pub fn find(config: &Config) -> Result<&'static Architecture> {
    let class = config.class()?;
    let all = || ALL.iter().flat_map(|family| family.classes.iter().copied());
    if let Some(family) = ALL.iter().find(|family| family.classes.contains(&class)) {
        return Ok(family);
    }
    let mut supported: Vec<_> = all().collect();
    supported.sort_unstable();
    let mut closest = supported.clone();
    closest.sort_by_cached_key(|known| distance(class, known));
    closest.truncate(CLOSEST);
    Err(Error::Architecture {
        path: config.path().to_path_buf(),
        class: class.to_owned(),
        closest: closest.join(", "),
        supported: supported.join(", "),
    })
}

impl Architecture {
    /// Completes a configuration with what its class assumes, and checks it.
    ///
    /// # Errors
    /// If a default cannot be derived or the configuration contradicts itself.
    pub fn complete(&self, config: &mut Config) -> Result<()> {
        let model_type = config.get("model_type").and_then(Value::as_str);
        let defaults = self
            .defaults
            .iter()
            .find(|defaults| Some(defaults.model_type) == model_type)
            // A file without the key, or with a name of its own, is read as the family's first.
            .or(self.defaults.first());
        for default in defaults.iter().flat_map(|defaults| defaults.values).copied().flatten() {
            let absent = !config.has(default.key);
            if !(absent || default.null && config.get(default.key).is_none()) {
                continue;
            }
            let value = match default.value {
                Fill::Whole(number) => number.into(),
                Fill::Number(number) => number.into(),
                Fill::Same(key) => config.require(key)?.into(),
                Fill::Quotient(a, b) => config.quotient(a, b)?.into(),
                Fill::Given(key) => match config.get(key) {
                    Some(value) => value.clone(),
                    None => continue,
                },
                Fill::Sum(sizes) => {
                    let sum = sizes.iter().try_fold(0u64, |sum, size| {
                        Ok::<_, Error>(sum.saturating_add(size.size(config)?))
                    })?;
                    sum.into()
                }
                Fill::Text(text) => text.into(),
                Fill::Flag(flag) => flag.into(),
                Fill::With(value) => match value(config)? {
                    Some(value) => value,
                    None => continue,
                },
            };
            config.fill(default.key, value);
        }
        (self.check)(config)
    }
}

/// How many supported classes are named before the list of all.
const CLOSEST: usize = 3;

/// The number of letters to change, add or remove to make one name the other.
fn distance(a: &str, b: &str) -> usize {
    // A class name from a file may be of any length; what is beyond this is not a near miss.
    const LONGEST: usize = 128;
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(LONGEST).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (above + 1).min(left + 1).min(diagonal + usize::from(x != *y));
            *cell = left;
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn unknown_classes_get_the_closest_and_the_list() {
        let text = br#"{"architectures": ["MistralForCausalM"]}"#;
        let config = Config::parse("config.json", text).unwrap();
        let message = find(&config).unwrap_err().to_string();
        assert!(
            message.contains("\"MistralForCausalM\"")
                && message.contains("closest supported ones are MistralForCausalLM, ")
                && message.contains("LlamaForCausalLM"),
            "{message}"
        );
    }

    #[test]
    fn no_class_is_claimed_twice() {
        let mut classes: Vec<_> = ALL.iter().flat_map(|family| family.classes).collect();
        let all = classes.len();
        classes.sort_unstable();
        classes.dedup();
        assert_eq!(classes.len(), all);
    }
}
