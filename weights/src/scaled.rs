//! Codes of few bits with scales beside them, and which tensors of a checkpoint are such scales.

use gguf_io::{Checkpoint, CheckpointTensor, Dtype, message::Shape};
use quant_core::GgmlType;

use crate::{
    Code, Encoding, Scales,
    quantization::{Format, ScaleLayout},
};

/// What a tensor of a checkpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// It is a weight.
    Weight,
    /// It goes with a weight, by which it is read.
    Scale,
    /// Nothing here reads it, for this reason.
    LeftOut(&'static str),
}

/// Why the values of a tensor cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is there.
    pub found: String,
    /// What is read.
    pub expected: String,
    /// What to do.
    pub help: &'static str,
}

/// What is added to the name of a weight for that of its scales. Either way values are multiplied.
const SCALES: [&str; 2] = ["_scale_inv", "_scale"];

/// What takes the place of a weight's ending in the name of its scales, in some checkpoints.
const BARE_SCALE: &str = ".scale";
const WEIGHT: &str = ".weight";

/// What is added to the name of a weight for that of its zero points.
const ZEROS: &str = "_zero_point";

/// Ends of the names of activation scales and the like, which only engines use that compute in
/// eight bits.
const ACTIVATIONS: [&str; 14] = [
    ".activation_scale",
    "_activation_scale",
    ".input_scale",
    "_input_scale",
    ".input_scale_ub",
    ".input_zero_point",
    ".input_global_scale",
    ".output_scale",
    ".output_zero_point",
    ".q_scale",
    ".k_scale",
    ".v_scale",
    ".kv_scale",
    ".prob_output_scale",
];

impl Format {
    /// What a tensor of a checkpoint is for.
    pub(crate) fn purpose(&self, name: &str, checkpoint: &Checkpoint) -> Purpose {
        if matches!(self, Self::Floats | Self::Mxfp4) {
            return Purpose::Weight;
        }
        let of_weight = |end: &str| {
            name.strip_suffix(end).is_some_and(|weight| checkpoint.tensors.contains_key(weight))
        };
        // DeepSeek V4 names them without the weight's own ending.
        let of_base = || {
            let weight = name.strip_suffix(BARE_SCALE).map(|base| format!("{base}{WEIGHT}"));
            let weight = weight.and_then(|weight| checkpoint.tensors.get(&weight));
            weight.is_some_and(|weight| weight.dtype.bits() == 8)
        };
        if self.scales().is_some() && of_base() {
            return Purpose::Scale;
        }
        if self.scales().is_some() && (SCALES.into_iter().any(of_weight) || of_weight(ZEROS)) {
            return Purpose::Scale;
        }
        if ACTIVATIONS.iter().any(|end| name.ends_with(end)) {
            return Purpose::LeftOut(
                "engines scale activations by them where they compute in 8 bits",
            );
        }
        Purpose::Weight
    }

    /// How scales of eight-bit codes may lie over them, where there may be such codes.
    fn scales(&self) -> Option<ScaleLayout> {
        match self {
            Self::Compressed { scales, .. } | Self::Scaled(scales) => Some(*scales),
            _ => None,
        }
    }

