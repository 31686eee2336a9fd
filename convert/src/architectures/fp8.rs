//! How the weights of a checkpoint are stored: floats, or codes of few bits with scales beside
//! them that are multiplied on the way.

use gguf_io::{Checkpoint, CheckpointTensor, Dtype};
use quant_core::GgmlType;
use serde_json::Value;

use crate::{
    Config, Result,
    model::{Encoding, Fp8, Scales},
};

/// What config.json says about how the weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantization {
    /// As floats.
    None,
    /// In eight bits with scales.
    Fp8 {
        /// What is added to a weight's name for that of its scales.
        suffix: &'static str,
        /// Rows and columns that share a scale, if scales are for blocks.
        block: Option<[u64; 2]>,
    },
    /// The experts in MXFP4, which is carried over.
    Mxfp4,
}

/// What a tensor of a checkpoint is to its quantization.
pub(super) enum Found {
    Weight,
    Scale,
    LeftOut(&'static str),
}

/// Why a tensor cannot be read.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) found: String,
    pub(super) expected: String,
    pub(super) help: &'static str,
}

impl From<String> for Problem {
    fn from(found: String) -> Self {
        let expected = "a shape that the architecture's transforms divide".to_owned();
        Self { found, expected, help: "config.json and the weights are not of the same model" }
    }
}

impl From<&str> for Problem {
    fn from(found: &str) -> Self {
        found.to_owned().into()
    }
}

/// Scales that only engines need that compute in eight bits.
const ACTIVATION_SCALES: [&str; 5] =
    [".activation_scale", "_activation_scale", ".input_scale", ".k_scale", ".v_scale"];

impl Quantization {
    /// Reads `quantization_config`.
    ///
    /// # Errors
    /// If the weights are codes of a quantization that is not read.
    pub(crate) fn read(config: &Config) -> Result<Self> {
        const KEY: &str = "quantization_config";
        let Some(quantization) = config.get(KEY) else {
            return Ok(Self::None);
        };
        let method = quantization.get("quant_method").and_then(Value::as_str);
        let block = |value: Option<&Value>| match value {
            None | Some(Value::Null) => Some(None),
            Some(value) => {
                match value.as_array()?.iter().map(Value::as_u64).collect::<Vec<_>>()[..] {
                    [Some(rows @ 1..), Some(columns @ 1..)] => Some(Some([rows, columns])),
                    _ => None,
                }
            }
        };
        let refuse = |found: &str| {
            let found = format!("{:?}", found.chars().take(60).collect::<String>());
            let expected = "an unquantized checkpoint (F32, F16 or BF16) or one in FP8, which the model's authors usually publish too";
            Err(config.wrong(KEY, &found, expected))
        };
        match method {
            Some("fp8") => match block(quantization.get("weight_block_size")) {
                Some(block) => Ok(Self::Fp8 { suffix: "_scale_inv", block }),
                None => refuse("fp8 with a weight_block_size that is not two numbers"),
            },
            Some("modelopt") => {
                let algorithm = quantization.get("quant_algo").and_then(Value::as_str);
                match algorithm {
                    Some("FP8") => Ok(Self::Fp8 { suffix: "_scale", block: None }),
                    other => refuse(&format!("modelopt {}", other.unwrap_or_default())),
                }
            }
            Some("compressed-tensors") => {
                let format = quantization.get("format").and_then(Value::as_str).unwrap_or_default();
                let groups = quantization.get("config_groups").and_then(Value::as_object);
                let mut groups = groups.into_iter().flat_map(|groups| groups.values());
                let weights = groups.next().and_then(|group| group.get("weights"));
                let is = |key: &str, expected: &Value| {
                    weights.and_then(|weights| weights.get(key)) == Some(expected)
                };
                let block = block(weights.and_then(|weights| weights.get("block_structure")));
                let sound = is("type", &"float".into()) && is("num_bits", &8.into());
                match (format, groups.next(), block) {
                    ("float-quantized" | "naive-quantized", None, Some(block)) if sound => {
                        Ok(Self::Fp8 { suffix: "_scale", block })
                    }
                    // Layers packed in few bits appear as floats: see `packed`.
                    _ if format == "pack-quantized" => Ok(Self::None),
                    _ => refuse(&format!("compressed-tensors {format}")),
                }
            }
            Some("gptq" | "awq") => Ok(Self::None),
            Some("mxfp4") => Ok(Self::Mxfp4),
            other => refuse(other.unwrap_or("an unnamed method")),
        }
    }

    pub(super) fn role(self, name: &str, checkpoint: &Checkpoint) -> Found {
        let Self::Fp8 { suffix, .. } = self else {
            return Found::Weight;
        };
        let weight = name.strip_suffix(suffix);
        if weight.is_some_and(|weight| checkpoint.tensors.contains_key(weight)) {
            return Found::Scale;
        }
        if ACTIVATION_SCALES.iter().any(|scale| name.ends_with(scale)) {
            return Found::LeftOut("activations are scaled by them where FP8 is computed with");
        }
        Found::Weight
    }

