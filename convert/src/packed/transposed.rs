//! GPTQ and AWQ: the transpose of the weight, packed.
//!
//! GPTQ packs along the inputs, `qweight` is `[in / per word, out]`, its zero points along the
//! outputs. AWQ packs both along the outputs, eight at a time in an order of its own.

use std::sync::Arc;

use gguf_io::{Dtype, SourceFile};
use quant_core::grouped::pack;

use super::{
    Groups, Layer, Part, Parts,
    reader::{Blocks, floats},
};
use crate::Result;

const FLOATS: &[Dtype] = &[Dtype::F16, Dtype::BF16, Dtype::F32];

/// Where in a word of AWQ the code of each of its eight columns is.
const AWQ_ORDER: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Words after which codes of a width begin with a word again.
fn unit(bits: u32) -> u64 {
    if 32u32.is_multiple_of(bits.max(1)) { 1 } else { u64::from(bits) }
}

/// A packed layer.
#[derive(Debug)]
struct Transposed {
    files: Arc<Vec<SourceFile>>,
    bits: u32,
    rows: u64,
    columns: u64,
    codes: Part,
    /// Whether words of codes go along the outputs, as in AWQ, or along the inputs.
    codes_along_outputs: bool,
    scales: Part,
    zeros: Part,
    /// Added to stored zero points.
    zero_offset: u8,
    /// The group of each input.
    groups: Groups,
}

/// A layer of GPTQ whose codes have one of these widths, the first if none fits.
pub(super) fn gptq(parts: &Parts<'_>, bits: &[u32], zero_offset: u8) -> Result<Layer> {
    let codes = parts.need("qweight", &[Dtype::I32])?;
    let scales = parts.need("scales", FLOATS)?;
    let zeros = parts.need("qzeros", &[Dtype::I32])?;
    let g_idx = parts.find("g_idx", &[Dtype::I32])?;
    let rows = codes.columns;
    let code_bits = codes.rows.checked_mul(32).ok_or(quant_core::Error::TooLarge)?;
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
        files: Arc::clone(parts.files),
        bits,
        rows,
        columns,
        codes,
        codes_along_outputs: false,
        scales,
        zeros,
        zero_offset,
        groups,
    };
    Ok((Box::new(layer), used))
}

/// A layer of AWQ in the GEMM layout.
pub(super) fn awq(parts: &Parts<'_>) -> Result<Layer> {
    let codes = parts.need("qweight", &[Dtype::I32])?;
    let scales = parts.need("scales", FLOATS)?;
    let zeros = parts.need("qzeros", &[Dtype::I32])?;
    let rows = codes.columns.checked_mul(8).ok_or(quant_core::Error::TooLarge)?;
    parts.expect("scales", &scales, scales.rows, rows)?;
    parts.expect("qzeros", &zeros, scales.rows, codes.columns)?;
    let layer = Transposed {
        files: Arc::clone(parts.files),
        bits: 4,
        rows,
        columns: codes.rows,
        codes,
        codes_along_outputs: true,
        scales,
        zeros,
        zero_offset: 0,
        groups: parts.even_groups("scales", codes.rows, scales.rows)?,
    };
    Ok((Box::new(layer), vec!["qweight", "scales", "qzeros"]))
}

impl Transposed {
    /// Reads some elements of four bytes or less of a row of a part.
    fn read(&self, part: &Part, row: u64, first: u64, bytes: &mut [u8]) -> gguf_io::Result<()> {
        let size = if part.dtype == Dtype::F16 || part.dtype == Dtype::BF16 { 2 } else { 4 };
        let at = part.offset + (row * part.columns + first) * size;
        match self.files.get(part.file) {
            Some(file) => file.read_exact_at(bytes, at),
            None => Ok(()),
        }
    }

