//! Metadata of a GGUF file in the types that llama.cpp's loader asks for.
//!
//! The loader takes a number only in the type it is read as, and a list only with its elements. A
//! file of another program that means the same is mended on its way; what cannot be mended is
//! refused, since the output would not load.

use gguf_io::{
    SourceFile,
    metadata::{Array, Metadata, Value, ValueType},
};
use gguf_model::Kind;

use crate::{Error, Result, error::Quoted};

/// What a key's value is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// A UINT32, or integers or flags for each layer.
    Integer,
    /// A FLOAT32, or one for each layer.
    Float,
    Flag,
    Strings,
    Floats,
    /// INT32 and no other integers.
    Integers,
    /// UINT8 or INT8.
    Bytes,
}

/// Lists of the tokenizer.
const TOKENIZER: &[(&str, Wanted)] = &[
    ("tokens", Wanted::Strings),
    ("merges", Wanted::Strings),
    ("scores", Wanted::Floats),
    ("token_type", Wanted::Integers),
    ("suppress_tokens", Wanted::Integers),
    ("precompiled_charsmap", Wanted::Bytes),
];

/// Floats below the name of the architecture, in architectures that gguf-model does not describe.
const FLOATS: &[&str] = &[
    "activation.situ_beta",
    "activation.situ_linear_beta",
    "adapters.router_gain",
    "attention.group_norm_epsilon",
    "attention.output_scale",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_ext_factor",
    "router_logit_softcapping",
    "swiglu_clamp_exp",
    "swiglu_clamp_shexp",
];

/// Flags in such architectures.
const FLAGS: &[&str] = &["norm_before_fc", "norm_before_residual", "swin_norm"];

/// Integers in such architectures, many of them in a list where layers differ.
const INTEGERS: &[&str] = &[
    "adapters.count",
    "adapters.lora_rank",
    "attention.compress_ratios",
    "attention.decay_lora_rank",
    "attention.gate_lora_rank",
    "attention.group_norm_groups",
    "attention.iclr_lora_rank",
    "attention.key_length_mla_swa",
    "attention.kv_lora_rank_swa",
    "attention.rope_pattern",
    "attention.value_length_mla_swa",
    "attention.value_residual_mix_lora_rank",
    "attn_res.block_size",
    "convnext.block_count",
    "convnext.embedding_length",
    "deepstack_mapping",
    "expert_latent_length",
    "features_length",
    "hyper_connection.low_rank",
    "moe_every_n_layers",
    "posnet.block_count",
    "posnet.embedding_length",
    "rescale_every_n_layers",
    "target_layers",
    "time_decay_extra_dim",
    "time_mix_extra_dim",
    "token_shift_count",
    "wkv.head_size",
];

/// Brings the metadata to the types that are asked for, with a warning for each key.
///
/// # Errors
/// [`Error::Tokenizer`] and [`Error::Config`] for a value that has no such type.
pub(crate) fn metadata(metadata: &mut Metadata, files: &[SourceFile]) -> Result<()> {
    let path = || files.first().map(|file| file.path().to_path_buf()).unwrap_or_default();
    let arch = metadata.get_str("general.architecture").unwrap_or_default().to_owned();
    let mut changed = Vec::new();
    for (key, value) in metadata.iter() {
        let tokenizer = key.strip_prefix("tokenizer.ggml.");
        let Some(wanted) = tokenizer.map_or_else(|| of_model(key, &arch), of_tokenizer) else {
            continue;
        };
        match wanted.mended(value) {
            Ok(None) => {}
            Ok(Some(mended)) => {
                tracing::warn!(
                    kind = "metadata-type",
                    "key {} is {}, which llama.cpp does not take: it is written as {}",
                    Quoted(key),
                    described(value),
                    described(&mended)
                );
                changed.push((key.to_owned(), mended));
            }
            Err(()) => {
                let (found, expected) = (described(value), wanted.expected().to_owned());
                let help =
                    "the file was written by a faulty program; convert the original checkpoint";
                return Err(match tokenizer {
                    Some(_) => {
                        let place = format!("key {}", Quoted(key));
                        Error::Tokenizer { path: path(), place, found, expected, help }
                    }
                    None => Error::Config { path: path(), key: key.into(), found, expected, help },
                });
            }
        }
    }
    for (key, value) in changed {
        metadata.insert(key, value);
    }
    Ok(())
}

fn of_tokenizer(name: &str) -> Option<Wanted> {
    let listed = TOKENIZER.iter().find(|(key, _)| *key == name).map(|(_, wanted)| *wanted);
    listed.or_else(|| Wanted::of(Kind::of_tokenizer_key(name)?))
}

fn of_model(key: &str, arch: &str) -> Option<Wanted> {
    if key.starts_with("xielu.") {
        return Some(Wanted::Float);
    }
    let name = key.strip_prefix(arch)?.strip_prefix('.')?;
    if let Some(kind) = Kind::of_key(name) {
        Wanted::of(kind)
    } else if FLOATS.contains(&name) {
        Some(Wanted::Float)
    } else if FLAGS.contains(&name) {
        Some(Wanted::Flag)
    } else {
        INTEGERS.contains(&name).then_some(Wanted::Integer)
    }
}

