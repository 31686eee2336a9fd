//! How values are stored at their source, and how a run of them is read.

use gguf_io::SourceFile;
use half::{bf16, f16};
use quant_core::GgmlType;

use crate::{Result, model::Model};

/// How values are stored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Encoding {
    /// In one of ggml's types.
    Ggml(GgmlType),
    /// In double precision, read as single precision.
    F64,
    /// In eight bits, each value times a scale, read as single precision.
    Coded {
        /// What the eight bits stand for.
        code: Code,
        /// Values in a stored row.
        columns: u64,
        /// The scales; without them codes stand for themselves.
        scales: Option<Scales>,
    },
    /// In four bits with a scale for each 32, kept apart: read as ggml's MXFP4, which has them side
    /// by side.
    Mxfp4 {
        /// The file of the scales.
        file: usize,
        /// Their offset in it.
        offset: u64,
    },
}

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
    /// F32, F16 or BF16.
    pub ty: GgmlType,
    /// Rows of values that share a scale.
    pub rows: u64,
    /// Columns of values that share a scale.
    pub columns: u64,
    /// Scales in a row of them.
    pub per_row: u64,
    /// File and offset of the zero points, one signed byte for each scale; 0 without them.
    pub zeros: Option<(usize, u64)>,
}

/// Values of an MXFP4 block, and the bytes of its codes.
const MXFP4: (u64, u64) = (32, 16);

impl Encoding {
    /// The type in which values are handed on.
    pub fn ty(&self) -> GgmlType {
        match self {
            Self::Ggml(ty) => *ty,
            Self::F64 | Self::Coded { .. } => GgmlType::F32,
            Self::Mxfp4 { .. } => GgmlType::MXFP4,
        }
    }

    /// The name of the stored type.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Coded { code: Code::E4M3, .. } => "F8_E4M3",
            Self::Coded { code: Code::E5M2, .. } => "F8_E5M2",
            Self::Coded { code: Code::Int8, .. } => "INT8",
            Self::F64 => "F64",
            _ => self.ty().name(),
        }
    }

    /// Bytes of a unit at the source. A unit is a value, or a block of them.
    pub(crate) fn stored_bytes(&self) -> u64 {
        match self {
            Self::Ggml(ty) => ty.block_bytes() as u64,
            Self::F64 => 8,
            Self::Coded { .. } => 1,
            Self::Mxfp4 { .. } => MXFP4.1 + 1,
        }
    }

    /// Bytes of a unit where it is handed on.
    pub(crate) fn unit_bytes(&self) -> usize {
        self.ty().block_bytes()
    }

    /// Reads the units from `first` on, of those whose data begins at `offset` of a file, until
    /// `out` is full.
    pub(crate) fn read(
        &self,
        model: &Model,
        (file, offset): (usize, u64),
        first: u64,
        out: &mut [u8],
    ) -> Result<()> {
        let source = source(model, file)?;
        match self {
            Self::Ggml(ty) => {
                let at = place(offset, first, ty.block_bytes() as u64)?;
                source.read_exact_at(out, at)?;
            }
            Self::F64 => {
                let mut stored = vec![0; out.len().saturating_mul(2)];
                source.read_exact_at(&mut stored, place(offset, first, 8)?)?;
                for (out, value) in out.chunks_exact_mut(4).zip(stored.as_chunks::<8>().0) {
                    out.copy_from_slice(&(f64::from_le_bytes(*value) as f32).to_le_bytes());
                }
            }
            Self::Coded { code, columns, scales } => {
                let mut stored = vec![0; out.len() / 4];
                source.read_exact_at(&mut stored, place(offset, first, 1)?)?;
                let table = code.values();
                let value = |code: u8| table.get(usize::from(code)).copied().unwrap_or(f32::NAN);
                match scales {
                    None => {
                        for (out, code) in out.chunks_exact_mut(4).zip(&stored) {
                            out.copy_from_slice(&value(*code).to_le_bytes());
                        }
                    }
                    Some(scales) => {
                        scales.apply(model, first, *columns, &stored, value, out)?;
                    }
                }
            }
            Self::Mxfp4 { file, offset: scales_at } => {
                let units = out.len() / 17;
                let mut codes = vec![0; units.saturating_mul(16)];
                source.read_exact_at(&mut codes, place(offset, first, MXFP4.1)?)?;
                let mut scales = vec![0; units];
                let scales_at = place(*scales_at, first, 1)?;
                self::source(model, *file)?.read_exact_at(&mut scales, scales_at)?;
                let blocks = codes.as_chunks::<16>().0.iter().zip(&scales);
                for (out, (codes, scale)) in out.as_chunks_mut::<17>().0.iter_mut().zip(blocks) {
                    *out = mxfp4_block(codes, *scale);
                }
            }
        }
        Ok(())
    }
}

fn source(model: &Model, file: usize) -> Result<&SourceFile> {
    Ok(model.files.get(file).ok_or(quant_core::Error::TooLarge)?)
}

fn place(offset: u64, first: u64, bytes: u64) -> Result<u64> {
    let distance = first.checked_mul(bytes).ok_or(quant_core::Error::TooLarge)?;
    Ok(offset.checked_add(distance).ok_or(quant_core::Error::TooLarge)?)
}

