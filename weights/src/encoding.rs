//! How values are stored at their source, and how a run of them is read.

use std::{ops::Range, sync::Arc};

use gguf_io::SourceFile;
use quant_core::GgmlType;

use crate::{
    Nvfp4, Packed, Result,
    coded::{Code, Scales, value},
    nvfp4,
    stored::{Place, Scratch, read},
};

/// How values are stored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Encoding {
    /// In one of ggml's types.
    Ggml(GgmlType),
    /// In double precision, read as single precision.
    F64,
    /// In whole numbers of 64 bits, handed on as such of 32.
    I64,
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
    /// Nowhere: zeros of one of ggml's types.
    Zeros(GgmlType),
    /// In codes that are packed in words, read as single precision. Its place is that of the codes.
    Packed(Arc<Packed>),
}

/// Values of an MXFP4 block, and the bytes of its codes.
const MXFP4: (u64, u64) = (32, 16);

impl Encoding {
    /// The type in which values are handed on.
    pub fn ty(&self) -> GgmlType {
        match self {
            Self::Ggml(ty) | Self::Zeros(ty) => *ty,
            Self::I64 => GgmlType::I32,
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
            Self::I64 => "I64",
            Self::Packed(packed) => packed.name(),
            _ => self.ty().name(),
        }
    }

    /// Bytes that so many units take at the source. A unit is a value, or a block of them.
    pub(crate) fn stored_bytes(&self, units: u64) -> u64 {
        let unit = match self {
            Self::Ggml(ty) => ty.block_bytes() as u64,
            Self::Zeros(_) => 0,
            Self::F64 | Self::I64 => 8,
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
            Self::F64 | Self::I64 => vec![run((file, offset), 8)],
            Self::Zeros(_) => Vec::new(),
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
            Self::Nvfp4(Nvfp4 { file: other, offset: scales, .. }) => {
                let (_, code_bytes, scale_bytes) = nvfp4::BLOCK;
                vec![run((*other, *scales), scale_bytes), run((file, offset), code_bytes)]
            }
            Self::Packed(packed) => packed.extents().to_vec(),
        }
    }

    /// Values of a unit.
    pub(crate) fn unit_len(&self) -> u64 {
        self.ty().block_len() as u64
    }

    /// Whether what is read are blocks of [`ty`](Self::ty); else it is values.
    pub(crate) fn has_blocks(&self) -> bool {
        matches!(
            self,
            Self::Ggml(_) | Self::I64 | Self::Zeros(_) | Self::Mxfp4 { .. } | Self::Nvfp4(_)
        )
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
            Self::Zeros(_) => {
                out.fill(0);
                Ok(())
            }
            Self::I64 => {
                let (numbers, _) = out.as_chunks_mut::<4>();
                let codes = &mut scratch.codes;
                codes.resize(numbers.len().saturating_mul(8), 0);
                read(files, place, first, 8, codes)?;
                for (out, stored) in numbers.iter_mut().zip(codes.as_chunks().0) {
                    let number = i32::try_from(i64::from_le_bytes(*stored));
                    *out = number.map_err(|_| quant_core::Error::TooLarge)?.to_le_bytes();
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
            Self::Ggml(_)
            | Self::I64
            | Self::Zeros(_)
            | Self::Mxfp4 { .. }
            | Self::Nvfp4(_)
            | Self::Packed(_) => {
                let (ty, operation) = (self.ty(), "read in runs of values");
                return Err(quant_core::Error::Unsupported { ty, operation }.into());
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

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
