//! How values are stored at their source, and how a run of them is read.

use std::{ops::Range, sync::Arc};

use gguf_io::SourceFile;
use half::{bf16, f16};
use quant_core::GgmlType;

use crate::{CodeBlock, Nvfp4, Offset, Packed, Result, codes::BLOCK, nvfp4};

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
    /// In four bits with a scale for each 16, kept apart: read as ggml's NVFP4. What else values are
    /// multiplied with is not part of the blocks.
    Nvfp4(Nvfp4),
    /// In codes that are packed in words, read as single precision. Its place is that of the codes.
    Packed(Arc<Packed>),
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
    /// What values are multiplied with besides.
    pub factor: f32,
}

/// Values of an MXFP4 block, and the bytes of its codes.
const MXFP4: (u64, u64) = (32, 16);

/// Where the data of a tensor begins: the number of the file, and the offset in it.
pub(crate) type Place = (usize, u64);

/// Buffers for what is read on the way to values.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    codes: Vec<u8>,
    bytes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<u8>,
}

impl Encoding {
    /// The type in which values are handed on.
    pub fn ty(&self) -> GgmlType {
        match self {
            Self::Ggml(ty) => *ty,
            Self::F64 | Self::Coded { .. } | Self::Packed(_) => GgmlType::F32,
            Self::Mxfp4 { .. } => GgmlType::MXFP4,
            Self::Nvfp4(_) => GgmlType::NVFP4,
        }
    }

    /// The name of the stored type.
    pub fn name(&self) -> &str {
        match self {
            Self::Coded { code: Code::E4M3, .. } => "F8_E4M3",
            Self::Coded { code: Code::E5M2, .. } => "F8_E5M2",
            Self::Coded { code: Code::Int8, .. } => "INT8",
            Self::F64 => "F64",
            Self::Packed(packed) => packed.name(),
            _ => self.ty().name(),
        }
    }

    /// Bytes that so many units take at the source. A unit is a value, or a block of them.
    pub(crate) fn stored_bytes(&self, units: u64) -> u64 {
        let unit = match self {
            Self::Ggml(ty) => ty.block_bytes() as u64,
            Self::F64 => 8,
            Self::Coded { .. } => 1,
            Self::Mxfp4 { .. } => MXFP4.1 + 1,
            Self::Nvfp4(_) => nvfp4::BLOCK.1 + nvfp4::BLOCK.2,
            Self::Packed(packed) => {
                let all: u128 = packed.shape().into_iter().map(u128::from).product();
                let share = u128::from(packed.bytes()).saturating_mul(units.into()) / all.max(1);
                return u64::try_from(share).unwrap_or(u64::MAX);
            }
        };
        units.saturating_mul(unit)
    }

    /// Files and ranges that units are read from, of those whose data begins at `place`: for the order
    /// in which they are read, scales come first.
    pub(crate) fn extents(
        &self,
        (file, offset): Place,
        units: &Range<u64>,
    ) -> Vec<(usize, Range<u64>)> {
        let run = |(file, offset): Place, size: u64| {
            let at = |unit: u64| offset.saturating_add(unit.saturating_mul(size));
            (file, at(units.start)..at(units.end))
        };
        match self {
            Self::Ggml(ty) => vec![run((file, offset), ty.block_bytes() as u64)],
            Self::F64 => vec![run((file, offset), 8)],
            Self::Coded { columns, scales, .. } => {
                let mut extents = Vec::with_capacity(3);
                if let Some(scales) = scales {
                    let row = |unit: u64| unit / (*columns).max(1) / scales.rows.max(1);
                    let rows = row(units.start)..row(units.end.saturating_sub(1)).saturating_add(1);
                    let part = |(file, offset): Place, size: u64| {
                        let row = scales.per_row.saturating_mul(size);
                        let at = |n: u64| offset.saturating_add(n.saturating_mul(row));
                        (file, at(rows.start)..at(rows.end))
                    };
                    let size = scales.ty.block_bytes() as u64;
                    extents.push(part((scales.file, scales.offset), size));
                    extents.extend(scales.zeros.map(|place| part(place, 1)));
                }
                extents.push(run((file, offset), 1));
                extents
            }
            Self::Mxfp4 { file: other, offset: scales } => {
                vec![run((*other, *scales), 1), run((file, offset), MXFP4.1)]
            }
            Self::Nvfp4(nvfp4) => vec![
                run((nvfp4.file, nvfp4.offset), nvfp4::BLOCK.2),
                run((file, offset), nvfp4::BLOCK.1),
            ],
            Self::Packed(packed) => packed.extents().to_vec(),
        }
    }