    /// How a tensor's values are stored.
    pub(super) fn encoding(
        self,
        checkpoint: &Checkpoint,
        name: &str,
        tensor: &CheckpointTensor,
    ) -> Result<Encoding, Problem> {
        let format = match tensor.dtype {
            Dtype::F8E4M3 => Fp8::E4M3,
            Dtype::F8E5M2 => Fp8::E5M2,
            other => return float(other),
        };
        let (rows, columns) = match tensor.shape[..] {
            [columns] => (1, columns),
            [ref rows @ .., columns] => (rows.iter().product(), columns),
            [] => (1, 1),
        };
        let scales = match self {
            Self::Fp8 { suffix, block } => {
                let name = format!("{name}{suffix}");
                let Some(scales) = checkpoint.tensors.get(&name) else {
                    return Err(Problem {
                        found: format!("type {} without scales", tensor.dtype),
                        expected: format!("a tensor {name:?} beside it"),
                        help: "the checkpoint is incomplete",
                    });
                };
                Some(scales_of(&name, scales, (rows, columns), tensor.shape.len(), block)?)
            }
            _ => None,
        };
        Ok(Encoding::Fp8 { format, columns, scales })
    }
}

/// How the scales of a weight of so many rows and columns lie over it.
fn scales_of(
    name: &str,
    scales: &CheckpointTensor,
    (rows, columns): (u64, u64),
    dimensions: usize,
    block: Option<[u64; 2]>,
) -> Result<Scales, Problem> {
    let ty = match float(scales.dtype)? {
        Encoding::Ggml(ty) => ty,
        _ => {
            return Err(Problem {
                found: format!("scales {name:?} of type {}", scales.dtype),
                expected: "F32, F16 or BF16".into(),
                help: "save the scales as F32",
            });
        }
    };
    let count: u64 = scales.shape.iter().product();
    let block = block.filter(|_| scales.shape.len() == 2 && count != 1);
    let (per_row, over) = match (&scales.shape[..], block) {
        (_, None) if count == 1 => (1, (rows, columns)),
        ([down, across], Some([block_rows, block_columns]))
            if dimensions == 2
                && *down == rows.div_ceil(block_rows)
                && *across == columns.div_ceil(block_columns) =>
        {
            (*across, (block_rows, block_columns))
        }
        ([down] | [down, 1], None) if dimensions == 2 && *down == rows => (1, (1, columns)),
        _ => {
            return Err(Problem {
                found: format!("scales {name:?} of shape {:?}", scales.shape),
                expected: format!(
                    "one scale, one for each of {rows} rows, or one for each block{}",
                    block.map_or(String::new(), |[r, c]| format!(" of {r} × {c} values"))
                ),
                help: "scales of this kind are not read; start from the BF16 checkpoint",
            });
        }
    };
    Ok(Scales {
        file: scales.file,
        offset: scales.offset,
        ty,
        rows: over.0,
        columns: over.1,
        per_row,
    })
}

fn float(dtype: Dtype) -> Result<Encoding, Problem> {
    Ok(match dtype {
        Dtype::F64 => Encoding::F64,
        Dtype::F32 => Encoding::Ggml(GgmlType::F32),
        Dtype::F16 => Encoding::Ggml(GgmlType::F16),
        Dtype::BF16 => Encoding::Ggml(GgmlType::BF16),
        _ => {
            return Err(Problem {
                found: format!("type {dtype}"),
                expected: "F32, F16 or BF16 (F64 and FP8 are read too)".into(),
                help: "an already quantized checkpoint cannot be converted; take the original one",
            });
        }
    })
}

/// Values of a block of MXFP4, and the bytes of its codes.
const BLOCK: (u64, u64) = (32, 16);

/// The shape in which codes of MXFP4 are stored.
pub(super) fn mxfp4_shape(shape: &[u64]) -> Vec<u64> {
    let mut shape = shape.to_vec();
    if let Some(row) = shape.last_mut() {
        *row = row.div_ceil(BLOCK.0);
    }
    shape.push(BLOCK.1);
    shape
}

/// How codes of MXFP4 are stored whose scales are in the tensor `name`.
pub(super) fn mxfp4(
    checkpoint: &Checkpoint,
    codes: &CheckpointTensor,
    name: &str,
) -> Result<Encoding, Problem> {
    let scales = checkpoint.tensors.get(name);
    let expected = codes.shape.split_last().map(|(_, blocks)| blocks).unwrap_or_default();
    match scales {
        Some(scales)
            if scales.shape == expected
                && scales.dtype == Dtype::U8
                && codes.dtype == Dtype::U8 =>
        {
            Ok(Encoding::Mxfp4 { file: scales.file, offset: scales.offset })
        }
        Some(scales) => Err(Problem {
            found: format!(
                "codes of type {} with scales of type {}, shape {:?}",
                codes.dtype, scales.dtype, scales.shape
            ),
            expected: format!("U8 codes and U8 scales of shape {expected:?} in {name:?}"),
            help: "take the checkpoint as its authors publish it",
        }),
        None => Err(Problem {
            found: "codes without scales".into(),
            expected: format!("a tensor {name:?} beside it"),
            help: "the checkpoint is incomplete",
        }),
    }
}
