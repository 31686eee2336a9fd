//! GPTQ and AWQ: the transpose of the weight, packed.
//!
//! GPTQ packs along the inputs, `qweight` is `[in / per word, out]`, its zero points along the
//! outputs. AWQ packs both along the outputs, eight at a time in an order of its own.

use gguf_io::{Dtype, SourceFile};
use quant_core::{Error::TooLarge, grouped::pack};

use super::{
    part::{FLOATS, Part},
    parts::{Found, Parts},
    row::{Buffers, EachRow, Groups, Row},
};
use crate::{Result, gather::size};

/// Where in a word of AWQ the code of each of its eight columns is.
const AWQ_ORDER: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Words after which codes of a width begin with a word again.
fn unit(bits: u32) -> u64 {
    if 32u32.is_multiple_of(bits.max(1)) { 1 } else { u64::from(bits) }
}

/// A packed layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transposed {
    pub(super) bits: u32,
    columns: u64,
    pub(super) codes: Part,
    /// Whether words of codes go along the outputs, as in AWQ, or along the inputs.
    codes_along_outputs: bool,
    scales: Part,
    zeros: Part,
    /// Added to stored zero points.
    zero_offset: u8,
    /// The group of each input.
    pub(super) groups: Groups,
}

/// A layer of GPTQ whose codes have one of these widths, the first if none fits.
pub(crate) fn gptq(
    parts: &Parts<'_>,
    bits: &[u32],
    zero_offset: u8,
) -> Result<(Found<Transposed>, Vec<&'static str>)> {
    let codes = parts.need("qweight", &[Dtype::I32])?;
    let scales = parts.need("scales", FLOATS)?;
    let zeros = parts.need("qzeros", &[Dtype::I32])?;
    let g_idx = parts.find("g_idx", &[Dtype::I32])?;
    let rows = codes.columns;
    let code_bits = codes.rows.checked_mul(32).ok_or(TooLarge)?;
    let zero_words = |bits: u32| rows.saturating_mul(u64::from(bits)).div_ceil(32);
    let fits = |bits: &&u32| {
        codes.rows.is_multiple_of(unit(**bits))
            && zeros.columns == zero_words(**bits)
            && g_idx.is_none_or(|part| part.columns == code_bits / u64::from(**bits))
    };
    let bits = bits.iter().find(fits).or(bits.first()).copied().unwrap_or(4);
    let columns = code_bits / u64::from(bits.max(1));
    if !codes.rows.is_multiple_of(unit(bits)) {
        let found = format!("{} rows of words", codes.rows);
        let expected = format!("a multiple of {} for codes of {bits} bits", unit(bits));
        return Err(parts.wrong("qweight", &found, &expected));
    }
    parts.expect("scales", &scales, scales.rows, rows)?;
    parts.expect("qzeros", &zeros, scales.rows, zero_words(bits))?;
    let mut used = vec!["qweight", "scales", "qzeros"];
    let groups = match g_idx {
        Some(part) => {
            parts.expect("g_idx", &part, 1, columns)?;
            used.push("g_idx");
            parts.groups("g_idx", &part, scales.rows)?
        }
        None => parts.even_groups("scales", columns, scales.rows)?,
    };
    let layer = Transposed {
        bits,
        columns,
        codes,
        codes_along_outputs: false,
        scales,
        zeros,
        zero_offset,
        groups,
    };
    Ok((layer.found(parts, rows), used))
}

/// A layer of AWQ in the GEMM layout.
pub(crate) fn awq(parts: &Parts<'_>) -> Result<(Found<Transposed>, Vec<&'static str>)> {
    let codes = parts.need("qweight", &[Dtype::I32])?;
    let scales = parts.need("scales", FLOATS)?;
    let zeros = parts.need("qzeros", &[Dtype::I32])?;
    let rows = codes.columns.checked_mul(8).ok_or(TooLarge)?;
    parts.expect("scales", &scales, scales.rows, rows)?;
    parts.expect("qzeros", &zeros, scales.rows, codes.columns)?;
    let layer = Transposed {
        bits: 4,
        columns: codes.rows,
        codes,
        codes_along_outputs: true,
        scales,
        zeros,
        zero_offset: 0,
        groups: parts.even_groups("scales", codes.rows, scales.rows)?,
    };
    Ok((layer.found(parts, rows), vec!["qweight", "scales", "qzeros"]))
}

impl Transposed {
    fn found(self, parts: &Parts<'_>, rows: u64) -> Found<Self> {
        Found {
            name: format!("{}_INT{}", parts.method, self.bits),
            shape: [rows, self.columns],
            parts: vec![self.codes, self.scales, self.zeros],
            layout: self,
        }
    }

