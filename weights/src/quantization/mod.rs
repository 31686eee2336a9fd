//! How config.json says the weights are stored.

mod format;
mod keys;
mod methods;

use std::path::Path;

use gguf_io::{Checkpoint, json::describe};
use serde_json::{Map, Value};

use crate::{Error, Result, packed::bitsandbytes};
pub(crate) use format::{Format, ScaleLayout};
use keys::{Keys, wrong};
use methods::Nvfp4s;

const KEY: &str = "quantization_config";

/// Where GPTQ and AWQ wrote their settings before config.json had a place for them.
const OLDER: [&str; 2] = ["quantize_config.json", "quant_config.json"];

/// The values of config.json that say how weights are stored. `null` counts as absent.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The file.
    pub path: &'a Path,
    /// What transformers goes by.
    pub quantization_config: Option<&'a Value>,
    /// What MLX goes by.
    pub quantization: Option<&'a Value>,
}

/// How a checkpoint says that its weights are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantization {
    pub(crate) format: Format,
    /// The name of the method, in capitals.
    pub(crate) method: String,
    /// What is said of weights in NVFP4.
    pub(crate) nvfp4: Nvfp4s,
}

impl Quantization {
    /// Weights that are stored as floats.
    pub fn none() -> Self {
        Self::of(Format::Floats, String::new())
    }

    fn of(format: Format, method: String) -> Self {
        Self { format, method, nvfp4: Nvfp4s::default() }
    }

    /// Reads what config.json says, or the file that modelopt writes beside one that says nothing:
    /// `beside` reads a file of JSON, if it is there.
    ///
    /// # Errors
    /// [`Error::Quantization`] for a way that is not read, with its key; whatever `beside` returns.
    pub fn read<E: From<Error>>(
        settings: &Settings<'_>,
        beside: impl FnOnce(&Path) -> Result<Option<Map<String, Value>>, E>,
    ) -> Result<Self, E> {
        let named = settings.quantization_config.and_then(|value| value.get("quant_method"));
        let method = named.and_then(Value::as_str).unwrap_or_default().to_uppercase();
        let path = settings.path;
        let mut nvfp4 = Nvfp4s::default();
        let format = match (settings.quantization_config, settings.quantization) {
            (_, Some(Value::Object(object))) if named.is_none() => {
                Keys { path, key: "quantization.", object }.mlx()?
            }
            (Some(Value::Object(object)), _) if !object.is_empty() => {
                let keys = Keys { path, key: "quantization_config.", object };
                nvfp4 = keys.nvfp4();
                keys.format()?
            }
            // Says nothing: the weights tell.
            (None | Some(Value::Object(_)), _) => {
                let path = path.with_file_name("hf_quant_config.json");
                let file = beside(&path)?;
                match file.as_ref().and_then(|file| file.get("quantization")) {
                    Some(Value::Object(object)) => {
                        let keys = Keys { path: &path, key: "quantization.", object };
                        nvfp4 = keys.nvfp4();
                        keys.modelopt()?
                    }
                    _ => Format::Floats,
                }
            }
            (Some(other), _) => Err(wrong(path, KEY, &describe(other), "an object"))?,
        };
        Ok(Self { format, method, nvfp4 })
    }

    /// That config.json, at `path`, speaks of codes of bitsandbytes, but no weight has what belongs to them:
    /// they were written in another way, or are floats that the key was left beside.
    ///
    /// # Errors
    /// [`Error::Quantization`] if so.
    pub fn check_parts(&self, path: &Path, checkpoint: &Checkpoint) -> Result<()> {
        let belongs = |name: &str| {
            name.ends_with(bitsandbytes::ROWS)
                || [bitsandbytes::ABSMAX, "weight.quant_"].iter().any(|part| name.contains(part))
        };
        match self.format == Format::BitsAndBytes
            && !checkpoint.tensors.keys().any(|name| belongs(name))
        {
            true => {
                let expected = "weights with absmax or SCB beside them";
                Err(wrong(path, "quantization_config.quant_method", "\"bitsandbytes\"", expected))
            }
            false => Ok(()),
        }
    }