impl Wanted {
    /// What gguf-model says of a key; `None` for text, which is not mended.
    fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Integer(..) | Kind::Integers | Kind::Pattern | Kind::Sections => {
                Some(Self::Integer)
            }
            Kind::Float | Kind::Positive => Some(Self::Float),
            Kind::Bool => Some(Self::Flag),
            _ => None,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Integer => "a UINT32, or integers of 32 bits for each layer",
            Self::Float => "a FLOAT32, or one for each layer",
            Self::Flag => "a BOOL",
            Self::Strings => "an array of STRING",
            Self::Floats => "an array of FLOAT32",
            Self::Integers => "an array of INT32",
            Self::Bytes => "an array of UINT8",
        }
    }

    /// The value in the type that is asked for; `None` if it is in that type.
    fn mended(self, value: &Value) -> Result<Option<Value>, ()> {
        use ValueType as T;
        let array = match value {
            Value::Array(array) => array,
            scalar => return self.mended_scalar(scalar),
        };
        let integers = || array_integers(array).ok_or(());
        let floats = || array_floats(array).map(|v| Some(v.into())).ok_or(());
        let narrow = |v: Vec<i64>| v.into_iter().map(|n| n.try_into().map_err(drop)).collect();
        match (self, array.element_type()) {
            (Self::Integer, T::Uint32 | T::Int32 | T::Bool)
            | (Self::Float | Self::Floats, T::Float32)
            | (Self::Strings, T::String)
            | (Self::Integers, T::Int32)
            | (Self::Bytes, T::Uint8 | T::Int8) => Ok(None),
            (Self::Integer | Self::Integers, _) => {
                integers().and_then(narrow).map(|v: Vec<i32>| Some(v.into()))
            }
            // Bytes are no scores: a program that writes them means something else.
            (Self::Floats, T::Uint8 | T::Int8) => Err(()),
            (Self::Float | Self::Floats, _) => floats(),
            (Self::Bytes, _) => {
                let bytes = integers()?.into_iter().map(|n| n.try_into().map_err(drop));
                bytes.collect::<Result<Vec<u8>, ()>>().map(|v| Some(v.into()))
            }
            (Self::Strings | Self::Flag, _) => Err(()),
        }
    }

    fn mended_scalar(self, value: &Value) -> Result<Option<Value>, ()> {
        match (self, value) {
            (Self::Integer, Value::Uint32(_))
            | (Self::Float, Value::Float32(_))
            | (Self::Flag, Value::Bool(_)) => Ok(None),
            (Self::Integer, value) => {
                let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
                number.map(|n| Some(n.into())).ok_or(())
            }
            (Self::Float, Value::Float64(v)) => single(*v).map(|v| Some(v.into())).ok_or(()),
            (Self::Float, value) => {
                let number = value.as_u64().and_then(|n| exact(i64::try_from(n).ok()?));
                number.map(|v| Some(v.into())).ok_or(())
            }
            (Self::Flag, value) => match value.as_u64() {
                Some(n @ 0..=1) => Ok(Some((n == 1).into())),
                _ => Err(()),
            },
            _ => Err(()),
        }
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::Array(array) => format!("an array of {}", array.element_type().name()),
        value => match value.as_u64() {
            Some(n) => format!("{} {n}", value.value_type().name()),
            None => value.value_type().name().into(),
        },
    }
}

/// The elements of an array of integers.
fn array_integers(array: &Array) -> Option<Vec<i64>> {
    match array {
        Array::Uint8(v) => Some(v.iter().map(|n| i64::from(*n)).collect()),
        Array::Int8(v) => Some(v.iter().map(|n| i64::from(*n)).collect()),
        Array::Uint16(v) => Some(v.iter().map(|n| i64::from(*n)).collect()),
        Array::Int16(v) => Some(v.iter().map(|n| i64::from(*n)).collect()),
        Array::Uint32(v) => Some(v.iter().map(|n| i64::from(*n)).collect()),
        Array::Int32(v) => Some(v.iter().map(|n| i64::from(*n)).collect()),
        Array::Uint64(v) => v.iter().map(|n| i64::try_from(*n).ok()).collect(),
        Array::Int64(v) => Some(v.clone()),
        _ => None,
    }
}

/// The elements of an array of numbers in single precision: rounded, but none lost.
fn array_floats(array: &Array) -> Option<Vec<f32>> {
    match array {
        Array::Float32(v) => Some(v.clone()),
        Array::Float64(v) => v.iter().map(|v| single(*v)).collect(),
        other => array_integers(other)?.into_iter().map(exact).collect(),
    }
}