    /// The codes of `rows` outputs in one row of words that go along the outputs.
    fn along_outputs(
        &self,
        part: &Part,
        row: u64,
        first: u64,
        rows: usize,
        (words, out): (&mut Vec<u8>, &mut Vec<u8>),
    ) -> gguf_io::Result<()> {
        let bits = self.bits as usize;
        let first_bit = first.saturating_mul(u64::from(self.bits));
        let skipped = (first_bit % 32) as usize;
        words.resize(4 * (skipped + rows * bits).div_ceil(32), 0);
        self.read(part, row, first_bit / 32, words)?;
        out.clear();
        out.extend((0..rows).map(|i| {
            let place = if self.codes_along_outputs {
                i / 8 * 8 + AWQ_ORDER.get(i % 8).copied().unwrap_or(0)
            } else {
                i
            };
            pack::stream_code(words, skipped + place * bits, self.bits)
        }));
        Ok(())
    }
}

impl Transposed {
    /// The code of an output at a bit of its words, which are a line apart.
    fn straddling(&self, bytes: &[u8], line: usize, output: usize, bit: usize) -> u8 {
        let byte = |at: usize| bytes.get(at / 4 * line + 4 * output + at % 4).copied().unwrap_or(0);
        pack::stream_code(&[byte(bit / 8), byte(bit / 8 + 1)], bit % 8, self.bits)
    }
}

impl Blocks for Transposed {
    fn shape(&self) -> [u64; 2] {
        [self.rows, self.columns]
    }

    fn rows(&self, first: u64, out: &mut [f32]) -> gguf_io::Result<()> {
        let columns = usize::try_from(self.columns).unwrap_or(usize::MAX);
        let rows = out.len() / columns.max(1);
        let (mut bytes, mut words, mut codes) = (Vec::new(), Vec::new(), Vec::new());

        // Scale and zero point of each group and row.
        let (mut scales, mut zeros, mut floats_here) = (Vec::new(), Vec::new(), Vec::new());
        let size = if self.scales.dtype == Dtype::F32 { 4 } else { 2 };
        for group in 0..self.scales.rows {
            bytes.resize(size * rows, 0);
            self.read(&self.scales, group, first, &mut bytes)?;
            floats(self.scales.dtype, &bytes, &mut floats_here);
            scales.extend_from_slice(&floats_here);
            self.along_outputs(&self.zeros, group, first, rows, (&mut words, &mut codes))?;
            zeros.extend(codes.iter().map(|z| f32::from(*z) + f32::from(self.zero_offset)));
        }

        let mut put = |column: usize, codes: &[u8]| {
            let group = self.groups.of(column).saturating_mul(rows);
            let scales = scales.get(group..).unwrap_or_default();
            let zeros = zeros.get(group..).unwrap_or_default();
            let places = out.iter_mut().skip(column).step_by(columns.max(1));
            for (((out, code), scale), zero) in places.zip(codes).zip(scales).zip(zeros) {
                *out = (f32::from(*code) - zero) * scale;
            }
        };
        if self.codes_along_outputs {
            for column in 0..self.columns {
                self.along_outputs(&self.codes, column, first, rows, (&mut words, &mut codes))?;
                put(column as usize, &codes);
            }
            return Ok(());
        }
        let unit = unit(self.bits);
        let per_unit = (32 * unit / u64::from(self.bits.max(1))) as usize;
        let line = 4 * rows;
        for row in (0..self.codes.rows).step_by(unit as usize) {
            // Words of the same output, one below the other.
            bytes.resize(line * unit as usize, 0);
            for (word, bytes) in (row..).zip(bytes.chunks_exact_mut(line.max(1))) {
                self.read(&self.codes, word, first, bytes)?;
            }
            let column = row as usize * 32 / self.bits.max(1) as usize;
            for place in 0..per_unit {
                let bit = place * self.bits as usize;
                codes.clear();
                if unit == 1 {
                    let words = bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word));
                    codes.extend(words.map(|word| pack::code(word, self.bits, place as u32)));
                } else {
                    codes
                        .extend((0..rows).map(|output| self.straddling(&bytes, line, output, bit)));
                }
                put(column + place, &codes);
            }
        }
        Ok(())
    }
}
