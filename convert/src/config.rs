//! config.json: typed access to values that are checked when they are asked for.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    Error, Result,
    json::{self, Object, describe},
    mistral_format,
};

/// A model's config.json.
///
/// `null` counts as absent throughout, as it does for the programs that write these files.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
    /// Of the file.
    values: Object,
    /// What families derive from them, under names of their own.
    derived: Object,
    wrapper: bool,
    text_class: bool,
    like_reference: bool,
    further_layers: u64,
}

/// Where the configurations of multimodal models keep that of their text model.
const TEXT: [&str; 4] = ["text_config", "llm_config", "lm_config", "language_config"];

/// Where models that speak as well keep the configurations of the part that thinks.
const THINKER: &str = "thinker_config";

/// Classes whose text model has a graph of its own, whatever class its configuration names.
const WHOLE: [&str; 2] = ["DeepseekOCRForCausalLM", "UnlimitedOCRForCausalLM"];

/// Configurations of parts that only a multimodal model has.
const OTHER_PARTS: [&str; 2] = ["vision_config", "audio_config"];

/// Blocks that say how positions are rotated.
const ROPE: [&str; 2] = ["rope_parameters", "rope_scaling"];

/// Whether a name is one of our own, for what a family derives: those have blanks, and a place of their
/// own, so that nothing in a file can set them.
pub(crate) fn is_derived(key: &str) -> bool {
    key.contains(' ')
}

/// What the names of the preprocessor's keys begin with, among those that are derived.
const PREPROCESSOR: &str = "preprocessor ";

const HELP: &str = "check that the file is the one that belongs to these weights";

impl Config {
    /// Reads `config.json` of a checkpoint.
    ///
    /// # Errors
    /// If it is not there or not a JSON object.
    pub fn read(dir: &Path) -> Result<Self> {
        if mistral_format::is_here(dir) {
            let path = dir.join(mistral_format::PARAMS);
            let values = mistral_format::translated(json::read_object(&path)?);
            return Ok(Self::new(path, values));
        }
        let path = dir.join("config.json");
        if dir.is_dir() && !path.exists() {
            return Err(gguf_io::Error::NotAModel {
                path: dir.into(),
                found: "a folder without config.json".to_owned(),
                expected: "the folder of a Hugging Face checkpoint",
                help: "put the config.json of the same model beside the weights",
            }
            .into());
        }
        let values = json::read_object(&path)?;
        Ok(Self::new(path, values))
    }

    /// A configuration from the text of a config.json; `path` stands for it in messages.
    ///
    /// # Errors
    /// If the text is not a JSON object.
    pub fn parse(path: impl Into<PathBuf>, text: &[u8]) -> Result<Self> {
        let path = path.into();
        let values = json::parse(&path, text)?;
        Ok(Self::new(path, values))
    }

    /// The keys of the text model override those around it.
    fn new(path: PathBuf, mut values: Object) -> Self {
        let thinker = values.get(THINKER).and_then(Value::as_object).cloned();
        let inner = thinker.as_ref().unwrap_or(&values);
        let text = TEXT.iter().find_map(|key| inner.get(*key)?.as_object().cloned());
        let wrapper = text.is_some()
            || OTHER_PARTS.iter().any(|part| values.get(*part).is_some_and(Value::is_object));
        let names_class =
            |classes: &Value| !(classes.is_null() || classes.as_array().is_some_and(Vec::is_empty));
        let class = text.as_ref().and_then(|text| text.get("architectures"));
        let text_class = class.is_some_and(names_class);
        let outer = values.get("architectures").and_then(|classes| classes.get(0)?.as_str());
        let is_whole = outer.is_some_and(|class| WHOLE.contains(&class));
        let text_class = text_class && !is_whole;
        let given = |key: &str| values.get(key).is_some_and(|value| !value.is_null());
        let text: Vec<(String, Value)> = text
            .into_iter()
            .flatten()
            .filter(|(key, value)| match key.as_str() {
                // The class of the whole counts, unless the text model has one of its own.
                "architectures" => names_class(value) && !is_whole,
                // The whole may tie what its text model would have apart.
                "tie_word_embeddings" => values.get(key) != Some(&Value::Bool(true)),
                // The whole may end a text with another token than its text model would.
                key => !(key.ends_with("_token_id") && given(key)),
            })
            .collect();
        // A block of its own is all that the text model rotates by.
        if ROPE.iter().any(|block| text.iter().any(|(key, _)| key == block)) {
            ROPE.iter().for_each(|block| _ = values.remove(*block));
        }
        values.extend(text);
        if let Some(thinker) = thinker {
            for (key, value) in thinker {
                values.entry(key).or_insert(value);
            }
        }
        Self {
            path,
            values,
            derived: Object::new(),
            wrapper,
            text_class,
            like_reference: false,
            further_layers: 0,
        }
    }