    /// Values of a unit.
    pub(crate) fn unit_len(&self) -> u64 {
        self.ty().block_len() as u64
    }

    /// Whether what is read are blocks of [`ty`](Self::ty); else it is values.
    pub(crate) fn has_blocks(&self) -> bool {
        matches!(self, Self::Ggml(_) | Self::Mxfp4 { .. } | Self::Nvfp4(_))
    }

    /// Reads the blocks from `first` on, of those whose data begins at `place`, until `out` is full.
    pub(crate) fn read_blocks(
        &self,
        files: &[SourceFile],
        place: Place,
        first: u64,
        out: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let ty = self.ty();
        match self {
            Self::Mxfp4 { file, offset } => {
                let (blocks, _) = out.as_chunks_mut::<17>();
                let Scratch { codes, bytes: scales, .. } = scratch;
                codes.resize(blocks.len().saturating_mul(16), 0);
                read(files, place, first, MXFP4.1, codes)?;
                scales.resize(blocks.len(), 0);
                read(files, (*file, *offset), first, 1, scales)?;
                let stored = codes.as_chunks::<16>().0.iter().zip(scales);
                for (out, (codes, scale)) in blocks.iter_mut().zip(stored) {
                    *out = mxfp4_block(codes, *scale);
                }
                Ok(())
            }
            Self::Nvfp4(Nvfp4 { file, offset, .. }) => {
                let (_, code_bytes, scale_bytes) = nvfp4::BLOCK;
                let size = ty.block_bytes().max(1);
                let Scratch { codes, bytes: scales, .. } = scratch;
                codes.resize(out.len() / size * code_bytes as usize, 0);
                read(files, place, first, code_bytes, codes)?;
                scales.resize(out.len() / size * scale_bytes as usize, 0);
                read(files, (*file, *offset), first, scale_bytes, scales)?;
                let stored = codes.as_chunks().0.iter().zip(scales.as_chunks().0);
                for (out, (codes, scales)) in out.chunks_exact_mut(size).zip(stored) {
                    nvfp4::block(codes, scales, out);
                }
                Ok(())
            }
            _ => read(files, place, first, ty.block_bytes() as u64, out),
        }
    }

    /// Reads the values from `first` on, of those whose data begins at `place`, until `out` is
    /// full.
    pub(crate) fn read_values(
        &self,
        files: &[SourceFile],
        place: Place,
        first: u64,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Scratch { codes, .. } = scratch;
        match self {
            Self::F64 => {
                codes.resize(out.len().saturating_mul(8), 0);
                read(files, place, first, 8, codes)?;
                for (out, value) in out.iter_mut().zip(codes.as_chunks().0) {
                    *out = f64::from_le_bytes(*value) as f32;
                }
            }
            Self::Coded { code, columns, scales } => {
                codes.resize(out.len(), 0);
                read(files, place, first, 1, codes)?;
                let table = code.values();
                match scales {
                    None => out.iter_mut().zip(codes).for_each(|(out, code)| {
                        *out = value(table, *code);
                    }),
                    Some(scales) => scales.apply(files, first, *columns, table, out, scratch)?,
                }
            }
            Self::Ggml(_) | Self::Mxfp4 { .. } | Self::Nvfp4(_) | Self::Packed(_) => {
                let (ty, operation) = (self.ty(), "read in runs of values");
                return Err(quant_core::Error::Unsupported { ty, operation }.into());
            }
        }
        Ok(())
    }
}

/// Fills `out` with units of so many bytes, from the one numbered `first` on.
fn read(
    files: &[SourceFile],
    (file, offset): Place,
    first: u64,
    unit: u64,
    out: &mut [u8],
) -> Result<()> {
    let too_large = quant_core::Error::TooLarge;
    let file = files.get(file).ok_or_else(|| too_large.clone())?;
    let at = first.checked_mul(unit).and_then(|distance| offset.checked_add(distance));
    Ok(file.read_exact_at(out, at.ok_or(too_large)?)?)
}

/// Adds half, bfloat16 or single-precision bytes to values.
pub(crate) fn floats(ty: GgmlType, bytes: &[u8], out: &mut Vec<f32>) {
    match ty {
        GgmlType::F16 => {
            out.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()));
        }
        GgmlType::BF16 => {
            out.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()));
        }
        _ => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
    }
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

/// The value of each code.
type Table = [f32; 256];

fn value(table: &Table, code: u8) -> f32 {
    table.get(usize::from(code)).copied().unwrap_or(f32::NAN)
}

impl Code {
    fn values(self) -> &'static Table {
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
    fn apply(
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
