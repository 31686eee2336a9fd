//! From packed codes to values.

use std::ops::Range;

use gguf_io::SourceFile;

use crate::{CodeBlock, Result, View, codes, gather::size, view::Run};

use super::{Groups, Packed};

/// Values that are restored at a time where a view takes rows in another order than they are stored
/// in.
const WINDOW: u64 = 1 << 18;

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Words of codes.
    pub(super) words: Vec<u8>,
    /// Codes, a byte each.
    pub(super) codes: Vec<u8>,
    /// Scales and zero points or biases, of some rows.
    pub(super) scales: Vec<f32>,
    pub(super) zeros: Vec<f32>,
    /// Those of one row.
    pub(super) row_scales: Vec<f32>,
    pub(super) row_zeros: Vec<f32>,
    /// What is read on the way.
    pub(super) bytes: Vec<u8>,
}

/// A row of a packed layer: its codes, and what its groups have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) codes: &'a [u8],
    pub(super) scales: &'a [f32],
    /// Zero points or biases.
    pub(super) zeros: &'a [f32],
}

/// What is done with a row; rows come in their order.
pub(super) type EachRow<'a> = dyn FnMut(Row<'_>) + 'a;

/// How a code becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// `(code − zero point) · scale`
    ZeroPoint,
    /// `code · scale + bias`
    Bias,
}

impl Rule {
    fn value(self, code: u8, scale: f32, zero: f32) -> f32 {
        match self {
            Self::ZeroPoint => (f32::from(code) - zero) * scale,
            Self::Bias => f32::from(code) * scale + zero,
        }
    }
}

/// What rows are read as.
pub(crate) trait Unit: Copy + Default {
    /// Values in one.
    const VALUES: u64;

    /// Reads whole rows of a layer, from `first` on.
    fn read(
        packed: &Packed,
        files: &[SourceFile],
        first: u64,
        out: &mut [Self],
        buffers: &mut Buffers,
    ) -> Result<()>;
}

impl Unit for f32 {
    const VALUES: u64 = 1;

    fn read(
        packed: &Packed,
        files: &[SourceFile],
        first: u64,
        out: &mut [Self],
        buffers: &mut Buffers,
    ) -> Result<()> {
        packed.restore(files, first, out, buffers)
    }
}

impl Unit for CodeBlock {
    const VALUES: u64 = codes::BLOCK;

    fn read(
        packed: &Packed,
        files: &[SourceFile],
        first: u64,
        out: &mut [Self],
        buffers: &mut Buffers,
    ) -> Result<()> {
        packed.code_blocks(files, first, out, buffers)
    }
}

/// Rows in the order they are stored in, and what reading them takes.
#[derive(Debug)]
pub(crate) struct Window<T = f32> {
    /// Values of so many rows, unless one row has more.
    len: u64,
    held: Vec<T>,
    buffers: Buffers,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { len: WINDOW, held: Vec::new(), buffers: Buffers::default() }
    }
}

impl Groups {
    /// Restores a row.
    pub(super) fn restore(&self, rule: Rule, row: Row<'_>, out: &mut [f32]) {
        let Row { codes, scales, zeros } = row;
        match self {
            Self::Even(len) => {
                let len = usize::try_from(*len).unwrap_or(usize::MAX).max(1);
                let groups = out.chunks_mut(len).zip(codes.chunks(len));
                for ((out, codes), (scale, zero)) in groups.zip(scales.iter().zip(zeros)) {
                    for (out, code) in out.iter_mut().zip(codes) {
                        *out = rule.value(*code, *scale, *zero);
                    }
                }
            }
            Self::Given(groups) => {
                for ((out, code), group) in out.iter_mut().zip(codes).zip(groups) {
                    let at = |of: &[f32]| of.get(*group as usize).copied().unwrap_or(0.0);
                    *out = rule.value(*code, at(scales), at(zeros));
                }
            }
        }
    }
}

