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
const AWQ_ORDER: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Where in a word of GPTQ's zero points each code is: one after the other.
const IN_ORDER: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

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
    /// Places of codes in words that go along the outputs.
    order: &'static [u32],
    /// The group of each input.
    groups: Groups,
}

/// A layer of GPTQ.
pub(super) fn gptq(parts: &Parts<'_>, bits: u32, zero_offset: u8) -> Result<Layer> {
    let per_word = pack::per_word(bits)? as u64;
    let codes = parts.need("qweight", &[Dtype::I32])?;
    let scales = parts.need("scales", FLOATS)?;
    let zeros = parts.need("qzeros", &[Dtype::I32])?;
    let rows = codes.columns;
    let columns = codes.rows.checked_mul(per_word).ok_or(quant_core::Error::TooLarge)?;
    parts.expect("scales", &scales, scales.rows, rows)?;
    parts.expect("qzeros", &zeros, scales.rows, rows.div_ceil(per_word))?;
    let mut used = vec!["qweight", "scales", "qzeros"];
    let groups = match parts.find("g_idx", &[Dtype::I32])? {
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
        order: IN_ORDER.get(..per_word as usize).unwrap_or_default(),
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
        order: &AWQ_ORDER,
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
        let per_word = self.order.len().max(1);
        words.resize(4 * rows.div_ceil(per_word), 0);
        self.read(part, row, first / per_word as u64, words)?;
        out.clear();
        for word in words.as_chunks().0 {
            let word = u32::from_le_bytes(*word);
            out.extend(self.order.iter().map(|place| pack::code(word, self.bits, *place)));
        }
        out.truncate(rows);
        Ok(())
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
        let per_word = u64::from(32 / self.bits.max(1));
        for row in 0..self.codes.rows {
            bytes.resize(4 * rows, 0);
            self.read(&self.codes, row, first, &mut bytes)?;
            for place in 0..per_word {
                codes.clear();
                let words = bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word));
                codes.extend(words.map(|word| pack::code(word, self.bits, place as u32)));
                put((row * per_word + place) as usize, &codes);
            }
        }
        Ok(())
    }
}
