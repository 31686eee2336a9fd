//! Rotary position embedding: both forms config.json has had for it.

use serde_json::Value;

use crate::{
    Config, Result,
    json::{Object, describe},
};

use super::parameter::Keys;

/// The block of transformers 5.
const PARAMETERS: &str = "rope_parameters";

/// The block of older versions, which users add by hand to lengthen a model's context.
const SCALING: &str = "rope_scaling";

/// Names that the base frequency has had outside of those.
const THETA: &[&str] = &[
    "global_rope_theta",
    "rope_global_theta",
    "rope_theta_global",
    "rope_theta",
    "rotary_emb_base",
];

/// Names that the base frequency of layers with a sliding window has had outside of those.
const LOCAL_THETA: &[&str] = &[
    "local_rope_theta",
    "rope_local_theta",
    "rope_theta_local",
    "swa_rope_theta",
    "rope_local_base_freq",
];

/// Names that the share of a head that is rotated has had outside of those.
const PARTIAL: &[&str] = &["partial_rotary_factor", "rope_pct", "rope_percent"];

/// The parameters for full attention.
pub(super) struct Rope<'c> {
    config: &'c Config,
    place: &'static str,
    object: Object,
    /// Those for a sliding window.
    local: Object,
    /// What stands outside of the block, and the key it has there.
    outside: Vec<(&'static str, &'static str)>,
}

impl<'c> Rope<'c> {
    /// As transformers reads them: `rope_scaling` counts where it has entries. It replaces
    /// `rope_parameters`, or changes those of full attention where each kind of attention has its
    /// own.
    pub(super) fn read(config: &'c Config) -> Result<Self> {
        let (own, added) = (block(config, PARAMETERS)?, block(config, SCALING)?);
        let place = if own.is_some() && added.is_none() { PARAMETERS } else { SCALING };
        let nested =
            |object: &Object, kind: &str| object.get(kind).and_then(Value::as_object).cloned();
        let has_kinds = |object: &Object| KINDS.iter().any(|kind| nested(object, kind).is_some());
        let mut object = match (own, added) {
            (Some(own), Some(mut added)) if has_kinds(&own) && !has_kinds(&added) => {
                let [full, sliding] = KINDS.map(|kind| nested(&own, kind));
                name_type(&mut added);
                let mut full = full.unwrap_or_default();
                full.extend(added);
                let mut object = Object::new();
                object.insert(FULL.to_owned(), full.into());
                if let Some(sliding) = sliding {
                    object.insert(SLIDING.to_owned(), sliding.into());
                }
                object
            }
            (own, added) => added.or(own).unwrap_or_default(),
        };
        // Models that mix kinds of attention have an object for each.
        let mut local = nested(&object, SLIDING);
        if let Some(full) = nested(&object, FULL) {
            object = full;
        }
        name_type(&mut object);
        let mut outside = Vec::new();
        for (to, names) in [("rope_theta", THETA), ("partial_rotary_factor", PARTIAL)] {
            let given = config.alias(names).and_then(|key| Some((key, config.get(key)?)));
            if let (false, Some((key, value))) = (object.contains_key(to), given) {
                object.insert(to.to_owned(), value.clone());
                outside.push((to, key));
            }
        }
        if let Some(theta) = config.alias(LOCAL_THETA).and_then(|key| config.get(key)) {
            let local = local.get_or_insert_default();
            if !local.contains_key("rope_theta") {
                local.insert("rope_theta".to_owned(), theta.clone());
            }
        }
        let local = local.unwrap_or_default();
        Ok(Self { config, place, object, local, outside })
    }