impl<T: Unit> Window<T> {
    /// Reads what a view takes of a layer, a range of its order; both count units. Each row is
    /// restored once for a range whose rows are near each other.
    pub(crate) fn read(
        &mut self,
        packed: &Packed,
        files: &[SourceFile],
        view: &View,
        range: Range<u64>,
        out: &mut [T],
    ) -> Result<()> {
        let [rows, columns] = packed.shape();
        let (rows, columns) = (rows.max(1), (columns / T::VALUES).max(1));
        let step = packed.step();
        // The values that are taken, as they are stored.
        let (first, end) = view
            .runs(range.clone())
            .fold((u64::MAX, 0), |(first, end), run| (run.first.min(first), run.end().max(end)));
        if first >= end {
            return Ok(());
        }
        let row = first / columns;
        let whole = first.is_multiple_of(columns) && end.is_multiple_of(columns);
        if whole && row.is_multiple_of(step) && view.is_contiguous() {
            return T::read(packed, files, row, out, &mut self.buffers);
        }
        let last = end.div_ceil(columns).min(rows);
        let height = (self.len / T::VALUES / columns).max(1).next_multiple_of(step);
        let mut row = row - row % step;
        while row < last {
            let here = height.min(last - row);
            let held = row * columns..(row + here) * columns;
            if view.runs(range.clone()).any(|run| !run.within(&held).is_empty()) {
                self.held.resize(size(here * columns)?, T::default());
                T::read(packed, files, row, &mut self.held, &mut self.buffers)?;
                self.hand_out(view.runs(range.clone()), &held, out)?;
            }
            row += here;
        }
        Ok(())
    }

