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
    /// The place of `general.file_type`, which the recipe decides.
    FileType,
    /// What data cannot say.
    With(fn(&Config, &mut Keys<'_>) -> Result<()>),
}

/// Metadata under an architecture's own prefix.
#[derive(Debug)]
pub struct Keys<'m> {
    architecture: &'static str,
    metadata: &'m mut Metadata,
}

impl Keys<'_> {
    /// Writes `{architecture}.{key}`.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let key = format!("{}.{key}", self.architecture);
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
        if matches!(parameter, Parameter::FileType) {
            metadata.insert("general.file_type", 0u32);
            continue;
        }
        let mut keys = Keys { architecture: architecture.name, metadata };
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
            Self::FileType => {}
            Self::With(write) => write(config, keys)?,
        }
        Ok(())
    }
}

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

/// What the reference converter writes for every text model that does not say otherwise.
pub const COMMON: &[Parameter] = &[
    required("block_count", &["n_layers", "num_hidden_layers", "n_layer", "num_layers"]),
    count(
        "context_length",
        &[
            "max_position_embeddings",
            "n_ctx",
            "n_positions",
            "max_length",
            "max_sequence_length",
            "model_max_length",
        ],
    ),
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
    count("attention.head_count_kv", &["num_key_value_heads", "n_kv_heads"]),
    Parameter::With(rope::write),
    number("attention.layer_norm_rms_epsilon", &["rms_norm_eps", "norm_eps"]),
    number(
        "attention.layer_norm_epsilon",
        &["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"],
    ),
    count("expert_count", &["num_local_experts", "num_experts", "n_routed_experts"]),
    count("expert_used_count", &["num_experts_per_tok", "num_experts_per_token", "top_k_experts"]),
    count("expert_group_count", &["n_group"]),
    count("expert_group_used_count", &["topk_group"]),
    count("attention.key_length", &["head_dim"]),
    count("attention.value_length", &["head_dim"]),
    Parameter::FileType,
];