    /// The configuration of a part of the model, with these values and what was derived besides.
    pub(crate) fn of_part(&self, values: Object, derived: Object) -> Self {
        Self {
            path: self.path.clone(),
            values,
            derived,
            wrapper: false,
            text_class: false,
            like_reference: self.like_reference,
            further_layers: 0,
        }
    }

    /// Whether this is a multimodal model, of which the text model is a part.
    pub(crate) fn is_wrapper(&self) -> bool {
        self.wrapper
    }

    /// Whether this is a params.json, whose keys have the names of config.json here.
    pub(crate) fn is_mistral_format(&self) -> bool {
        self.path.file_name().is_some_and(|name| name == mistral_format::PARAMS)
    }

    /// Whether the class is that of the text model, not that of a whole around it.
    pub(crate) fn is_text_class(&self) -> bool {
        self.text_class
    }

    /// Whether the reference converter is followed even where its result is wrong.
    pub(crate) fn like_reference(&self) -> bool {
        self.like_reference
    }

    /// Follows the reference converter even where its result is wrong.
    pub(crate) fn follow_reference(&mut self, follow: bool) {
        self.like_reference = follow;
    }

    /// How many layers after the last predict further tokens, of those that are converted.
    pub(crate) fn further_layers(&self) -> u64 {
        self.further_layers
    }

    pub(crate) fn set_further_layers(&mut self, count: u64) {
        self.further_layers = count;
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key, if it has one that is not `null`. A dot leads into a block, as in
    /// `attn_config.rope_theta`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.at(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, be it `null`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.at(key).is_some()
    }

    fn at(&self, key: &str) -> Option<&Value> {
        if is_derived(key) {
            return self.derived.get(key);
        }
        let mut names = key.split('.');
        let outer = self.values.get(names.next()?)?;
        names.try_fold(outer, |block, name| block.as_object()?.get(name))
    }

    /// Sets a key that the file leaves out, or what a family derives.
    pub(crate) fn fill(&mut self, key: &str, value: Value) {
        let of = if is_derived(key) { &mut self.derived } else { &mut self.values };
        of.insert(key.to_owned(), value);
    }

    /// The name of the model class, `architectures[0]`.
    ///
    /// # Errors
    /// If there is none.
    pub fn class(&self) -> Result<&str> {
        const KEY: &str = "architectures";
        match self.get(KEY) {
            Some(Value::Array(classes)) => match classes.first() {
                Some(Value::String(class)) => Ok(class),
                Some(other) => Err(self.wrong(KEY, &describe(other), "the name of a model class")),
                None => Err(self.wrong(KEY, "an empty list", "the name of a model class")),
            },
            Some(other) => Err(self.wrong(KEY, &describe(other), "a list with a model class")),
            None => Err(self.missing(KEY, "a list with a model class")),
        }
    }