    /// Outputs that share a word in an order of its own.
    pub(super) fn step(&self) -> u64 {
        if self.codes_along_outputs { AWQ_ORDER.len() as u64 } else { 1 }
    }

    pub(super) fn each_row(
        &self,
        files: &[SourceFile],
        first: u64,
        rows: usize,
        buffers: &mut Buffers,
        each: &mut EachRow<'_>,
    ) -> Result<()> {
        let columns = size(self.columns)?;
        self.read_scales(files, first, rows, buffers)?;
        let Buffers { words, codes, scales, zeros, row_scales, row_zeros, .. } = buffers;
        // What a line of words has for these rows, and from which of its words on.
        let (line, from) = match self.codes_along_outputs {
            true => (rows.div_ceil(AWQ_ORDER.len()), first / AWQ_ORDER.len() as u64),
            false => (rows, first),
        };
        words.resize(size(self.codes.rows)?.checked_mul(4 * line).ok_or(TooLarge)?, 0);
        if line as u64 == self.codes.columns {
            self.codes.read_into(files, (0, 0), words)?;
        } else {
            for (row, words) in (0..).zip(words.chunks_exact_mut((4 * line).max(1))) {
                self.codes.read_into(files, (row, from), words)?;
            }
        }
        codes.resize(columns, 0);
        for row in 0..rows {
            self.codes_of(row, words, line, codes);
            let of_row = |all: &[f32], own: &mut Vec<f32>| {
                own.clear();
                own.extend(all.iter().skip(row).step_by(rows.max(1)));
            };
            of_row(scales, row_scales);
            of_row(zeros, row_zeros);
            each(Row { codes, scales: row_scales, zeros: row_zeros });
        }
        Ok(())
    }

    /// Reads scales and zero points of some rows, group by group.
    fn read_scales(
        &self,
        files: &[SourceFile],
        first: u64,
        rows: usize,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let Buffers { words, scales, zeros, bytes, .. } = buffers;
        let first_bit = first.checked_mul(u64::from(self.bits)).ok_or(TooLarge)?;
        let (bits, skipped) = (self.bits as usize, (first_bit % 32) as usize);
        let count = rows.checked_mul(bits).ok_or(TooLarge)?.saturating_add(skipped).div_ceil(32);
        let offset = f32::from(self.zero_offset);
        scales.clear();
        zeros.clear();
        for group in 0..self.scales.rows {
            self.scales.read(files, (group, first), rows, bytes)?;
            self.scales.push_floats(bytes, scales);
            self.zeros.read(files, (group, first_bit / 32), count, words)?;
            zeros.extend((0..rows).map(|row| {
                let place = self.place(row);
                f32::from(pack::stream_code(words, skipped + place * bits, self.bits)) + offset
            }));
        }
        Ok(())
    }

    /// Where among the codes along the outputs that of an output is.
    fn place(&self, output: usize) -> usize {
        if !self.codes_along_outputs {
            return output;
        }
        let len = AWQ_ORDER.len();
        output / len * len + AWQ_ORDER.get(output % len).copied().unwrap_or(0)
    }

    /// The codes of a row, from the lines of words of `line` each.
    fn codes_of(&self, row: usize, words: &[u8], line: usize, codes: &mut [u8]) {
        let (words, _) = words.as_chunks::<4>();
        if self.codes_along_outputs {
            let place = self.place(row);
            let words = words.iter().skip(place / AWQ_ORDER.len()).step_by(line.max(1));
            for (code, word) in codes.iter_mut().zip(words) {
                *code = pack::code(
                    u32::from_le_bytes(*word),
                    self.bits,
                    (place % AWQ_ORDER.len()) as u32,
                );
            }
            return;
        }
        let mut words = words.iter().skip(row).step_by(line.max(1));
        let (bits, unit) = (self.bits as usize, unit(self.bits) as usize);
        for codes in codes.chunks_mut((32 * unit / bits.max(1)).max(1)) {
            if unit == 1 {
                let word = words.next().map_or(0, |word| u32::from_le_bytes(*word));
                for (i, code) in (0..).zip(codes) {
                    *code = pack::code(word, self.bits, i);
                }
                continue;
            }
            // Codes that straddle words.
            let mut bytes = [0; 32];
            for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words.by_ref().take(unit)) {
                *bytes = *word;
            }
            for (i, code) in codes.iter_mut().enumerate() {
                *code = pack::stream_code(&bytes, i * bits, self.bits);
            }
        }
    }
}
