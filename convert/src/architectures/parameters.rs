//! Hyper-parameters: keys of config.json to keys of GGUF.

use gguf_io::metadata::{Metadata, Value};

use crate::{Config, Result};

use super::{Architecture, rope};

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
    further: super::nextn::Further,
    metadata: &'m mut Metadata,
}

impl<'m> Keys<'m> {
    /// Keys of an architecture.
    pub(crate) fn new(architecture: &Architecture, metadata: &'m mut Metadata) -> Self {
        Self { architecture: architecture.name, further: architecture.further, metadata }
    }

    /// Where the architecture's configuration counts layers that predict further tokens.
    pub(super) fn further(&self) -> super::nextn::Further {
        self.further
    }

    /// Writes `{architecture}.{key}`.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let key = format!("{}.{key}", self.architecture);
        self.metadata.insert(key, value);
    }

    /// Writes a key that has no architecture before it.
    pub(super) fn set_global(&mut self, key: &str, value: impl Into<Value>) {
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

/// Writes all hyper-parameters of an architecture.
///
/// # Errors
/// If config.json lacks one that is required or holds a value that cannot be.
pub fn write(architecture: &Architecture, config: &Config, metadata: &mut Metadata) -> Result<()> {
    for parameter in architecture.parameters.iter().copied().flatten() {
        match parameter {
            Parameter::FileType => {
                metadata.insert("general.file_type", 0u32);
                continue;
            }
            Parameter::Global(key, value) => {
                metadata.insert(*key, *value);
                continue;
            }
            _ => {}
        }
        let mut keys = Keys::new(architecture, metadata);
        parameter.write(config, &mut keys)?;
    }
    Ok(())
}

impl Parameter {
    fn write(&self, config: &Config, keys: &mut Keys<'_>) -> Result<()> {
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
                    && let Some(numbers) = config.by_layer(name, super::tensors::layers(config)?)?
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

/// What the reference converter writes first for every text model that does not say otherwise.
pub const COMMON: &[Parameter] = &[
    Parameter::With(|config, keys| {
        keys.set_count("block_count", super::tensors::all_layers(config)?);
        Ok(())
    }),
    count("context_length", CONTEXT),
    count("embedding_length", &["hidden_size", "n_embd", "dim"]),
    count(
        "feed_forward_length",
        &[
            "prefix_dense_intermediate_size",
            "dense_intermediate_size",
            "intermediate_size",
            "n_inner",
            "hidden_dim",
        ],
    ),
    count("attention.head_count", &["num_attention_heads", "n_head", "n_heads"]),
    count(
        "attention.head_count_kv",
        &[super::shared::KEY_HEADS_BY_LAYER, "num_key_value_heads", "n_kv_heads"],
    ),
    Parameter::With(causal),
    Parameter::With(rope::write),
    number("attention.layer_norm_rms_epsilon", &["rms_norm_eps", "norm_eps"]),
    number(
        "attention.layer_norm_epsilon",
        &["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"],
    ),
    whole("expert_count", &["num_local_experts", "num_experts", "n_routed_experts"]),
    whole("expert_used_count", &["num_experts_per_tok", "num_experts_per_token", "top_k_experts"]),
    count("expert_group_count", &["n_group"]),
    count("expert_group_used_count", &["topk_group"]),
    Parameter::With(gating),
];

/// Keys of config.json for the longest context, in the order they are looked for.
pub const CONTEXT: &[&str] = &[
    "max_position_embeddings",
    "n_ctx",
    "n_positions",
    "max_length",
    "max_sequence_length",
    "model_max_length",
];

/// Written after [`COMMON`] for models whose heads may have a size of their own.
pub const KEY_LENGTHS: &[Parameter] =
    &[count("attention.key_length", &["head_dim"]), count("attention.value_length", &["head_dim"])];

/// The size of a head, given or not.
pub(super) const HEAD_LENGTHS: Parameter = Parameter::With(|config, keys| {
    let size = super::shared::HEAD.size(config)?;
    keys.set_count("attention.key_length", size);
    keys.set_count("attention.value_length", size);
    Ok(())
});

/// The place of the file type.
pub const FILE_TYPE: &[Parameter] = &[Parameter::FileType];

fn causal(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    if config.get("is_causal").is_some() && !config.flag("is_causal")? {
        keys.set("attention.causal", false);
    }
    Ok(())
}

/// How the router's scores become weights.
fn gating(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    const NAMES: [&str; 6] = [
        "score_function",
        "scoring_func",
        "score_func",
        "moe_router_activation",
        "moe_router_activation_func",
        "expert_selection_fn",
    ];
    let Some(key) = config.alias(&NAMES) else { return Ok(()) };
    let Some(value) = config.get(key) else { return Ok(()) };
    let function = match value.as_str() {
        Some("softmax") => 1u32,
        Some("sigmoid") => 2,
        Some("sqrtsoftplus") => 4,
        _ => {
            let expected = "softmax, sigmoid or sqrtsoftplus";
            return Err(config.wrong(key, &crate::json::describe(value), expected));
        }
    };
    keys.set("expert_gating_func", function);
    Ok(())
}