    /// How the values of a tensor that is not packed are stored.
    pub(crate) fn encoding(
        &self,
        checkpoint: &Checkpoint,
        name: &str,
        tensor: &CheckpointTensor,
    ) -> Result<Encoding, Problem> {
        let code = match (tensor.dtype, self.scales()) {
            (Dtype::F8E4M3, _) => Code::E4M3,
            (Dtype::F8E5M2, _) => Code::E5M2,
            (Dtype::I8, Some(_)) => Code::Int8,
            (other, _) => return float(other),
        };
        let columns = tensor.shape.last().copied().unwrap_or(1);
        let Some(layout) = self.scales() else {
            return Ok(Encoding::Coded { code, columns, scales: None });
        };
        let [first, second] = SCALES.map(|end| format!("{name}{end}"));
        let names = [first, second, format!("{}{BARE_SCALE}", name.trim_end_matches(WEIGHT))];
        let found = names.iter().find_map(|name| Some((name, checkpoint.tensors.get(name)?)));
        let Some((scales_name, stored)) = found else {
            return Err(Problem {
                found: format!("type {} without scales", tensor.dtype),
                expected: format!("a tensor {:?} or {:?} beside it", names[0], names[1]),
                help: "the checkpoint is incomplete",
            });
        };
        let mut scales = scales_of(scales_name, stored, &tensor.shape, layout)?;
        let zeros_name = format!("{name}{ZEROS}");
        if let Some(zeros) = checkpoint.tensors.get(&zeros_name) {
            let count = |tensor: &CheckpointTensor| tensor.shape.iter().product::<u64>();
            if (code, zeros.dtype) != (Code::Int8, Dtype::I8) || count(zeros) != count(stored) {
                return Err(Problem {
                    found: format!(
                        "codes of type {} with zero points {zeros_name:?} of type {}, shape {}",
                        tensor.dtype,
                        zeros.dtype,
                        Shape(&zeros.shape)
                    ),
                    expected: format!(
                        "I8 codes and I8 zero points, one for each scale of shape {}",
                        Shape(&stored.shape)
                    ),
                    help: "zero points of this kind are not read; start from the BF16 checkpoint",
                });
            }
            scales.zeros = Some((zeros.file, zeros.offset));
        } else if code == Code::Int8 && layout.zeros {
            return Err(Problem {
                found: "codes of type I8 without zero points".into(),
                expected: format!(
                    "a tensor {zeros_name:?} beside it: config.json says that the codes are not symmetric"
                ),
                help: "the checkpoint is incomplete",
            });
        }
        let order = format!("{name}_g_idx");
        if checkpoint.tensors.contains_key(&order) {
            return Err(Problem {
                found: format!("an order of groups {order:?} of codes that are not packed"),
                expected: "groups one after the other".into(),
                help: "start from the BF16 checkpoint",
            });
        }
        Ok(Encoding::Coded { code, columns, scales: Some(scales) })
    }
}

