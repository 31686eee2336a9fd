//! adapter_config.json: what PEFT says of an adapter.

use std::path::Path;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::{
    Config, Result,
    json::{self, describe},
};

/// What to do with an adapter that GGUF cannot hold.
pub(super) const MERGE: &str =
    "merge the adapter into its base model (merge_and_unload of peft), and convert that";

/// Bytes that the file may be long; it has a few dozen lines.
const LONGEST: u64 = 4 << 20;

/// Bytes that a pattern of module names may take when it is compiled.
const LARGEST_PATTERN: usize = 1 << 20;

/// What an adapter says of itself.
#[derive(Debug)]
pub(super) struct Settings {
    /// The file.
    pub(super) config: Config,
    /// What the product of a pair is multiplied by, before it is divided by the rank.
    pub(super) alpha: f64,
    /// Whether it is divided by the square root of the rank instead.
    pub(super) rslora: bool,
    /// Modules with an alpha of their own.
    alphas: Vec<(Regex, f64)>,
    /// The rank of every pair, and modules with one of their own.
    rank: Option<f64>,
    ranks: Vec<(Regex, f64)>,
    /// The tokens that switch an activated adapter on.
    pub(super) invocation: Vec<u32>,
}

impl Settings {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let config = Config::parse(path, &json::read_bytes(path, LONGEST)?)?;
        refuse(&config)?;
        let alpha = match config.number("lora_alpha")? {
            Some(alpha) => alpha,
            None if config.has("lora_alpha") => {
                return Err(config.wrong("lora_alpha", "null", "a positive number"));
            }
            // As PEFT assumes.
            None => 8.0,
        };
        let settings = Self {
            alpha,
            rslora: config.flag("use_rslora")?,
            alphas: patterns(&config, "alpha_pattern")?,
            rank: config.number("r")?,
            ranks: patterns(&config, "rank_pattern")?,
            invocation: invocation(&config)?,
            config,
        };
        if let Some(method) = settings.text("init_lora_weights")
            && ["pissa", "olora", "corda", "loftq"].iter().any(|m| method.starts_with(m))
        {
            tracing::warn!(
                kind = "adapter-base",
                "{}: init_lora_weights is {}, which changes the weights of the base as well: the \
                 adapter fits only that changed base, not the original one",
                crate::error::Shown(path),
                crate::error::Quoted(method)
            );
        }
        Ok(settings)
    }

    /// The text of a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.config.get(key)?.as_str()
    }

    /// The alpha of a weight whose pair has this rank, so that alpha divided by rank is its scale.
    pub(super) fn alpha_of(&self, weight: &str, rank: u64) -> f64 {
        let alpha = own(&self.alphas, weight).unwrap_or(self.alpha);
        if self.rslora { alpha * (rank as f64).sqrt() } else { alpha }
    }

    /// The rank that the pair of a weight is said to have. Nothing is said of tensors that hold several
    /// weights, whose pairs lie side by side.
    pub(super) fn rank_of(&self, weight: &str) -> Option<f64> {
        let several = self.config.get("target_parameters").and_then(Value::as_array);
        match several.is_some_and(|names| !names.is_empty()) {
            true => None,
            false => own(&self.ranks, weight).or(self.rank),
        }
    }
}

/// The number that a weight has for itself.
fn own(patterns: &[(Regex, f64)], weight: &str) -> Option<f64> {
    let module = weight.strip_suffix(".weight").unwrap_or(weight);
    patterns.iter().find(|(pattern, _)| pattern.is_match(module)).map(|(_, number)| *number)
}

/// Refuses what no GGUF adapter can hold.
fn refuse(config: &Config) -> Result<()> {
    let refused = |key: &str, found: &str, expected: &str| crate::Error::Config {
        path: config.path().to_path_buf(),
        key: key.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
        help: MERGE,
    };
    match config.get("peft_type") {
        None => {}
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("lora") => {}
        Some(other) => {
            let expected = "LORA: a GGUF adapter holds no other kind of adapter of PEFT";
            return Err(refused("peft_type", &describe(other), expected));
        }
    }
    if config.flag("use_dora")? {
        let expected = "false: a GGUF adapter has no place for the magnitudes of DoRA";
        return Err(refused("use_dora", "true", expected));
    }
    let replication = config.get("layer_replication");
    if let Some(layers) =
        replication.filter(|layers| layers.as_array().is_none_or(|l| !l.is_empty()))
    {
        let expected = "none: a GGUF adapter changes the layers of its base, it adds none";
        return Err(refused("layer_replication", &describe(layers), expected));
    }
    Ok(())
}

/// Modules, and the numbers that they have for themselves.
fn patterns(config: &Config, key: &str) -> Result<Vec<(Regex, f64)>> {
    let patterns = match config.get(key) {
        None => return Ok(Vec::new()),
        Some(Value::Object(patterns)) => patterns,
        Some(other) => return Err(config.wrong(key, &describe(other), "modules and numbers")),
    };
    let compiled = patterns.keys().map(|name| {
        // As PEFT matches the name of a module, at its end.
        let mut builder = RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{name})$"));
        let pattern = builder.size_limit(LARGEST_PATTERN).build();
        let pattern = pattern.map_err(|_| {
            config.wrong(
                key,
                &describe(&name.as_str().into()),
                "names of modules, or patterns of them",
            )
        })?;
        let number = config.number_in(patterns, name, key)?;
        Ok((pattern, number.ok_or_else(|| config.wrong(key, "null", "a positive number"))?))
    });
    compiled.collect()
}

fn invocation(config: &Config) -> Result<Vec<u32>> {
    const KEY: &str = "alora_invocation_tokens";
    let tokens = match config.get(KEY) {
        Some(Value::Array(tokens)) => tokens.as_slice(),
        Some(other) => return Err(config.wrong(KEY, &describe(other), "a list of tokens")),
        None => &[],
    };
    let text = config.get("invocation_string").and_then(Value::as_str);
    if let Some(text) = text.filter(|text| !text.is_empty() && tokens.is_empty()) {
        let found = describe(&text.into());
        let expected = format!("the tokens of it as {KEY}, which adapters of today have");
        return Err(config.wrong("invocation_string", &found, &expected));
    }
    let token = |value: &Value| {
        let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
        token.ok_or_else(|| config.wrong(KEY, &describe(value), "whole numbers of 32 bits"))
    };
    tokens.iter().map(token).collect()
}
