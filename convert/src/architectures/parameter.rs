//! A hyper-parameter: keys of config.json to keys of GGUF.

use gguf_io::metadata::{Metadata, Value};

use crate::{Config, Result};

use super::{
    dim::Dim,
    layers::{Further, layers},
};

/// A hyper-parameter, or a few that belong together.
#[derive(Debug)]
pub enum Parameter {
    /// A count, written as `UINT32`.
    Count {
        /// GGUF key, without the architecture's name before it.
        key: &'static str,
        /// Keys of config.json; the first that is there counts.
        from: &'static [&'static str],
        /// Whether the model cannot do without it.
        required: bool,
    },
    /// A number, written as `FLOAT32`.
    Number {
        /// GGUF key, without the architecture's name before it.
        key: &'static str,
        /// Keys of config.json; the first that is there counts.
        from: &'static [&'static str],
        /// Whether the model cannot do without it.
        required: bool,
    },
    /// A count that may be 0, written as `UINT32`; 0 where config.json has none, if so said.
    Whole {
        /// GGUF key, without the architecture's name before it.
        key: &'static str,
        /// Keys of config.json; the first that is there counts.
        from: &'static [&'static str],
        /// What is written where there is none.
        otherwise: Option<u64>,
    },
    /// A size of tensors, written as `UINT32`.
    Size(&'static str, Dim),
    /// `true` or `false`.
    Flag {
        /// GGUF key, without the architecture's name before it.
        key: &'static str,
        /// Key of config.json.
        from: &'static str,
        /// What is written where there is none.
        otherwise: Option<bool>,
    },
    /// The same for all models of the family.
    Constant(&'static str, Constant),
    /// As [`Constant`](Self::Constant), under the full key.
    Global(&'static str, Constant),
    /// The place of `general.file_type`, which the recipe decides.
    FileType,
    /// What data cannot say.
    With(fn(&Config, &mut Keys<'_>) -> Result<()>),
}

/// A value that no configuration decides.
#[derive(Clone, Copy, Debug)]
pub enum Constant {
    /// Written as `UINT32`.
    Count(u32),
    /// Written as `FLOAT32`.
    Number(f32),
    /// Written as `BOOL`.
    Flag(bool),
    /// Written as `STRING`.
    Text(&'static str),
}

impl From<Constant> for Value {
    fn from(constant: Constant) -> Self {
        match constant {
            Constant::Count(count) => count.into(),
            Constant::Number(number) => number.into(),
            Constant::Flag(flag) => flag.into(),
            Constant::Text(text) => text.into(),
        }
    }
}

/// Metadata under an architecture's own prefix.
#[derive(Debug)]
pub struct Keys<'m> {
    architecture: &'static str,
    further: Further,
    metadata: &'m mut Metadata,
}

impl<'m> Keys<'m> {
    /// Keys of the architecture of this name, whose configuration counts further layers so.
    pub(super) fn new(
        architecture: &'static str,
        further: Further,
        metadata: &'m mut Metadata,
    ) -> Self {
        Self { architecture, further, metadata }
    }

    /// Where the architecture's configuration counts layers that predict further tokens.
    pub(super) fn further(&self) -> Further {
        self.further
    }

    /// Writes `{architecture}.{key}`.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let key = format!("{}.{key}", self.architecture);
        self.metadata.insert(key, value);
    }

    /// Writes a key that has no architecture before it.
    pub(crate) fn set_global(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.insert(key, value);
    }

    /// Writes a number as `FLOAT32`.
    pub fn set_number(&mut self, key: &str, value: f64) {
        self.set(key, value as f32);
    }

    /// Writes a count as `UINT32`.
    pub fn set_count(&mut self, key: &str, value: u64) {
        // Config::positive admits nothing larger.
        self.set(key, u32::try_from(value).unwrap_or(u32::MAX));
    }
}

impl Parameter {
    /// Writes it, unless it is one that stands outside of the architecture's own prefix.
    pub(super) fn write(&self, config: &Config, keys: &mut Keys<'_>) -> Result<()> {
        let missing = |from: &[&str]| {
            let expected = match from {
                [_, others @ ..] if !others.is_empty() => {
                    format!("a positive number (also known as {})", others.join(", "))
                }
                _ => "a positive number".to_owned(),
            };
            config.missing(from.first().copied().unwrap_or_default(), &expected)
        };
        match *self {
            Self::Count { key, from, required } => {
                if let Some(name) = config.alias(from)
                    && BY_LAYER.contains(&key)
                    && let Some(numbers) = config.by_layer(name, layers(config)?)?
                {
                    keys.set(key, numbers);
                    return Ok(());
                }
                match config.alias(from).map(|name| config.positive(name)).transpose()?.flatten() {
                    Some(count) => keys.set_count(key, count),
                    None if required => return Err(missing(from)),
                    None => {}
                }
            }
            Self::Number { key, from, required } => {
                match config.alias(from).map(|name| config.number(name)).transpose()?.flatten() {
                    Some(number) => keys.set_number(key, number),
                    None if required => return Err(missing(from)),
                    None => {}
                }
            }
            Self::Whole { key, from, otherwise } => {
                let name = config.alias(from);
                if let Some(count) =
                    name.map(|name| config.whole(name)).transpose()?.flatten().or(otherwise)
                {
                    keys.set_count(key, count);
                }
            }
            Self::Size(key, dim) => match dim.size(config)? {
                size @ 1..=0xffff_ffff => keys.set_count(key, size),
                other => {
                    let from = dim.names().first().copied().unwrap_or_default();
                    let expected = "a positive whole number of 32 bits";
                    return Err(config.wrong(from, &other.to_string(), expected));
                }
            },
            Self::Flag { key, from, otherwise } => {
                let value =
                    if config.get(from).is_some() { Some(config.flag(from)?) } else { otherwise };
                if let Some(value) = value {
                    keys.set(key, value);
                }
            }
            Self::Constant(key, value) => keys.set(key, value),
            Self::Global(..) | Self::FileType => {}
            Self::With(write) => write(config, keys)?,
        }
        Ok(())
    }
}

/// Keys that may hold a number for each layer.
const BY_LAYER: [&str; 3] =
    ["feed_forward_length", "attention.head_count", "attention.head_count_kv"];

/// A count that is written if it is there.
pub const fn count(key: &'static str, from: &'static [&'static str]) -> Parameter {
    Parameter::Count { key, from, required: false }
}

/// A count that must be there.
pub const fn required(key: &'static str, from: &'static [&'static str]) -> Parameter {
    Parameter::Count { key, from, required: true }
}

/// A number that is written if it is there.
pub const fn number(key: &'static str, from: &'static [&'static str]) -> Parameter {
    Parameter::Number { key, from, required: false }
}

/// A number that must be there.
pub const fn required_number(key: &'static str, from: &'static [&'static str]) -> Parameter {
    Parameter::Number { key, from, required: true }
}

/// A count that is written if it is there, be it 0.
pub const fn whole(key: &'static str, from: &'static [&'static str]) -> Parameter {
    Parameter::Whole { key, from, otherwise: None }
}

/// A flag that is written if it is there.
pub const fn flag(key: &'static str, from: &'static str) -> Parameter {
    Parameter::Flag { key, from, otherwise: None }
}