    /// `rope_type`, lower case.
    pub(super) fn kind(&self) -> Result<Option<String>> {
        match self.object.get("rope_type") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(kind)) => Ok(Some(kind.to_lowercase())),
            Some(other) => Err(self.config.wrong(
                &self.shown("rope_type"),
                &describe(other),
                "the name of a method",
            )),
        }
    }

    /// A positive number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.config.number_in(&self.object, key, &self.shown(key))
    }

    /// The share of a head that is rotated.
    pub(super) fn partial(&self) -> Result<Option<f64>> {
        self.number("partial_rotary_factor")
    }

    /// Whether layers with a sliding window have parameters of their own.
    pub(super) fn has_sliding(&self) -> bool {
        !self.local.is_empty()
    }

    /// The share of a head that is rotated with a sliding window.
    pub(super) fn sliding_partial(&self) -> Result<Option<f64>> {
        let shown = self.shown("sliding_attention.partial_rotary_factor");
        self.config.number_in(&self.local, "partial_rotary_factor", &shown)
    }

    /// A list of positive numbers.
    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>> {
        let wrong = |value: &Value| {
            self.config.wrong(&self.shown(key), &describe(value), "a list of positive numbers")
        };
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(values)) => {
                let number = |value: &Value| {
                    let number = value.as_f64().filter(|n| *n > 0.0 && *n <= f64::from(f32::MAX));
                    number.map(|n| n as f32).ok_or_else(|| wrong(value))
                };
                values.iter().map(number).collect::<Result<Vec<_>>>().map(Some)
            }
            Some(other) => Err(wrong(other)),
        }
    }

    /// The context the model was trained with, before it was scaled.
    ///
    /// Where the block does not say it, transformers takes `original_max_position_embeddings`
    /// beside the block, then `max_position_embeddings`. The reference converter misses the former,
    /// but for classes that declare it, as Phi-3's.
    pub(super) fn original_context(&self) -> Result<u64> {
        let outside = self.config.get(ORIGINAL).filter(|_| !self.config.like_reference());
        let longest = || self.config.require("max_position_embeddings");
        match self.object.get(ORIGINAL).filter(|value| !value.is_null()) {
            Some(value) => value
                .as_f64()
                .filter(|count| count.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(count))
                .map(|count| count as u64)
                .ok_or_else(|| {
                    let expected = "a positive whole number of 32 bits";
                    self.config.wrong(&self.shown(ORIGINAL), &describe(value), expected)
                }),
            None if outside.is_some() => self.config.require(ORIGINAL),
            None => longest(),
        }
    }

    /// How many times longer the context is than the original one. Where YaRN's factor is `null`,
    /// that follows from both, as in transformers.
    fn factor(&self) -> Result<Option<f64>> {
        let is_null = self.object.get("factor").is_some_and(Value::is_null);
        if is_null && self.kind()?.as_deref() == Some("yarn") {
            let longest = self.config.require("max_position_embeddings")? as f64;
            return Ok(Some(longest / self.original_context()? as f64));
        }
        self.number("factor")
    }

    /// How many rotary pairs each axis of a position turns: time, height, width and one more.
    pub(super) fn sections(&self) -> Result<Option<Vec<i32>>> {
        self.sections_of("mrope_section")
    }

    /// As [`sections`](Self::sections), under another key.
    pub(super) fn sections_of(&self, key: &str) -> Result<Option<Vec<i32>>> {
        const AXES: usize = 4;
        let wrong = |value: &Value| {
            let expected = "a list of up to 4 whole numbers of 31 bits";
            self.config.wrong(&self.shown(key), &describe(value), expected)
        };
        let Some(value) = self.object.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let sections = value.as_array().filter(|sections| sections.len() <= AXES);
        let pairs = |value: &Value| value.as_u64().and_then(|pairs| i32::try_from(pairs).ok());
        let mut sections = sections
            .and_then(|sections| sections.iter().map(pairs).collect::<Option<Vec<_>>>())
            .ok_or_else(|| wrong(value))?;
        sections.resize(AXES, 0);
        Ok(Some(sections))
    }

    /// Where config.json has a key.
    pub(super) fn shown(&self, key: &str) -> String {
        match self.outside.iter().find(|(to, _)| *to == key) {
            Some((_, name)) => (*name).to_owned(),
            None => format!("{}.{key}", self.place),
        }
    }
}