    /// A whole number from 1 to `u32::MAX`, the range of GGUF's counts; `None` if absent.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn positive(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number @ 1..=0xffff_ffff) => Ok(Some(number)),
            _ => Err(self.wrong(key, &describe(value), "a positive whole number of 32 bits")),
        }
    }

    /// A whole number from 0 to `u32::MAX`; `None` if absent.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn whole(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number @ 0..=0xffff_ffff) => Ok(Some(number)),
            _ => Err(self.wrong(key, &describe(value), "a whole number of 32 bits, 0 or more")),
        }
    }

    /// As [`positive`](Self::positive), where the model cannot do without it.
    ///
    /// # Errors
    /// If it is absent or anything else.
    pub fn require(&self, key: &str) -> Result<u64> {
        self.positive(key)?.ok_or_else(|| self.missing(key, "a positive whole number"))
    }

    /// As [`require`](Self::require) in a layer, for keys that may hold a number for each layer.
    ///
    /// # Errors
    /// If it is absent or anything else, or there is none for this layer.
    pub(crate) fn require_in(&self, key: &str, layer: Option<u64>) -> Result<u64> {
        let (Some(Value::Array(numbers)), Some(layer)) = (self.get(key), layer) else {
            return self.require(key);
        };
        let index = usize::try_from(layer).unwrap_or(usize::MAX);
        match numbers.get(index).map(|number| (number, number.as_u64())) {
            Some((_, Some(number @ 1..=0xffff_ffff))) => Ok(number),
            Some((other, _)) => {
                let expected = format!("a positive whole number for layer {layer}");
                Err(self.wrong(key, &describe(other), &expected))
            }
            None => {
                let found = format!("a list of {}", numbers.len());
                Err(self.wrong(key, &found, "a number for each layer"))
            }
        }
    }

    /// Whole numbers, one for each of so many layers, where the value is a list; `None` if it is
    /// none.
    ///
    /// # Errors
    /// If the list is of another length or holds anything else.
    pub(crate) fn by_layer(&self, key: &str, layers: u64) -> Result<Option<Vec<i32>>> {
        let Some(Value::Array(numbers)) = self.get(key) else {
            return Ok(None);
        };
        if numbers.len() as u64 != layers {
            let found = format!("a list of {}", numbers.len());
            return Err(self.wrong(key, &found, &format!("{layers} numbers, one for each layer")));
        }
        let number = |value: &Value| {
            let number = value.as_i64().and_then(|n| i32::try_from(n).ok()).filter(|n| *n >= 0);
            number.ok_or_else(|| self.wrong(key, &describe(value), "whole numbers of 31 bits"))
        };
        numbers.iter().map(number).collect::<Result<_>>().map(Some)
    }

    /// `true` or `false`; `false` if absent.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, &describe(other), "true or false")),
        }
    }

    /// A positive number that a 32-bit float can hold; `None` if absent.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.number_of(self.at(key), key)
    }

    /// As [`number`](Self::number) from a nested object; `shown` names the key in messages.
    pub(crate) fn number_in(&self, object: &Object, key: &str, shown: &str) -> Result<Option<f64>> {
        self.number_of(object.get(key), shown)
    }

    fn number_of(&self, value: Option<&Value>, shown: &str) -> Result<Option<f64>> {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if number > 0.0 && number <= f64::from(f32::MAX) => Ok(Some(number)),
            _ => Err(self.wrong(shown, &describe(value), "a positive number of 32 bits")),
        }
    }

    /// The names of the file's own keys with `positive` numbers under the first of several aliases.
    ///
    /// The first alias that is in the file counts, as in the reference converter.
    pub(crate) fn alias<'k>(&self, keys: &'k [&'k str]) -> Option<&'k str> {
        keys.iter().copied().find(|key| self.has(key))
    }

    /// `a / b`, which must leave nothing over.
    ///
    /// # Errors
    /// If either is absent or `a` is not a multiple of `b`.
    pub fn quotient(&self, a: &str, b: &str) -> Result<u64> {
        let (dividend, divisor) = (self.require(a)?, self.require(b)?);
        match dividend.checked_rem(divisor) {
            Some(0) => Ok(dividend / divisor),
            _ => Err(self.wrong(
                a,
                &dividend.to_string(),
                &format!("a multiple of {b}, which is {divisor}"),
            )),
        }
    }

    /// The error for a key that is not there.
    pub(crate) fn missing(&self, key: &str, expected: &str) -> Error {
        self.wrong(key, "missing", expected)
    }

    /// The error for a value that cannot be.
    pub(crate) fn wrong(&self, key: &str, found: &str, expected: &str) -> Error {
        if let Some(key) = key.strip_prefix(PREPROCESSOR) {
            return self.wrong_of_preprocessor(key, found, expected);
        }
        // What an encoder depends on in the blocks around its own.
        let key = ["whole ", "text "].iter().find_map(|of| key.strip_prefix(of)).unwrap_or(key);
        Error::Config {
            path: self.path.clone(),
            key: if self.is_mistral_format() { mistral_format::own_name(key) } else { key }
                .to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
            help: HELP,
        }
    }

    /// The same for a key of the preprocessor, which is another file beside this one.
    fn wrong_of_preprocessor(&self, key: &str, found: &str, expected: &str) -> Error {
        const FILES: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];
        let [old, new] = FILES.map(|name| self.path.with_file_name(name));
        let is_there = old.exists() || new.exists();
        Error::Config {
            path: if old.exists() || !new.exists() { old } else { new },
            key: key.to_owned(),
            found: if is_there { found } else { "missing with the whole file" }.to_owned(),
            expected: expected.to_owned(),
            help: if is_there { HELP } else { "put the one of the same model beside config.json" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("config.json", text.as_bytes()).unwrap()
    }

    #[test]
    fn counts_are_positive_whole_numbers() {
        let ok = config(r#"{"n": 4294967295, "none": null}"#);
        assert_eq!(ok.positive("n").unwrap(), Some(4_294_967_295));
        assert_eq!(ok.positive("none").unwrap(), None);
        assert_eq!(ok.positive("absent").unwrap(), None);
        for bad in ["0", "-2", "\"two\"", "1.5", "4294967296", "true", "[2]", "1e30", "{}"] {
            let text = config(&format!("{{\"n\": {bad}}}"));
            let message = text.positive("n").unwrap_err().to_string();
            assert!(
                message.starts_with("config.json: key \"n\" is ")
                    && message.contains("expected a positive whole number"),
                "{message}"
            );
        }
        let message = ok.require("absent").unwrap_err().to_string();
        assert!(message.contains("key \"absent\" is missing"), "{message}");
    }

    #[test]
    fn numbers_are_positive_and_fit() {
        let ok = config(r#"{"a": 1e-5, "b": 500000}"#);
        assert_eq!(ok.number("a").unwrap(), Some(1e-5));
        assert_eq!(ok.number("b").unwrap(), Some(500_000.0));
        for bad in ["0", "-1e-5", "\"1\"", "1e300", "false"] {
            let text = config(&format!("{{\"n\": {bad}}}"));
            assert!(text.number("n").is_err(), "{bad}");
        }
    }

    #[test]
    fn quotients_leave_nothing_over() {
        let ok = config(r#"{"hidden": 12, "heads": 4, "odd": 5}"#);
        assert_eq!(ok.quotient("hidden", "heads").unwrap(), 3);
        let message = ok.quotient("hidden", "odd").unwrap_err().to_string();
        assert!(message.contains("key \"hidden\" is 12, expected a multiple of odd"), "{message}");
    }

    #[test]
    fn the_tokens_of_the_whole_count_before_those_of_its_text_model() {
        let config = config(
            r#"{"eos_token_id": 7, "bos_token_id": null, "tie_word_embeddings": true, "hidden": 1,
                "text_config": {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0,
                "tie_word_embeddings": false, "hidden": 2}}"#,
        );
        let ids = ["eos_token_id", "bos_token_id", "pad_token_id", "hidden"];
        assert_eq!(ids.map(|key| config.whole(key).unwrap()), [Some(7), Some(1), Some(0), Some(2)]);
        assert!(config.flag("tie_word_embeddings").unwrap());
    }

    #[test]
    fn the_block_of_the_text_model_replaces_that_of_the_whole() {
        for (text, left) in [
            (r#"{"rope_scaling": {"a": 1}, "text_config": {"rope_parameters": {"b": 2}}}"#, false),
            (r#"{"rope_scaling": {"a": 1}, "text_config": {"hidden_size": 2}}"#, true),
            (r#"{"rope_scaling": {"a": 1}, "vision_config": {"rope_parameters": {}}}"#, true),
        ] {
            assert_eq!(config(text).has("rope_scaling"), left, "{text}");
        }
    }

    #[test]
    fn the_text_model_may_be_part_of_one_that_thinks() {
        let config = config(
            r#"{"model_type": "qwen2_5_omni", "thinker_config": {"vision_config": {"depth": 1},
                "text_config": {"model_type": "qwen2_5_omni_text", "hidden_size": 8}}}"#,
        );
        assert!(config.is_wrapper());
        assert_eq!(config.require("hidden_size").unwrap(), 8);
        assert_eq!(config.get("model_type").unwrap(), "qwen2_5_omni_text");
        assert!(config.get("vision_config").is_some());
    }

    #[test]
    fn the_class_is_named() {
        assert_eq!(config(r#"{"architectures": ["A", "B"]}"#).class().unwrap(), "A");
        for bad in [
            "{}",
            r#"{"architectures": []}"#,
            r#"{"architectures": "A"}"#,
            r#"{"architectures": [1]}"#,
        ] {
            assert!(config(bad).class().is_err(), "{bad}");
        }
    }
}
