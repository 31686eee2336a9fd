//! Codes of eight bits, and the scales that they are multiplied with.

use gguf_io::SourceFile;
use half::f16;
use quant_core::GgmlType;

use crate::{
    Result,
    code_block::{BLOCK, CodeBlock, Offset},
    stored::{Place, Scratch, floats, read},
};

/// Kinds of numbers of eight bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// A float with four bits of exponent, no infinities.
    E4M3,
    /// A float with five bits of exponent.
    E5M2,
    /// A whole number from -128 to 127.
    Int8,
}

/// A matrix of scales, each for a rectangle of values: a value is `(code − zero point) · scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scales {
    /// The file they are in.
    pub file: usize,
    /// Their offset in it.
    pub offset: u64,
    /// F32, F16 or BF16; I8 stands for exponents of two (E8M0), a byte each.
    pub ty: GgmlType,
    /// Rows of values that share a scale.
    pub rows: u64,
    /// Columns of values that share a scale.
    pub columns: u64,
    /// Scales in a row of them.
    pub per_row: u64,
    /// File and offset of the zero points, one signed byte for each scale; 0 without them.
    pub zeros: Option<(usize, u64)>,
    /// What values are multiplied with besides.
    pub factor: f32,
}

/// The value of each code.
pub(crate) type Table = [f32; 256];

pub(crate) fn value(table: &Table, code: u8) -> f32 {
    table.get(usize::from(code)).copied().unwrap_or(f32::NAN)
}

impl Code {
    pub(crate) fn values(self) -> &'static Table {
        static E4M3: Table = Code::E4M3.table();
        static E5M2: Table = Code::E5M2.table();
        static INT8: Table = Code::Int8.table();
        match self {
            Self::E4M3 => &E4M3,
            Self::E5M2 => &E5M2,
            Self::Int8 => &INT8,
        }
    }

    const fn table(self) -> Table {
        let mut table = [0.0; 256];
        let mut code = 0;
        while code < table.len() {
            table[code] = self.value(code as u8);
            code += 1;
        }
        table
    }

    const fn value(self, code: u8) -> f32 {
        let bits = code as u16;
        match self {
            Self::Int8 => code as i8 as f32,
            // The first eight bits of a half-precision number.
            Self::E5M2 => f16::from_bits(bits << 8).to_f32_const(),
            Self::E4M3 if code & 0x7f == 0x7f => f32::NAN,
            // Those of a half-precision number with one bit less of exponent, which is 8 less.
            Self::E4M3 => {
                f16::from_bits((bits & 0x80) << 8 | (bits & 0x7f) << 7).to_f32_const() * 256.0
            }
        }
    }
}

impl Scales {
    /// Scales the codes from `first` on, rows of `columns` of them.
    pub(crate) fn apply(
        &self,
        files: &[SourceFile],
        first: u64,
        columns: u64,
        table: &Table,
        mut out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let columns = columns.max(1);
        let Scratch { codes, bytes, scales, zeros } = scratch;
        let mut held = None;
        let (mut at, mut codes) = (first, &codes[..]);
        while !codes.is_empty() {
            let (row, column) = (at / columns, at % columns);
            let here = usize::try_from(columns - column).unwrap_or(usize::MAX).min(codes.len());
            let scale_row = row / self.rows.max(1);
            if held != Some(scale_row) {
                self.read_row(files, scale_row, (bytes, scales, zeros))?;
                held = Some(scale_row);
            }
            let (now, later) = codes.split_at(here);
            let (to, rest) = out.split_at_mut(here.min(out.len()));
            for ((column, code), out) in (column..).zip(now).zip(to) {
                let index = usize::try_from(column / self.columns.max(1)).unwrap_or(usize::MAX);
                let scale = scales.get(index).copied().unwrap_or(f32::NAN);
                // Not subtracted where there are none: −0 is a value of its own.
                let value = match zeros.get(index) {
                    Some(zero) => value(table, *code) - f32::from(*zero as i8),
                    None => value(table, *code),
                };
                *out = value * scale * self.factor;
            }
            at = at.saturating_add(here as u64);
            (codes, out) = (later, rest);
        }
        Ok(())
    }

    /// Reads blocks of eight-bit codes from the value `first` on, of those whose data begins at
    /// `place`, in rows of `columns`, which are whole blocks.
    pub(crate) fn code_blocks(
        &self,
        files: &[SourceFile],
        (place, first, columns): (Place, u64, u64),
        out: &mut [CodeBlock],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let columns = columns.max(1);
        let Scratch { codes, bytes, scales, zeros } = scratch;
        codes.resize(out.len().saturating_mul(BLOCK as usize), 0);
        read(files, place, first, 1, codes)?;
        let mut held = None;
        let blocks = codes.as_chunks().0.iter().zip(out);
        for (at, (codes, block)) in (first..).step_by(BLOCK as usize).zip(blocks) {
            let (row, column) = (at / columns, at % columns);
            let scale_row = row / self.rows.max(1);
            if held != Some(scale_row) {
                self.read_row(files, scale_row, (bytes, scales, zeros))?;
                held = Some(scale_row);
            }
            // From codes around zero to codes around 128.
            block.codes = codes.map(|code| code ^ 0x80);
            let index = usize::try_from(column / self.columns.max(1)).unwrap_or(usize::MAX);
            block.scale = scales.get(index).copied().unwrap_or(f32::NAN);
            let zero = zeros.get(index).map_or(0.0, |zero| f32::from(*zero as i8));
            block.offset = Offset::Zero(128.0 + zero);
            block.is_first =
                column.is_multiple_of(self.columns.max(1)) && row.is_multiple_of(self.rows.max(1));
        }
        Ok(())
    }

    /// Reads a row of scales, and of zero points where there are any.
    fn read_row(
        &self,
        files: &[SourceFile],
        row: u64,
        (bytes, scales, zeros): (&mut Vec<u8>, &mut Vec<f32>, &mut Vec<u8>),
    ) -> Result<()> {
        let too_large = quant_core::Error::TooLarge;
        let size = self.ty.block_bytes() as u64;
        let row_bytes = self.per_row.checked_mul(size).ok_or_else(|| too_large.clone())?;
        bytes.resize(usize::try_from(row_bytes).map_err(|_| too_large.clone())?, 0);
        read(files, (self.file, self.offset), row, row_bytes, bytes)?;
        scales.clear();
        floats(self.ty, bytes, scales);
        zeros.clear();
        if let Some(place) = self.zeros {
            zeros.resize(usize::try_from(self.per_row).map_err(|_| too_large)?, 0);
            read(files, place, row, self.per_row, zeros)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_has_the_values_of_its_definition() {
        for (code, expected) in [
            (0x00, 0.0),
            (0x01, 2f32.powi(-9)),
            (0x07, 7.0 * 2f32.powi(-9)),
            (0x08, 2f32.powi(-6)),
            (0x38, 1.0),
            (0x3c, 1.5),
            (0x7e, 448.0),
            (0xfe, -448.0),
            (0xb8, -1.0),
        ] {
            assert_eq!(Code::E4M3.value(code), expected, "{code:#x}");
        }
        assert!(Code::E4M3.value(0x7f).is_nan() && Code::E4M3.value(0xff).is_nan());
        assert_eq!(Code::E5M2.value(0x3c), 1.0);
        assert_eq!(Code::E5M2.value(0x7b), 57344.0);
        assert!(Code::E5M2.value(0x7c).is_infinite());
        assert_eq!((Code::Int8.value(0x80), Code::Int8.value(0xff)), (-128.0, -1.0));
    }
}