const ORIGINAL: &str = "original_max_position_embeddings";
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Kinds of attention that may each have a block of their own.
const KINDS: [&str; 2] = [FULL, SLIDING];

/// A block of config.json; `None` where it is absent or empty.
fn block(config: &Config, key: &str) -> Result<Option<Object>> {
    match config.get(key) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object.clone()).filter(|block| !block.is_empty())),
        Some(other) => Err(config.wrong(key, &describe(other), "an object")),
    }
}

/// What a class assumes for a configuration that says nothing of rotary embedding but its base.
pub(super) fn assumed(config: &Config, block: Value) -> Option<Value> {
    let is_empty =
        |key| config.get(key).is_none_or(|block| block.as_object().is_some_and(Object::is_empty));
    let silent = !config.has(PARAMETERS) && is_empty(SCALING);
    silent.then_some(block)
}

/// Gives the method its name of today.
fn name_type(object: &mut Object) {
    if let (false, Some(kind)) = (object.contains_key("rope_type"), object.get("type").cloned()) {
        object.insert("rope_type".to_owned(), kind);
    }
}

/// Warns of two blocks that contradict each other.
pub(super) fn warn(config: &Config) -> Result<()> {
    let (Some(own), Some(added)) = (block(config, PARAMETERS)?, block(config, SCALING)?) else {
        return Ok(());
    };
    if own == added {
        return Ok(());
    }
    let rope = Rope::read(config)?;
    let (theta, lost) = (rope.number("rope_theta")?, own.get("rope_theta").and_then(Value::as_f64));
    let base = match (theta, lost) {
        (Some(theta), Some(lost)) if theta != lost && !added.contains_key("rope_theta") => format!(
            "; the base frequency becomes {theta}, as in transformers: add rope_theta to \
             rope_scaling if it has to stay {lost}"
        ),
        _ => String::new(),
    };
    tracing::warn!(
        kind = "rope-scaling",
        "config.json has both rope_scaling and rope_parameters, and they differ: rope_scaling \
         counts, as in transformers{base}"
    );
    Ok(())
}

/// Warns where a model's rotary embedding is scaled but its file says nothing of it: `written` is
/// whether it does.
pub(crate) fn warn_left_out(config: &Config, written: bool) -> Result<()> {
    let rope = Rope::read(config)?;
    match rope.kind()?.as_deref() {
        None | Some("default" | "mrope") => {}
        Some(_) if written => {}
        Some(kind) => tracing::warn!(
            kind = "rope-scaling",
            "config.json: {} is {:?}, for which llama.cpp has no place in this architecture: the \
             model works up to its original context only",
            rope.shown("rope_type"),
            kind.chars().take(40).collect::<String>(),
        ),
    }
    Ok(())
}

/// The base frequency that config.json gives.
pub(super) fn base(config: &Config) -> Result<Option<f64>> {
    Rope::read(config)?.number("rope_theta")
}

/// By how much YaRN strengthens attention, as a share of what engines take for the context's factor; `None`
/// if that is right.
///
/// `yarn_attn_factor`, which the reference converter writes, has no effect: llama.cpp computes that one
/// itself, and multiplies it with `attn_factor`.
pub(super) fn attention_factor(config: &Config) -> Result<Option<f64>> {
    let rope = Rope::read(config)?;
    let Some(factor) = rope.factor()? else { return Ok(None) };
    let strength = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    let number = |key| rope.object.get(key).and_then(Value::as_f64).filter(|scale| *scale != 0.0);
    let wanted =
        match (rope.number("attention_factor")?, number("mscale"), number("mscale_all_dim")) {
            (Some(wanted), ..) => wanted,
            (None, Some(scale), Some(all)) => strength(scale) / strength(all),
            _ => return Ok(None),
        };
    let share = wanted / strength(1.0);
    let is_other = share.is_finite() && share > 0.0 && (share - 1.0).abs() > 1e-6;
    Ok(is_other.then_some(share))
}