/// In single precision, unless that is too small for it.
fn single(value: f64) -> Option<f32> {
    let narrow = value as f32;
    (narrow.is_finite() || !value.is_finite()).then_some(narrow)
}

/// An integer that single precision holds.
fn exact(value: i64) -> Option<f32> {
    let narrow = value as f32;
    (value.unsigned_abs() <= 1 << f32::MANTISSA_DIGITS).then_some(narrow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mend(key: &str, value: impl Into<Value>) -> Result<Value> {
        let mut all = Metadata::new();
        all.insert("general.architecture", "llama");
        all.insert(key, value);
        all.insert("last", 1u8);
        metadata(&mut all, &[])?;
        assert_eq!(all.iter().nth(1).unwrap().0, key, "keys keep their places");
        Ok(all.get(key).unwrap().clone())
    }

    #[test]
    fn lists_get_the_elements_that_loaders_take_candle_2215() {
        const TYPES: &str = "tokenizer.ggml.token_type";
        const SCORES: &str = "tokenizer.ggml.scores";
        let same = |key, from: Value, to: Value| assert_eq!(mend(key, from).unwrap(), to, "{key}");
        same(TYPES, vec![1u32, 3].into(), vec![1i32, 3].into());
        same(TYPES, vec![1u8, 3].into(), vec![1i32, 3].into());
        same(TYPES, vec![1i64, 3].into(), vec![1i32, 3].into());
        same(TYPES, vec![1i32, 3].into(), vec![1i32, 3].into());
        same(SCORES, vec![0.1f64, -1e4].into(), vec![0.1f32, -1e4].into());
        same(SCORES, vec![0i32, -3].into(), vec![0f32, -3.0].into());
        same("tokenizer.ggml.suppress_tokens", vec![1u32].into(), vec![1i32].into());
        same("tokenizer.ggml.precompiled_charsmap", vec![1i32, 255].into(), vec![1u8, 255].into());
        same("llama.attention.head_count_kv", vec![2u64, 4].into(), vec![2i32, 4].into());
        same("llama.attention.head_count_kv", vec![2u32, 4].into(), vec![2u32, 4].into());
        same("llama.attention.sliding_window_pattern", vec![true].into(), vec![true].into());
        same("llama.swiglu_clamp_exp", vec![0.5f64, 2.0].into(), vec![0.5f32, 2.0].into());
        same("xielu.beta", vec![1i32, 2].into(), vec![1f32, 2.0].into());
        // Of others nobody knows what reads them.
        same("llama.unknown", vec![2u64].into(), vec![2u64].into());
        same("other.block_count", 2u64.into(), 2u64.into());
    }

    #[test]
    fn a_key_has_one_place() {
        for key in [FLOATS, FLAGS, INTEGERS].concat() {
            assert_eq!(Kind::of_key(key), None, "gguf-model describes {key}");
        }
        for (key, _) in TOKENIZER {
            assert_eq!(Kind::of_tokenizer_key(key), None, "gguf-model describes {key}");
        }
    }

    #[test]
    fn numbers_get_the_type_that_loaders_take() {
        let same = |key, from: Value, to: Value| assert_eq!(mend(key, from).unwrap(), to, "{key}");
        same("llama.block_count", 2u64.into(), 2u32.into());
        same("llama.context_length", 4096i32.into(), 4096u32.into());
        same("llama.rope.freq_base", 1e6f64.into(), 1e6f32.into());
        same("llama.rope.freq_base", 10000u32.into(), 1e4f32.into());
        same("llama.attention.causal", 0u8.into(), false.into());
        same("tokenizer.ggml.add_bos_token", 1i32.into(), true.into());
        same("tokenizer.ggml.eos_token_id", 2i64.into(), 2u32.into());
    }

    #[test]
    fn what_has_no_such_value_is_refused() {
        for (key, value, says) in [
            ("tokenizer.ggml.token_type", Value::from(vec![1u32 << 31]), "an array of INT32"),
            ("tokenizer.ggml.token_type", vec![1f32].into(), "an array of FLOAT32"),
            ("tokenizer.ggml.token_type", 1u32.into(), "UINT32 1"),
            ("tokenizer.ggml.scores", vec![1e300f64].into(), "FLOAT64"),
            ("tokenizer.ggml.scores", vec![(1i64 << 24) + 1].into(), "INT64"),
            ("tokenizer.ggml.tokens", vec![1u32].into(), "an array of STRING"),
            ("tokenizer.ggml.eos_token_id", (-1i32).into(), "UINT32"),
            ("tokenizer.ggml.add_bos_token", 2u8.into(), "BOOL"),
            ("tokenizer.ggml.precompiled_charsmap", vec![256u32].into(), "UINT8"),
            ("llama.context_length", (1u64 << 32).into(), "4294967296"),
            ("llama.rope.freq_base", "1".into(), "FLOAT32"),
            ("llama.attention.head_count", vec![1f32].into(), "for each layer"),
        ] {
            let error = mend(key, value).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(says), "{key}: {error}");
        }
    }
}