    /// Copies those of the values held that runs take to their places.
    fn hand_out(
        &self,
        runs: impl Iterator<Item = Run>,
        held: &Range<u64>,
        mut out: &mut [T],
    ) -> Result<()> {
        for run in runs {
            let (now, later) = out.split_at_mut(size(run.len)?.min(out.len()));
            out = later;
            let taken = run.within(held);
            if taken.is_empty() {
                continue;
            }
            let from = size(run.first + taken.start * run.stride - held.start)?;
            let values = self.held.get(from..).unwrap_or_default();
            let now = now.get_mut(size(taken.start)?..size(taken.end)?).unwrap_or_default();
            match size(run.stride)? {
                1 => {
                    let values = values.get(..now.len()).ok_or(quant_core::Error::TooLarge)?;
                    now.copy_from_slice(values);
                }
                stride => {
                    let values = values.iter().step_by(stride.max(1));
                    now.iter_mut().zip(values).for_each(|(out, value)| *out = *value);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gguf_io::{Checkpoint, Limits};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{Encoding, Quantization, Result, Settings, Weights};

    /// A checkpoint of one layer whose parts hold any bytes, as it is read.
    fn layer(settings: Value, parts: &[(&str, &str, &[u64])]) -> Weights {
        let (mut at, mut header) = (0u64, serde_json::Map::new());
        for (name, dtype, shape) in parts {
            let size: u64 = match *dtype {
                "F16" => 2,
                "I64" => 8,
                _ => 4,
            };
            let end = at + size * shape.iter().product::<u64>();
            header.insert(
                format!("m.{name}"),
                json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}),
            );
            at = end;
        }
        let header = Value::Object(header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend((0..at).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8));
        // The shape of the weight, where there is one, is the last part.
        if parts.last().is_some_and(|(_, dtype, _)| *dtype == "I64") {
            let end = file.len();
            file[end - 16..end - 8].copy_from_slice(&24u64.to_le_bytes());
            file[end - 8..].copy_from_slice(&96u64.to_le_bytes());
        }
        let file = SourceFile::from_bytes("model.safetensors", file);
        let checkpoint = Checkpoint::read(vec![file], &Limits::default()).unwrap();
        let settings = Settings {
            path: Path::new("config.json"),
            quantization_config: Some(&settings),
            quantization: None,
        };
        let read: Result<_> = Quantization::read(&settings, |_| Ok(None));
        Weights::new(checkpoint, read.unwrap()).unwrap()
    }

    /// One of each layout, all of 24 rows and 96 columns.
    fn layers() -> Vec<Weights> {
        let transposed = |bits: u64, words: u64| {
            let settings = json!({"quant_method": "gptq", "bits": bits});
            let zeros = (24 * bits).div_ceil(32);
            let shapes = [[words, 24], [3, 24], [3, zeros]];
            let [codes, scales, zeros] = shapes.each_ref().map(|shape| &shape[..]);
            layer(
                settings,
                &[("qweight", "I32", codes), ("scales", "F16", scales), ("qzeros", "I32", zeros)],
            )
        };
        let awq = [("qweight", "I32", &[96, 3][..]), ("scales", "F16", &[3, 24])];
        let awq = [&awq[..], &[("qzeros", "I32", &[3, 3])]].concat();
        let rows = [("weight_packed", "I32", &[24, 12][..]), ("weight_scale", "F16", &[24, 3])];
        let more = [("weight_zero_point", "I32", &[3, 3][..]), ("weight_shape", "I64", &[2])];
        let compressed = json!({
            "quant_method": "compressed-tensors",
            "config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 32}}},
        });
        let mlx = [("weight", "U32", &[24, 9][..]), ("scales", "F16", &[24, 3])];
        let mlx = [&mlx[..], &[("biases", "F16", &[24, 3])]].concat();
        vec![
            transposed(4, 12),
            transposed(3, 9),
            transposed(8, 24),
            layer(json!({"quant_method": "awq", "bits": 4}), &awq),
            layer(compressed, &[&rows[..], &more].concat()),
            layer(json!({"bits": 3, "group_size": 32}), &mlx),
        ]
    }

    proptest! {
        #[test]
        fn any_range_of_any_view_is_that_of_the_restored_whole(
            which in 0usize..6,
            steps in prop::collection::vec((0u8..4, 0usize..3, 0usize..3, 1u64..5), 0..4),
            bounds in (0u64..2400, 0u64..2400),
            len in 0u64..3000,
        ) {
            let weights = &layers()[which];
            let tensor = &weights.checkpoint().tensors["m.weight"];
            let Encoding::Packed(packed) = &weights.encoding("m.weight", tensor).unwrap() else {
                unreachable!("the layer is packed")
            };
            prop_assert_eq!(packed.shape(), [24, 96]);
            let mut view = View::whole(&[24, 96]).unwrap();
            for (step, a, b, n) in steps {
                let next = match step {
                    0 => view.clone().swap(a, b),
                    1 => view.clone().narrow(a, n - 1, n),
                    2 => view.clone().every(a, n, n - 1),
                    _ => view.clone().unfold(a, &[n]),
                };
                view = next.unwrap_or(view);
            }
            let files = &weights.checkpoint().files;
            let mut whole = vec![0.0; 24 * 96];
            packed.restore(files, 0, &mut whole, &mut Buffers::default()).unwrap();
            let count = view.count();
            let (a, b) = (bounds.0 % (count + 1), bounds.1 % (count + 1));
            let (start, end) = (a.min(b), a.max(b));
            let expected: Vec<_> = view
                .runs(start..end)
                .flat_map(|run| (0..run.len).map(move |i| run.first + i * run.stride))
                .map(|i| whole[i as usize].to_bits())
                .collect();
            let mut found = vec![0.0f32; (end - start) as usize];
            let mut window = Window { len, ..Window::default() };
            window.read(packed, files, &view, start..end, &mut found).unwrap();
            let found: Vec<_> = found.iter().map(|value| value.to_bits()).collect();
            prop_assert_eq!(&found, &expected);
            // Their codes, where whole blocks of them are taken.
            let Some(view) = view.in_units(32) else { return Ok(()) };
            let (first, last) = (start.div_ceil(32), end / 32);
            if first >= last {
                return Ok(());
            }
            let mut blocks = vec![CodeBlock::default(); (last - first) as usize];
            let mut window = Window { len, ..Window::default() };
            window.read(packed, files, &view, first..last, &mut blocks).unwrap();
            let values = blocks.iter().flat_map(|block| {
                block.codes.iter().map(|code| match block.offset {
                    codes::Offset::Zero(zero) => (f32::from(*code) - zero) * block.scale,
                    codes::Offset::Bias(bias) => f32::from(*code) * block.scale + bias,
                })
            });
            let found: Vec<_> = values.map(f32::to_bits).collect();
            let skipped = (first * 32 - start) as usize;
            prop_assert_eq!(&found[..], &expected[skipped..skipped + found.len()]);
        }
    }
}