/// The block ggml makes of 32 values: their scale, then the first half of them in the low four
/// bits of each byte and the second in the high ones, where the source has neighbours together.
fn mxfp4_block(codes: &[u8; 16], scale: u8) -> [u8; 17] {
    let code = |i: usize| codes.get(i / 2).map_or(0, |pair| (pair >> (4 * (i % 2))) & 15);
    let mut block = [scale; 17];
    for (i, byte) in block.iter_mut().skip(1).enumerate() {
        *byte = code(i) | (code(i + 16) << 4);
    }
    block
}

impl Code {
    /// The value of each code.
    fn values(self) -> [f32; 256] {
        std::array::from_fn(|code| self.value(u8::try_from(code).unwrap_or_default()))
    }

    fn value(self, code: u8) -> f32 {
        match self {
            Self::Int8 => f32::from(code as i8),
            // The first eight bits of a half-precision number.
            Self::E5M2 => f16::from_bits(u16::from(code) << 8).to_f32(),
            Self::E4M3 if code & 0x7f == 0x7f => f32::NAN,
            Self::E4M3 => {
                let (exponent, mantissa) = (i32::from((code >> 3) & 15), f32::from(code & 7));
                let magnitude = match exponent {
                    0 => mantissa * 2f32.powi(-9),
                    _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
                };
                if code & 0x80 == 0 { magnitude } else { -magnitude }
            }
        }
    }
}

impl Scales {
    /// Scales the values from `first` on, rows of `columns` values.
    fn apply(
        &self,
        model: &Model,
        first: u64,
        columns: u64,
        codes: &[u8],
        value: impl Fn(u8) -> f32,
        out: &mut [u8],
    ) -> Result<()> {
        let columns = columns.max(1);
        let (mut scales, mut zeros) = (Vec::new(), Vec::new());
        let mut held = None;
        let (mut at, mut codes, mut out) = (first, codes, out);
        while !codes.is_empty() {
            let (row, column) = (at / columns, at % columns);
            let here = usize::try_from(columns - column).unwrap_or(usize::MAX).min(codes.len());
            let scale_row = row / self.rows.max(1);
            if held != Some(scale_row) {
                self.read_row(model, scale_row, &mut scales)?;
                self.read_zeros(model, scale_row, &mut zeros)?;
                held = Some(scale_row);
            }
            let (now, later) = codes.split_at(here);
            let (to, rest) = out.split_at_mut(here.saturating_mul(4).min(out.len()));
            for ((column, code), out) in (column..).zip(now).zip(to.chunks_exact_mut(4)) {
                let index = usize::try_from(column / self.columns.max(1)).unwrap_or(usize::MAX);
                let scale = scales.get(index).copied().unwrap_or(f32::NAN);
                // Not subtracted where there are none: −0 is a value of its own.
                let value = match zeros.get(index) {
                    Some(zero) => value(*code) - f32::from(*zero as i8),
                    None => value(*code),
                };
                out.copy_from_slice(&(value * scale).to_le_bytes());
            }
            at = at.saturating_add(here as u64);
            (codes, out) = (later, rest);
        }
        Ok(())
    }

    fn read_row(&self, model: &Model, row: u64, scales: &mut Vec<f32>) -> Result<()> {
        let size = self.ty.block_bytes();
        let count = usize::try_from(self.per_row).map_err(|_| quant_core::Error::TooLarge)?;
        let mut bytes = vec![0; count.checked_mul(size).ok_or(quant_core::Error::TooLarge)?];
        let first = row.checked_mul(self.per_row).ok_or(quant_core::Error::TooLarge)?;
        let at = place(self.offset, first, size as u64)?;
        source(model, self.file)?.read_exact_at(&mut bytes, at)?;
        scales.clear();
        match self.ty {
            GgmlType::F16 => {
                scales.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()));
            }
            GgmlType::BF16 => {
                scales.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()));
            }
            _ => scales.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        }
        Ok(())
    }

    fn read_zeros(&self, model: &Model, row: u64, zeros: &mut Vec<u8>) -> Result<()> {
        let Some((file, offset)) = self.zeros else { return Ok(()) };
        let count = usize::try_from(self.per_row).map_err(|_| quant_core::Error::TooLarge)?;
        zeros.resize(count, 0);
        let at = place(offset, row, self.per_row)?;
        Ok(source(model, file)?.read_exact_at(zeros, at)?)
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

    #[test]
    fn mxfp4_codes_are_dealt_to_two_halves() {
        // Neighbours 0, 1 | 2, 3 | … become 0, 16 | 1, 17 | …
        let code = |i: usize| (i % 16) as u8;
        let codes: [u8; 16] = std::array::from_fn(|i| code(2 * i) | (code(2 * i + 1) << 4));
        let block = mxfp4_block(&codes, 99);
        assert_eq!(block[0], 99);
        for (i, byte) in block[1..].iter().enumerate() {
            assert_eq!((byte & 15, byte >> 4), (i as u8 % 16, i as u8 % 16));
        }
    }
}
