//! A model family, as its file declares it.

use gguf_io::metadata::Metadata;
use serde_json::Value;

use crate::{
    Config, Result,
    model::Tensor,
    tokenizer::{self, Kind},
};

use super::{
    defaults::{Fill, ModelDefaults},
    layers::Further,
    parameters::{COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    rope,
    rule::Rule,
};

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
    /// The family that a configuration makes it, if another.
    pub variant: fn(&Config) -> Option<&'static Architecture>,
    /// The name of a tensor in the rules, where no list says it.
    pub rename: fn(&Config, &str) -> Option<String>,
    /// How many layers after the last predict further tokens and are converted.
    pub further: Further,
    /// Why layers after the last are no part of the output, if checkpoints have such.
    pub beyond: Option<&'static str>,
    /// Whether llama.cpp loads no model without a tensor for the output, even if its embeddings are
    /// tied.
    pub needs_output: bool,
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
    variant: |_| None,
    rename: |_, _| None,
    further: Further::None,
    beyond: None,
    needs_output: false,
    check: |_| Ok(()),
    computed: |_, _| Ok(Vec::new()),
    tokenizers: &[Kind::SentencePiece, Kind::ByteLevel],
    special: &[],
    last: &[],
};

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
        let sizes = defaults.filter(|_| config.is_wrapper()).map(|defaults| defaults.in_wrapper);
        let values = defaults.iter().flat_map(|defaults| defaults.values).copied();
        for default in sizes.into_iter().chain(values).flatten() {
            let absent = !config.has(default.key);
            if !(absent || default.given || default.null && config.get(default.key).is_none()) {
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
                Fill::Size(size) => size.size(config)?.into(),
                Fill::Text(text) => text.into(),
                Fill::Flag(flag) => flag.into(),
                Fill::With(value) => match value(config)? {
                    Some(value) => value,
                    None => continue,
                },
            };
            config.fill(default.key, value);
        }
        rope::warn(config)?;
        (self.check)(config)
    }

    /// Writes all hyper-parameters.
    ///
    /// # Errors
    /// If config.json lacks one that is required or holds a value that cannot be.
    pub fn write(&self, config: &Config, metadata: &mut Metadata) -> Result<()> {
        for parameter in self.parameters.iter().copied().flatten() {
            match parameter {
                Parameter::FileType => _ = metadata.insert("general.file_type", 0u32),
                Parameter::Global(key, value) => _ = metadata.insert(*key, *value),
                other => other.write(config, &mut self.keys(metadata))?,
            }
        }
        Ok(())
    }

    /// Its own keys in some metadata.
    pub(crate) fn keys<'m>(&self, metadata: &'m mut Metadata) -> Keys<'m> {
        Keys::new(self.name, self.further, metadata)
    }
}
