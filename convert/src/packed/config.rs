//! Which packed format a checkpoint says it has.

use serde_json::{Map, Value};

use super::{HELP, Layer, Parts, by_rows, transposed};
use crate::{Config, Error, Result, architectures::fp8::Quantization, json::describe};

const KEY: &str = "quantization_config";

/// A format that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// GPTQ: bits, weights in a group (`None` for the column), what is added to stored zero points.
    Gptq { bits: u32, zero_offset: u8 },
    /// AWQ in the layout of its GEMM kernel.
    Awq,
    /// compressed-tensors, with the bits its groups have.
    Compressed { bits: Vec<u32> },
}

impl Format {
    /// The format that config.json names; `None` if the weights are not quantized.
    pub(super) fn of(config: &Config) -> Result<Option<Self>> {
        let Some(value) = config.get(KEY) else { return Ok(None) };
        // Other quantizations are read value by value, not layer by layer.
        let format = value.get("format").and_then(Value::as_str);
        let by_value = matches!(format, Some("float-quantized" | "naive-quantized"));
        match Quantization::read(config) {
            Ok(Quantization::None) => {}
            Ok(_) => return Ok(None),
            Err(error) if by_value => return Err(error),
            Err(_) => {}
        }
        let Value::Object(object) = value else {
            return Err(wrong(config, KEY, &describe(value), "an object"));
        };
        let keys = Keys { config, object };
        let method = keys.text("quant_method")?.unwrap_or_default();
        match method.as_str() {
            "gptq" => keys.gptq().map(Some),
            "awq" => keys.awq().map(Some),
            "compressed-tensors" => keys.compressed().map(Some),
            _ => Err(wrong(
                config,
                &format!("{KEY}.quant_method"),
                &format!("{:?}", method.chars().take(40).collect::<String>()),
                "gptq, awq, compressed-tensors (pack-quantized) or fp8",
            )),
        }
    }

    /// The name of the tensor with the codes.
    pub(super) fn codes(&self) -> &'static str {
        match self {
            Self::Gptq { .. } | Self::Awq => "qweight",
            Self::Compressed { .. } => "weight_packed",
        }
    }

    pub(super) fn layer(&self, parts: &Parts<'_>) -> Result<Layer> {
        match self {
            Self::Gptq { bits, zero_offset } => transposed::gptq(parts, *bits, *zero_offset),
            Self::Awq => transposed::awq(parts),
            Self::Compressed { bits } => by_rows::layer(parts, bits),
        }
    }
}

struct Keys<'a> {
    config: &'a Config,
    object: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, found: &str, expected: &str) -> Error {
        wrong(self.config, &format!("{KEY}.{key}"), found, expected)
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.to_lowercase())),
            Some(other) => Err(self.wrong(key, &describe(other), "a name")),
        }
    }

    /// A width in bits that is among those read.
    fn bits(&self, keys: &[&str], read: &[u64]) -> Result<u32> {
        let key = keys.iter().copied().find(|key| self.get(key).is_some());
        let key = key.unwrap_or(keys.first().copied().unwrap_or_default());
        let expected = || {
            let read: Vec<_> = read.iter().map(u64::to_string).collect();
            format!("{} bits", read.join(", "))
        };
        match self.get(key) {
            Some(value) => match value.as_u64().filter(|bits| read.contains(bits)) {
                Some(bits) => Ok(bits as u32),
                None => Err(self.wrong(key, &describe(value), &expected())),
            },
            None => Err(self.wrong(key, "missing", &expected())),
        }
    }

    /// Refuses a key that is anything but absent, false, empty or one of `read`.
    fn only(&self, key: &str, read: &[&str]) -> Result<()> {
        let Some(value) = self.get(key) else { return Ok(()) };
        let fine = match value {
            Value::Bool(flag) => !flag,
            Value::String(text) => read.iter().any(|known| known.eq_ignore_ascii_case(text)),
            Value::Object(object) => object.is_empty(),
            _ => false,
        };
        if fine {
            return Ok(());
        }
        let expected = if read.is_empty() { "it to be absent".into() } else { read.join(" or ") };
        Err(self.wrong(key, &describe(value), &expected))
    }

    fn gptq(&self) -> Result<Format> {
        let bits = self.bits(&["bits"], &[2, 4, 8])?;
        self.only("is_marlin_format", &[])?;
        self.only("dynamic", &[])?;
        self.only("pack_dtype", &["int32"])?;
        self.only("checkpoint_format", &["gptq", "gptq_v2"])?;
        let version_2 = self.text("checkpoint_format")?.is_some_and(|format| format == "gptq_v2");
        Ok(Format::Gptq { bits, zero_offset: u8::from(!version_2) })
    }

    fn awq(&self) -> Result<Format> {
        self.bits(&["bits", "w_bit"], &[4])?;
        self.only("version", &["gemm"])?;
        Ok(Format::Awq)
    }

    fn compressed(&self) -> Result<Format> {
        self.only("format", &["pack-quantized"])?;
        if let Some(Value::Object(sparsity)) = self.get("sparsity_config") {
            let format = sparsity.get("format").and_then(Value::as_str).unwrap_or("dense");
            if format != "dense" {
                return Err(self.wrong("sparsity_config.format", &format!("{format:?}"), "dense"));
            }
        }
        let Some(Value::Object(groups)) = self.get("config_groups") else {
            return Err(self.wrong("config_groups", "missing", "a group with weights"));
        };
        let mut bits = Vec::new();
        for (name, group) in groups {
            let key = format!("config_groups.{name}.weights");
            let Some(weights) = group.get("weights").filter(|value| !value.is_null()) else {
                continue;
            };
            if weights.get("type").and_then(Value::as_str) != Some("int") {
                return Err(self.wrong(&format!("{key}.type"), "another type", "int"));
            }
            match weights.get("num_bits").and_then(Value::as_u64) {
                Some(number @ (4 | 8)) => bits.push(number as u32),
                other => {
                    let found = other.map_or("missing".to_owned(), |n| n.to_string());
                    return Err(self.wrong(&format!("{key}.num_bits"), &found, "4 or 8"));
                }
            }
            if let Some(format) = group.get("format").and_then(Value::as_str)
                && format != "pack-quantized"
            {
                let found = format!("{:?}", format.chars().take(40).collect::<String>());
                let key = format!("config_groups.{name}.format");
                return Err(self.wrong(&key, &found, "pack-quantized"));
            }
        }
        Ok(Format::Compressed { bits })
    }
}