/// How the scales of a weight of this shape, outermost first, lie over it.
fn scales_of(
    name: &str,
    scales: &CheckpointTensor,
    shape: &[u64],
    layout: ScaleLayout,
) -> Result<Scales, Problem> {
    let ty = match scales.dtype {
        // Exponents of two, a byte each.
        Dtype::F8E8M0 => Ok(Encoding::Ggml(GgmlType::I8)),
        other => float(other),
    };
    let ty = match ty? {
        Encoding::Ggml(ty) => ty,
        _ => {
            return Err(Problem {
                found: format!("scales {name:?} of type {}", scales.dtype),
                expected: "F32, F16 or BF16".into(),
                help: "save the scales as F32",
            });
        }
    };
    // Matrices, the outer ones of a stack of experts.
    let (matrices, rows, columns) = match *shape {
        [ref outer @ .., rows, columns] => (outer.iter().product::<u64>(), rows, columns),
        [columns] => (1, 1, columns),
        [] => (1, 1, 1),
    };
    let all_rows = matrices.saturating_mul(rows);
    let stacked = shape.len() > 2;
    let inner = match scales.shape[..] {
        [first, ref inner @ ..] if stacked && first == matrices => inner,
        ref all if !stacked => all,
        _ => &[][..],
    };
    let alone = scales.shape.iter().product::<u64>() == 1;
    let flat = shape.len() < 2;
    // Scales in a row of them, and the rows and columns that share one.
    let found = match (inner, layout.block) {
        _ if alone => Some((1, all_rows, columns)),
        _ if flat => None,
        // One for each matrix of a stack.
        ([] | [1] | [1, 1], _) if stacked && scales.shape.first() == Some(&matrices) => {
            Some((1, rows, columns))
        }
        (&[down, across], Some([block_rows, block_columns]))
            if down == rows.div_ceil(block_rows)
                && across == columns.div_ceil(block_columns)
                && (matrices == 1 || rows.is_multiple_of(block_rows)) =>
        {
            Some((across, block_rows, block_columns))
        }
        (&([down] | [down, 1]), _) if layout.rows && down == rows => Some((1, 1, columns)),
        (&[down, across], _)
            if layout.groups && down == rows && across > 0 && columns.is_multiple_of(across) =>
        {
            Some((across, 1, columns / across))
        }
        _ => None,
    };
    let Some((per_row, rows_of_one, columns_of_one)) = found else {
        let mut ways = vec!["one scale".to_owned()];
        if layout.rows {
            ways.push(format!("one for each of {rows} rows"));
        }
        if let Some([rows, columns]) = layout.block {
            ways.push(format!("one for each block of {rows} × {columns} values"));
        }
        if layout.groups {
            ways.push(format!("the same number for each of {rows} rows"));
        }
        return Err(Problem {
            found: format!("scales {name:?} of shape {}", Shape(&scales.shape)),
            expected: ways.join(" or "),
            help: "scales of this kind are not read; start from the BF16 checkpoint",
        });
    };
    Ok(Scales {
        file: scales.file,
        offset: scales.offset,
        ty,
        rows: rows_of_one,
        columns: columns_of_one,
        per_row,
        zeros: None,
        factor: 1.0,
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

/// How whole numbers are stored.
pub fn numbers(tensor: &CheckpointTensor) -> Result<Encoding, Problem> {
    match tensor.dtype {
        Dtype::I32 => Ok(Encoding::Ggml(GgmlType::I32)),
        Dtype::I64 => Ok(Encoding::I64),
        other => Err(Problem {
            found: format!("type {other}"),
            expected: "I32 or I64: these are whole numbers".into(),
            help: "take the checkpoint as its authors publish it",
        }),
    }
}

/// Values of a block of MXFP4, and the bytes of its codes.
const BLOCK: (u64, u64) = (32, MXFP4_BYTES);

/// The bytes of the codes of a block of MXFP4.
pub const MXFP4_BYTES: u64 = 16;

/// The shape in which codes of MXFP4 are stored of a weight of this one, outermost first, in so many
/// dimensions: as many as it has itself, or one more, where those of a block are apart.
pub fn mxfp4_shape(shape: &[u64], dimensions: usize) -> Vec<u64> {
    let mut stored = shape.to_vec();
    if let Some(row) = stored.last_mut() {
        *row = row.div_ceil(BLOCK.0);
        if dimensions == shape.len() {
            *row = row.saturating_mul(BLOCK.1);
        }
    }
    if dimensions > shape.len() {
        stored.push(BLOCK.1);
    }
    stored
}

/// How codes of MXFP4 are stored whose scales are in the tensor `name`.
pub(crate) fn mxfp4(
    checkpoint: &Checkpoint,
    codes: &CheckpointTensor,
    name: &str,
) -> Result<Encoding, Problem> {
    let scales = checkpoint.tensors.get(name);
    let mut expected = codes.shape.clone();
    // Blocks have an axis of their own, or lie side by side in a row.
    match (expected.pop(), scales) {
        (Some(row), Some(scales)) if scales.shape.len() == codes.shape.len() => {
            expected.push(row / BLOCK.1);
        }
        _ => {}
    }
    let is_one_byte = |dtype| matches!(dtype, Dtype::U8 | Dtype::I8 | Dtype::F8E8M0);
    match scales {
        Some(scales)
            if scales.shape == expected
                && is_one_byte(scales.dtype)
                && matches!(codes.dtype, Dtype::U8 | Dtype::I8) =>
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_of_stacked_experts_lie_over_each_of_them() {
        let scales = |shape: &[u64], layout| {
            let stored = CheckpointTensor {
                dtype: Dtype::F32,
                shape: shape.to_vec(),
                file: 0,
                offset: 0,
                bytes: 4 * shape.iter().product::<u64>(),
            };
            // Three experts of 32 × 64.
            scales_of("s", &stored, &[3, 32, 64], layout)
                .map(|scales| (scales.per_row, scales.rows, scales.columns))
                .map_err(|problem| problem.expected)
        };
        let rows = ScaleLayout { rows: true, ..ScaleLayout::default() };
        let blocks = ScaleLayout { block: Some([16, 48]), ..ScaleLayout::default() };
        let odd = ScaleLayout { block: Some([24, 48]), ..ScaleLayout::default() };
        for (shape, layout, expected) in [
            (&[][..], rows, (1, 96, 64)),
            (&[3], rows, (1, 32, 64)),
            (&[3, 1, 1], rows, (1, 32, 64)),
            (&[3, 32], rows, (1, 1, 64)),
            (&[3, 32, 1], rows, (1, 1, 64)),
            (&[3, 2, 2], blocks, (2, 16, 48)),
        ] {
            assert_eq!(scales(shape, layout), Ok(expected), "{shape:?}");
        }
        // Blocks that would go over from one expert to the next, and other shapes.
        for (shape, layout) in
            [(&[3, 2, 2][..], odd), (&[3, 2, 2], rows), (&[32], rows), (&[96], rows)]
        {
            assert!(scales(shape, layout).is_err(), "{shape:?}");
        }
    }
}
