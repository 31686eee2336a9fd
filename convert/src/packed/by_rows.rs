//! compressed-tensors: codes packed along the rows, zero points along the columns.

use std::sync::Arc;

use gguf_io::{Dtype, SourceFile};
use quant_core::grouped::pack;

use super::{
    Groups, Layer, Part, Parts,
    reader::{Blocks, floats},
};
use crate::Result;

/// A packed layer.
#[derive(Debug)]
struct ByRows {
    files: Arc<Vec<SourceFile>>,
    bits: u32,
    rows: u64,
    columns: u64,
    codes: Part,
    scales: Part,
    zeros: Option<Part>,
    /// The group of each column.
    groups: Groups,
}

/// A layer whose codes have one of these widths.
pub(super) fn layer(parts: &Parts<'_>, bits: &[u32]) -> Result<Layer> {
    let codes = parts.need("weight_packed", &[Dtype::I32])?;
    let mut scales = parts.need("weight_scale", &[Dtype::F16, Dtype::BF16, Dtype::F32])?;
    let shape = parts.need("weight_shape", &[Dtype::I64, Dtype::I32])?;
    parts.expect("weight_shape", &shape, 1, 2)?;
    let size = if shape.dtype == Dtype::I64 { 8 } else { 4 };
    let mut bytes = [0; 16];
    let bytes = &mut bytes[..2 * size];
    if let Some(file) = parts.files.get(shape.file) {
        file.read_exact_at(bytes, shape.offset)?;
    }
    let number =
        |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (rows, columns) = bytes.split_at(size);
    let (rows, columns) = (number(rows), number(columns));

    let fits = |bits: &&u32| {
        pack::per_word(**bits).is_ok_and(|n| columns.div_ceil(n as u64) == codes.columns)
    };
    let Some(&bits) = bits.iter().find(fits).filter(|_| rows == codes.rows && columns > 0) else {
        let found = format!("shape [{}, {}]", codes.rows, codes.columns);
        let expected = format!("the packed codes of a weight [{rows}, {columns}]");
        return Err(parts.wrong("weight_packed", &found, &expected));
    };
    match (scales.rows, scales.columns) {
        (1, 1) => {}
        // One for each row.
        (1, count) if count == rows => (scales.rows, scales.columns) = (rows, 1),
        _ => parts.expect("weight_scale", &scales, rows, scales.columns)?,
    }
    let mut used = vec!["weight_packed", "weight_scale", "weight_shape"];
    let zeros = parts.find("weight_zero_point", &[Dtype::I32])?;
    if let Some(zeros) = &zeros {
        let per_word = pack::per_word(bits)? as u64;
        parts.expect("weight_zero_point", zeros, rows.div_ceil(per_word), scales.columns)?;
        used.push("weight_zero_point");
    }
    let groups = match parts.find("weight_g_idx", &[Dtype::I32])? {
        Some(part) => {
            parts.expect("weight_g_idx", &part, 1, columns)?;
            used.push("weight_g_idx");
            parts.groups("weight_g_idx", &part, scales.columns)?
        }
        None => parts.even_groups("weight_scale", columns, scales.columns)?,
    };
    let files = Arc::clone(parts.files);
    Ok((Box::new(ByRows { files, bits, rows, columns, codes, scales, zeros, groups }), used))
}

impl ByRows {
    /// Reads a row of a part; one that is a single row counts for all.
    fn read(&self, part: &Part, size: u64, row: u64, bytes: &mut [u8]) -> gguf_io::Result<()> {
        let row = row.min(part.rows.saturating_sub(1));
        match self.files.get(part.file) {
            Some(file) => file.read_exact_at(bytes, part.offset + row * part.columns * size),
            None => Ok(()),
        }
    }
}

impl Blocks for ByRows {
    fn shape(&self) -> [u64; 2] {
        [self.rows, self.columns]
    }

    fn rows(&self, first: u64, out: &mut [f32]) -> gguf_io::Result<()> {
        let per_word = (32 / self.bits.max(1)) as usize;
        let columns = usize::try_from(self.columns).unwrap_or(usize::MAX);
        let groups = usize::try_from(self.scales.columns).unwrap_or(usize::MAX);
        let words = usize::try_from(self.codes.columns).unwrap_or(usize::MAX);
        let middle = f32::from(1u8 << (self.bits - 1));
        let mut bytes = vec![0; words.saturating_mul(4)];
        let size: u64 = if self.scales.dtype == Dtype::F32 { 4 } else { 2 };
        let mut scale_bytes = vec![0; groups.saturating_mul(size as usize)];
        let mut zero_words = vec![0; groups.saturating_mul(4)];
        let (mut scales, mut zeros) = (Vec::new(), vec![middle; groups]);
        for (row, out) in (first..).zip(out.chunks_exact_mut(columns.max(1))) {
            self.read(&self.codes, 4, row, &mut bytes)?;
            self.read(&self.scales, size, row, &mut scale_bytes)?;
            floats(self.scales.dtype, &scale_bytes, &mut scales);
            if let Some(part) = &self.zeros {
                if row == first || row % per_word as u64 == 0 {
                    self.read(part, 4, row / per_word as u64, &mut zero_words)?;
                }
                for (zero, word) in zeros.iter_mut().zip(zero_words.as_chunks().0) {
                    let word = u32::from_le_bytes(*word);
                    *zero = pack::code(word, self.bits, (row % per_word as u64) as u32).into();
                }
            }
            let codes = bytes.as_chunks().0.iter().flat_map(|word| {
                let word = u32::from_le_bytes(*word);
                (0..per_word as u32).map(move |i| pack::code(word, self.bits, i))
            });
            for (column, (out, code)) in out.iter_mut().zip(codes).enumerate() {
                let group = self.groups.of(column);
                let scale = scales.get(group).copied().unwrap_or(0.0);
                let zero = zeros.get(group).copied().unwrap_or(middle);
                *out = (f32::from(code) - zero) * scale;
            }
        }
        Ok(())
    }
}
