//! Rotary position embedding: both forms config.json has had for it.

use serde_json::Value;

use crate::{
    Config, Result,
    json::{Object, describe},
};

use super::parameters::Keys;

/// Where config.json keeps the parameters: the form of transformers 5, then the older one.
const PLACES: [&str; 2] = ["rope_parameters", "rope_scaling"];

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
}

impl<'c> Rope<'c> {
    pub(super) fn read(config: &'c Config) -> Result<Self> {
        let [place, older] = PLACES;
        let place = if config.has(place) { place } else { older };
        let mut object = match config.get(place) {
            None => Object::new(),
            Some(Value::Object(object)) => object.clone(),
            Some(other) => return Err(config.wrong(place, &describe(other), "an object")),
        };
        // Models that mix kinds of attention have an object for each.
        let nested = |kind: &str| object.get(kind).and_then(Value::as_object).cloned();
        let (full, mut local) = (nested("full_attention"), nested("sliding_attention"));
        let mixed = full.is_some() || local.is_some();
        if let Some(full) = full {
            object = full;
        }
        let mut mirror = |to: &str, value: Option<&Value>| {
            if let (false, Some(value)) = (object.contains_key(to), value) {
                object.insert(to.to_owned(), value.clone());
            }
        };
        mirror("rope_theta", config.alias(THETA).and_then(|key| config.get(key)));
        mirror("partial_rotary_factor", config.alias(PARTIAL).and_then(|key| config.get(key)));
        if !mixed {
            let original = "original_max_position_embeddings";
            mirror(original, config.get(original));
            let older = object.get("type").cloned();
            if let (false, Some(kind)) = (object.contains_key("rope_type"), older) {
                object.insert("rope_type".to_owned(), kind);
            }
        }
        if let Some(theta) = config.alias(LOCAL_THETA).and_then(|key| config.get(key)) {
            let local = local.get_or_insert_default();
            if !local.contains_key("rope_theta") {
                local.insert("rope_theta".to_owned(), theta.clone());
            }
        }
        let local = local.unwrap_or_default();
        Ok(Self { config, place, object, local })
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

    pub(super) fn count(&self, key: &str) -> Result<u64> {
        let expected = "a positive whole number of 32 bits";
        match self.object.get(key) {
            None | Some(Value::Null) => Err(self.config.missing(&self.shown(key), expected)),
            Some(value) => value
                .as_u64()
                .filter(|count| (1..=u64::from(u32::MAX)).contains(count))
                .ok_or_else(|| self.config.wrong(&self.shown(key), &describe(value), expected)),
        }
    }

    pub(super) fn shown(&self, key: &str) -> String {
        format!("{}.{key}", self.place)
    }
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
    let factor = rope.number("factor")?;
    match (rope.kind()?.as_deref(), factor) {
        (Some("linear"), Some(factor)) => {
            keys.set("rope.scaling.type", "linear");
            keys.set_number("rope.scaling.factor", factor);
        }
        (Some("yarn"), Some(factor)) => {
            keys.set("rope.scaling.type", "yarn");
            keys.set_number("rope.scaling.factor", factor);
            let context = rope.count("original_max_position_embeddings")?;
            keys.set_count("rope.scaling.original_context_length", context);
            for (names, key) in YARN {
                let name = names.iter().find(|name| rope.object.contains_key(**name));
                if let Some(value) = name.map(|name| rope.number(name)).transpose()?.flatten() {
                    keys.set_number(key, value);
                }
            }
        }
        (Some("su" | "longrope"), _) => keys.set("rope.scaling.type", "longrope"),
        // llama3 becomes a tensor; default and none need nothing.
        (None | Some("default" | "llama3" | "dynamic"), _) => {}
        (Some("linear" | "yarn"), None) => {
            return Err(config.missing(&rope.shown("factor"), "a positive number"));
        }
        (Some(kind), _) => {
            tracing::warn!(kind, "rope scaling of this kind has no GGUF keys and is left out");
        }
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

/// The factors that `rope_type: llama3` divides frequencies by, for each pair of dimensions.
///
/// The arithmetic is PyTorch's on scalars: every step rounds to 32 bits, division of a number by a
/// tensor is multiplication by the reciprocal.
pub(super) fn llama3_factors(config: &Config, head_dim: u64) -> Result<Option<Vec<f32>>> {
    let rope = Rope::read(config)?;
    if rope.kind()?.as_deref() != Some("llama3") {
        return Ok(None);
    }
    let or = |key, default| Ok::<f64, crate::Error>(rope.number(key)?.unwrap_or(default));
    let base = or("rope_theta", 10_000.0)?;
    let factor = or("factor", 8.0)?;
    let low = or("low_freq_factor", 1.0)?;
    let high = or("high_freq_factor", 4.0)?;
    let context = or("original_max_position_embeddings", 8192.0)?;
    if high <= low {
        return Err(config.wrong(
            &rope.shown("high_freq_factor"),
            &high.to_string(),
            &format!("more than low_freq_factor, which is {low}"),
        ));
    }
    let (longest, shortest) = ((context / low) as f32, (context / high) as f32);
    let factors = (0..head_dim).step_by(2).map(|i| {
        let power = powf(base, i as f32 / head_dim as f32);
        let frequency = 1.0 / power;
        let wavelength = (1.0 / frequency) * std::f64::consts::TAU as f32;
        if wavelength < shortest {
            1.0
        } else if wavelength > longest {
            factor as f32
        } else {
            let ratio = (1.0 / wavelength) * context as f32;
            let smooth = (ratio - low as f32) / (high - low) as f32;
            1.0 / ((1.0 - smooth) / factor as f32 + smooth)
        }
    });
    Ok(Some(factors.collect()))
}

/// `base` to the power of `exponent`, rounded once to 32 bits.
///
/// PyTorch's vectorised power may be off by one unit in the last place. For the bases and head
/// sizes of the published Llama 3.x models it is not, and where it was, no factor changed.
fn powf(base: f64, exponent: f32) -> f32 {
    f64::from(base as f32).powf(f64::from(exponent)) as f32
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
    fn nested_keys_are_named_in_full() {
        let config = config(r#"{"rope_parameters": {"rope_type": "llama3", "factor": -8}}"#);
        let message = llama3_factors(&config, 64).unwrap_err().to_string();
        assert!(message.contains("key \"rope_parameters.factor\" is -8"), "{message}");
    }

    #[test]
    fn llama3_needs_a_band_between_its_frequencies() {
        let config = config(
            r#"{"rope_scaling": {"rope_type": "llama3", "low_freq_factor": 4, "high_freq_factor": 4}}"#,
        );
        assert!(llama3_factors(&config, 64).is_err());
    }
}