fn wrong(config: &Config, place: &str, found: &str, expected: &str) -> Error {
    Error::Packed {
        path: config.path().to_path_buf(),
        place: format!("key {}", crate::error::Quoted(place)),
        found: found.to_owned(),
        expected: expected.to_owned(),
        help: HELP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str) -> Result<Option<Format>> {
        let text = format!("{{\"quantization_config\": {text}}}");
        Format::of(&Config::parse("config.json", text.as_bytes()).unwrap())
    }

    #[test]
    fn what_is_read_is_told_from_what_is_not() {
        let gptq = |bits, zero_offset| Some(Format::Gptq { bits, zero_offset });
        let read = [
            ("null", None),
            (r#"{"quant_method": "gptq", "bits": 4, "desc_act": true}"#, gptq(4, 1)),
            (r#"{"quant_method": "gptq", "bits": 8, "checkpoint_format": "gptq_v2"}"#, gptq(8, 0)),
            (r#"{"quant_method": "awq", "bits": 4, "version": "GEMM"}"#, Some(Format::Awq)),
            (
                r#"{"quant_method": "compressed-tensors", "format": "pack-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}}"#,
                Some(Format::Compressed { bits: vec![4] }),
            ),
        ];
        for (text, expected) in read {
            assert_eq!(format(text).unwrap(), expected, "{text}");
        }
        let refused = [
            (r#"{"quant_method": "gptq", "bits": 3}"#, "bits\": found 3, expected 2, 4, 8 bits"),
            (r#"{"quant_method": "gptq"}"#, "bits\": found missing"),
            (r#"{"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}"#, "marlin"),
            (
                r#"{"quant_method": "gptq", "bits": 4, "is_marlin_format": true}"#,
                "is_marlin_format",
            ),
            (r#"{"quant_method": "awq", "bits": 4, "version": "gemv"}"#, "gemv"),
            (r#"{"quant_method": "bitsandbytes"}"#, "bitsandbytes"),
            (
                r#"{"quant_method": "compressed-tensors", "format": "float-quantized"}"#,
                "float-quantized",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "pack-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 3, "type": "int"}}}}"#,
                "num_bits\": found 3, expected 4 or 8",
            ),
            ("[]", "expected an object"),
            ("{}", "quant_method"),
        ];
        for (text, message) in refused {
            let error = format(text).unwrap_err().to_string();
            assert!(error.starts_with("config.json: key ") && error.contains(message), "{error}");
            assert!(!error.contains('\n'));
        }
    }
}
