//! compressed-tensors: codes packed along the rows, zero points along the columns.

use gguf_io::{Dtype, SourceFile};
use quant_core::{Error::TooLarge, grouped::pack};

use super::{
    part::{FLOATS, Part},
    parts::{Found, Parts},
    row::{Buffers, EachRow, Groups, Row},
};
use crate::{Result, gather::size};

/// A packed layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ByRows {
    pub(super) bits: u32,
    columns: u64,
    pub(super) codes: Part,
    scales: Part,
    zeros: Option<Part>,
    /// The group of each column.
    pub(super) groups: Groups,
}

/// A layer whose codes have one of these widths, and zero points if config.json says so; else it may.
pub(crate) fn layer(
    parts: &Parts<'_>,
    bits: &[u32],
    has_zeros: bool,
) -> Result<(Found<ByRows>, Vec<&'static str>)> {
    let codes = parts.need("weight_packed", &[Dtype::I32])?;
    let mut scales = parts.need("weight_scale", FLOATS)?;
    let shape = parts.need("weight_shape", &[Dtype::I64, Dtype::I32])?;
    parts.expect("weight_shape", &shape, 1, 2)?;
    let mut bytes = Vec::new();
    shape.read(&parts.checkpoint.files, (0, 0), 2, &mut bytes)?;
    let number =
        |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (rows, columns) = bytes.split_at(bytes.len() / 2);
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
    let zeros = if has_zeros {
        Some(parts.need("weight_zero_point", &[Dtype::I32])?)
    } else {
        parts.find("weight_zero_point", &[Dtype::I32])?
    };
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
    let kind = if zeros.is_some() { "ASYM" } else { "SYM" };
    let found = Found {
        name: format!("INT{bits}_{kind}"),
        shape: [rows, columns],
        parts: [Some(codes), Some(scales), zeros].into_iter().flatten().collect(),
        layout: ByRows { bits, columns, codes, scales, zeros, groups },
    };
    Ok((found, used))
}

impl ByRows {
    pub(super) fn each_row(
        &self,
        files: &[SourceFile],
        first: u64,
        rows: usize,
        buffers: &mut Buffers,
        each: &mut EachRow<'_>,
    ) -> Result<()> {
        let Buffers { words, codes, scales, row_zeros, bytes, .. } = buffers;
        let [columns, line, groups] =
            [size(self.columns)?, size(self.codes.columns)?, size(self.scales.columns)?];
        let count = |line: usize, rows: usize| line.checked_mul(rows).ok_or(TooLarge);
        self.codes.read(files, (first, 0), count(line, rows)?, words)?;
        // One scale for the whole weight counts for each row.
        let shared = self.scales.rows == 1;
        let (from, scale_rows) = if shared { (0, 1) } else { (first, rows) };
        self.scales.read(files, (from, 0), count(groups, scale_rows)?, bytes)?;
        scales.clear();
        self.scales.push_floats(bytes, scales);
        let per_word = (32 / self.bits.max(1)).max(1);
        let first_line = first / u64::from(per_word);
        if let Some(zeros) = &self.zeros {
            let end = first.saturating_add(rows as u64).div_ceil(u64::from(per_word));
            let lines = size(end.saturating_sub(first_line))?;
            zeros.read(files, (first_line, 0), count(groups, lines)?, bytes)?;
        }
        row_zeros.clear();
        row_zeros.resize(groups, f32::from(1u8 << (self.bits - 1)));
        codes.resize(columns, 0);
        let lines = words.chunks_exact((4 * line).max(1)).take(rows);
        for ((row, own), words) in (first..).zip(0usize..).zip(lines) {
            let words = words.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word));
            for (codes, word) in codes.chunks_mut(per_word as usize).zip(words) {
                for (i, code) in (0..).zip(codes) {
                    *code = pack::code(word, self.bits, i);
                }
            }
            if self.zeros.is_some() {
                let line = size(row / u64::from(per_word) - first_line)?;
                let words = bytes.as_chunks().0.iter().skip(line.saturating_mul(groups));
                for (zero, word) in row_zeros.iter_mut().zip(words) {
                    let at = (row % u64::from(per_word)) as u32;
                    *zero = pack::code(u32::from_le_bytes(*word), self.bits, at).into();
                }
            }
            let own = if shared { 0 } else { own.saturating_mul(groups) };
            let scales = scales.get(own..).unwrap_or_default();
            each(Row { codes, scales, zeros: row_zeros });
        }
        Ok(())
    }
}