/// Numbers that YaRN may set, under config.json's name and GGUF's.
const YARN: [(&[&str], &str); 4] = [
    (&["extrapolation_factor"], "rope.scaling.yarn_ext_factor"),
    (&["attention_factor", "attn_factor"], "rope.scaling.yarn_attn_factor"),
    (&["beta_fast"], "rope.scaling.yarn_beta_fast"),
    (&["beta_slow"], "rope.scaling.yarn_beta_slow"),
];

/// Writes the scaling method and the base frequency.
pub(super) fn write(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let rope = Rope::read(config)?;
    let factor = rope.factor()?;
    match (rope.kind()?.as_deref(), factor) {
        (Some("linear"), Some(factor)) => {
            keys.set("rope.scaling.type", "linear");
            keys.set_number("rope.scaling.factor", factor);
        }
        (Some("yarn"), Some(factor)) => {
            keys.set("rope.scaling.type", "yarn");
            keys.set_number("rope.scaling.factor", factor);
            let context = rope.original_context()?;
            keys.set_count("rope.scaling.original_context_length", context);
            for (names, key) in YARN {
                let name = names.iter().find(|name| rope.object.contains_key(**name));
                if let Some(value) = name.map(|name| rope.number(name)).transpose()?.flatten() {
                    keys.set_number(key, value);
                }
            }
        }
        (Some("su" | "longrope"), _) => keys.set("rope.scaling.type", "longrope"),
        (Some("linear" | "yarn"), None) => {
            return Err(config.missing(&rope.shown("factor"), "a positive number"));
        }
        // llama3 becomes a tensor; warn_left_out names what has no keys.
        _ => {}
    }
    if let Some(sections) = rope.sections()? {
        keys.set("rope.dimension_sections", sections);
    }
    if let Some(theta) = rope.number("rope_theta")? {
        keys.set_number("rope.freq_base", theta);
    }
    let shown = rope.shown("sliding_attention.rope_theta");
    if let Some(theta) = config.number_in(&rope.local, "rope_theta", &shown)? {
        keys.set_number("rope.freq_base_swa", theta);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("config.json", text.as_bytes()).unwrap()
    }

    #[test]
    fn both_forms_are_read() {
        for text in [
            r#"{"rope_theta": 500000.0, "rope_scaling": {"type": "LINEAR", "factor": 2}}"#,
            r#"{"rope_parameters": {"rope_theta": 500000.0, "rope_type": "linear", "factor": 2.0}}"#,
            r#"{"rope_theta": 1, "rope_parameters": {"full_attention":
                {"rope_theta": 500000.0, "rope_type": "linear", "factor": 2.0}}}"#,
        ] {
            let config = config(text);
            let rope = Rope::read(&config).unwrap();
            assert_eq!(rope.number("rope_theta").unwrap(), Some(500_000.0), "{text}");
            assert_eq!(rope.kind().unwrap().as_deref(), Some("linear"), "{text}");
            assert_eq!(rope.number("factor").unwrap(), Some(2.0), "{text}");
        }
    }

    #[test]
    fn the_block_that_a_user_added_counts_transformers_33783() {
        let own = r#""rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}"#;
        let kinds = r#""rope_parameters": {
            "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}}"#;
        for (text, kind, theta, local) in [
            // As transformers 5 has it, the base frequency is that of the block or beside both.
            (
                format!(
                    r#"{own}, "rope_scaling": {{"type": "yarn", "factor": 4}}, "rope_theta": 7"#
                ),
                "yarn",
                7.0,
                None,
            ),
            (
                format!(
                    r#"{own}, "rope_scaling": {{"rope_type": "yarn", "rope_theta": 8, "factor": 4}}"#
                ),
                "yarn",
                8.0,
                None,
            ),
            (
                format!(r#"{kinds}, "rope_scaling": {{"type": "linear", "factor": 8}}"#),
                "linear",
                1e6,
                Some(1e4),
            ),
            // One that is empty or null was not added.
            (format!(r#"{own}, "rope_scaling": {{}}"#), "default", 1e6, None),
            (format!(r#"{own}, "rope_scaling": null"#), "default", 1e6, None),
        ] {
            let config = config(&format!("{{{text}}}"));
            let rope = Rope::read(&config).unwrap();
            assert_eq!(rope.kind().unwrap().as_deref(), Some(kind), "{text}");
            assert_eq!(rope.number("rope_theta").unwrap(), Some(theta), "{text}");
            assert_eq!(rope.local.get("rope_theta").and_then(Value::as_f64), local, "{text}");
        }
    }

    #[test]
    fn yarn_finds_its_original_context_transformers_33783() {
        for (text, expected) in [
            (r#""rope_scaling": {"original_max_position_embeddings": 32}"#, 32),
            (r#""rope_scaling": {"original_max_position_embeddings": 32.0}"#, 32),
            (r#""rope_scaling": {}, "original_max_position_embeddings": 64"#, 64),
            (r#""rope_parameters": {"original_max_position_embeddings": null}"#, 256),
            (r#""rope_parameters": {"full_attention": {"rope_type": "yarn"}}"#, 256),
        ] {
            let config = config(&format!(r#"{{"max_position_embeddings": 256, {text}}}"#));
            assert_eq!(
                Rope::read(&config).unwrap().original_context().unwrap(),
                expected,
                "{text}"
            );
        }
        let text = r#"{"max_position_embeddings": 256, "original_max_position_embeddings": 64}"#;
        let mut config = config(text);
        config.follow_reference(true);
        assert_eq!(Rope::read(&config).unwrap().original_context().unwrap(), 256);
        for wrong in ["0", "-1", "1.5", "\"x\"", "1e10"] {
            let text =
                format!(r#"{{"rope_scaling": {{"original_max_position_embeddings": {wrong}}}}}"#);
            let config = self::config(&text);
            let message = Rope::read(&config).unwrap().original_context().unwrap_err().to_string();
            assert!(message.contains("rope_scaling.original_max_position_embeddings"), "{message}");
        }
    }

    #[test]
    fn a_factor_that_is_null_follows_from_both_contexts() {
        let config = config(
            r#"{"max_position_embeddings": 256, "rope_scaling":
                {"type": "yarn", "factor": null, "original_max_position_embeddings": 64}}"#,
        );
        assert_eq!(Rope::read(&config).unwrap().factor().unwrap(), Some(4.0));
    }

    #[test]
    fn sections_are_four_whole_numbers() {
        let sections = |list: &str| {
            let config = config(&format!(r#"{{"rope_scaling": {{"mrope_section": {list}}}}}"#));
            Rope::read(&config).unwrap().sections().map_err(|error| error.to_string())
        };
        assert_eq!(sections("[16, 24, 24]").unwrap().unwrap(), [16, 24, 24, 0]);
        assert_eq!(sections("null").unwrap(), None);
        for wrong in ["[1, 2, 3, 4, 5]", "[-1]", "[1.5]", "7", "[4294967296]"] {
            let message = sections(wrong).unwrap_err();
            assert!(message.contains("rope_scaling.mrope_section"), "{message}");
        }
    }

    #[test]
    fn keys_outside_of_the_block_are_named_as_they_are() {
        for (text, key) in [
            (r#"{"rope_theta": 0}"#, "rope_theta"),
            (r#"{"rotary_emb_base": 0, "rope_scaling": {"type": "linear"}}"#, "rotary_emb_base"),
            (r#"{"rope_parameters": {"rope_theta": 0}}"#, "rope_parameters.rope_theta"),
        ] {
            let config = config(text);
            let message =
                Rope::read(&config).unwrap().number("rope_theta").unwrap_err().to_string();
            assert!(message.contains(&format!("key \"{key}\" is 0")), "{message}");
        }
    }
}
