//! What config.json leaves out.

use serde_json::Value;

use crate::{Config, Result};

use super::dim::Dim;

/// What a configuration class of transformers assumes.
#[derive(Debug)]
pub struct ModelDefaults {
    /// `model_type` in config.json.
    pub model_type: &'static str,
    /// Applied in order, so that a later one can use an earlier.
    pub values: &'static [&'static [Default]],
    /// Sizes that multimodal models leave out of the configuration of their text model where they
    /// are what its class assumes. A text model by itself has to state them.
    pub in_wrapper: &'static [Default],
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
    /// Whether any value is replaced.
    pub given: bool,
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
    /// What it is computed from.
    Size(Dim),
    /// A text.
    Text(&'static str),
    /// `true` or `false`.
    Flag(bool),
    /// What data cannot say; nothing is filled in for `None`.
    With(fn(&Config) -> Result<Option<Value>>),
}