    /// For packed tensors that config.json says nothing of, what older programs wrote into a file of
    /// their own beside it.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::Packed`] if there are such tensors, but no such file.
    pub fn or_older<E: From<Error>>(
        self,
        dir: &Path,
        checkpoint: &Checkpoint,
        beside: impl Fn(&Path) -> Result<Option<Map<String, Value>>, E>,
    ) -> Result<Self, E> {
        let mut codes = checkpoint.tensors.iter().filter(|(name, _)| name.ends_with(".qweight"));
        let (Format::Floats, Some((name, tensor))) = (&self.format, codes.next()) else {
            return Ok(self);
        };
        for file in OLDER {
            let path = dir.join(file);
            if let Some(object) = beside(&path)? {
                let keys = Keys { path: &path, key: "", object: &object };
                let is_awq = keys.get("w_bit").is_some() || keys.is("quant_method", "awq");
                let (method, format) =
                    if is_awq { ("AWQ", keys.awq()?) } else { ("GPTQ", keys.gptq()?) };
                return Ok(Self::of(format, method.to_owned()));
            }
        }
        let file = checkpoint.files.get(tensor.file).map(|f| f.path().to_path_buf());
        Err(Error::Packed {
            path: file.unwrap_or_default(),
            tensor: name.to_owned(),
            found: "packed codes that nothing describes".into(),
            expected: format!("{KEY} in config.json, or a {} beside it", OLDER.join(" or ")),
            help: "add the file that belongs to the checkpoint, or take the original checkpoint",
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::mlx::{self, Width};

    fn format(text: &str) -> Result<Format> {
        let value: Value = serde_json::from_str(text).unwrap();
        let settings = Settings {
            path: Path::new("config.json"),
            quantization_config: Some(&value).filter(|value| !value.is_null()),
            quantization: None,
        };
        Quantization::read(&settings, |_| Ok(None)).map(|quantization| quantization.format)
    }

    #[test]
    fn what_is_read_is_told_from_what_is_not() {
        let gptq = |bits: &[u32], zero_offset| Format::Gptq { bits: bits.to_vec(), zero_offset };
        let rows = ScaleLayout { rows: true, ..ScaleLayout::default() };
        let mlx =
            |modules| Format::Mlx(mlx::Widths { usual: Width { bits: 4, group: 64 }, modules });
        let read = [
            ("null", Format::Floats),
            (r#"{"quant_method": "gptq", "bits": 4, "desc_act": true}"#, gptq(&[4], 1)),
            (r#"{"quant_method": "gptq", "bits": 3}"#, gptq(&[3], 1)),
            (
                r#"{"quant_method": "gptq", "bits": 8, "checkpoint_format": "gptq_v2"}"#,
                gptq(&[8], 0),
            ),
            (
                r#"{"quant_method": "gptq", "bits": 4, "dynamic":
                    {"-:.*gate.*": {}, "+:.*down.*": {"bits": 8}, ".*up.*": {"group_size": 32}}}"#,
                gptq(&[4, 8], 1),
            ),
            (
                r#"{"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round",
                    "extra_config": {"model.layers.0.mlp.up_proj": {"bits": 8}, "lm_head": {"bits": 16}}}"#,
                gptq(&[4, 8], 0),
            ),
            (
                r#"{"quant_method": "auto-round", "bits": 2, "packing_format": "auto_round:auto_gptq"}"#,
                gptq(&[2], 1),
            ),
            (
                r#"{"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round:auto_awq"}"#,
                Format::Awq,
            ),
            (r#"{"quant_method": "awq", "bits": 4, "version": "GEMM"}"#, Format::Awq),
            (
                r#"{"quant_method": "compressed-tensors", "format": "pack-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}}"#,
                Format::Compressed { bits: vec![4], scales: rows },
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "mixed-precision",
                    "config_groups": {
                        "a": {"format": "pack-quantized", "weights": {"num_bits": 3, "type": "int"}},
                        "b": {"format": "float-quantized", "weights": {"num_bits": 8, "type": "float",
                              "strategy": "block", "block_structure": [128, 64]}}}}"#,
                Format::Compressed {
                    bits: vec![3, 8],
                    scales: ScaleLayout { block: Some([128, 64]), ..rows },
                },
            ),
            (r#"{"quant_method": "fbgemm_fp8"}"#, Format::Scaled(rows)),
            (r#"{"quant_method": "modelopt", "quant_algo": "FP8"}"#, Format::Scaled(rows)),
            (
                r#"{"quant_method": "fp8", "weight_block_size": [128, 128]}"#,
                Format::Scaled(ScaleLayout { block: Some([128, 128]), ..ScaleLayout::default() }),
            ),
            (r#"{"group_size": 64, "bits": 4}"#, mlx(Vec::new())),
            (
                r#"{"group_size": 64, "bits": 4, "mode": "affine", "lm_head": false,
                    "model.layers.0.mlp.gate": {"group_size": 32, "bits": 8}}"#,
                mlx(vec![("model.layers.0.mlp.gate".to_owned(), Width { bits: 8, group: 32 })]),
            ),
        ];
        for (text, expected) in read {
            assert_eq!(format(text).unwrap(), expected, "{text}");
        }
        let refused = [
            (r#"{"quant_method": "gptq", "bits": 5}"#, "bits\": found 5, expected 2, 3, 4, 8 bits"),
            (r#"{"quant_method": "gptq"}"#, "bits\": found missing"),
            (r#"{"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}"#, "marlin"),
            (
                r#"{"quant_method": "gptq", "bits": 4, "is_marlin_format": true}"#,
                "is_marlin_format",
            ),
            (
                r#"{"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*": {"bits": 7}}}"#,
                "dynamic.+:.*.bits\": found 7",
            ),
            (r#"{"quant_method": "gptq", "bits": 4, "dynamic": [1]}"#, "dynamic"),
            (r#"{"quant_method": "awq", "bits": 4, "version": "gemv"}"#, "gemv"),
            (
                r#"{"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round:llm_compressor"}"#,
                "packing_format\": found \"auto_round:llm_compressor\"",
            ),
            (r#"{"quant_method": "auto-round", "bits": 4, "data_type": "mx_fp"}"#, "data_type"),
            (r#"{"quant_method": "torchao"}"#, "quant_method\": found \"torchao\""),
            (r#"{"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}"#, "nvfp4_awq"),
            (
                r#"{"quant_method": "fp8", "weight_block_size": [128]}"#,
                "expected two positive numbers",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}}}"#,
                "num_bits\": found 8, expected 4 bits",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "pack-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 9, "type": "int"}}}}"#,
                "num_bits\": found 9, expected 2, 3, 4, 5, 6, 7, 8 bits",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "int-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}}"#,
                "num_bits\": found 4, expected 8 bits",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "int-quantized",
                    "sparsity_config": {"format": "sparse-24-bitmask"}}"#,
                "sparse-24-bitmask",
            ),
            (
                r#"{"group_size": 32, "bits": 4, "mode": "mxfp4"}"#,
                "mode\": found the text \"mxfp4\"",
            ),
            (
                r#"{"group_size": 16, "bits": 4, "mode": "nvfp4"}"#,
                "mode\": found the text \"nvfp4\"",
            ),
            (
                r#"{"group_size": 64, "bits": 4, "lm_head": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}"#,
                "lm_head.mode\": found the text \"mxfp4\"",
            ),
            ("[]", "expected an object"),
            (r#"{"bits": 4, "quant_type": "x"}"#, "quant_method"),
        ];
        for (text, message) in refused {
            let error = format(text).unwrap_err().to_string();
            assert!(error.starts_with("config.json: key ") && error.contains(message), "{error}");
            assert!(!error.contains('\n'));
        }
    }
}
