//! Whether stored values are finite, told from their bits without restoring them: a block's values
//! are finite if its scales are, so only those are looked at.

use gguf_io::Dtype;
use quant_core::{
    BlockFloat::{self, Half, Quarters, Single},
    GgmlType,
};

/// The largest half-precision number.
pub const LARGEST_HALF: f32 = 65504.0;

/// What the scales of a range of blocks are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scales {
    /// Whether all are finite.
    pub finite: bool,
    /// Whether there are blocks all of whose scales are zero.
    pub zero: bool,
}

/// How a range of bytes holds values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Floats of two bytes; the exponent's bits.
    Two(u16),
    /// Floats of four bytes.
    Four,
    /// Floats of eight bytes.
    Eight,
    /// Floats of one byte: sign aside, codes from this one on are not finite.
    One(u8),
    /// Blocks of this size with scales.
    Blocks(usize, &'static [BlockFloat]),
    /// Every code is a number.
    Any(usize),
}

impl From<GgmlType> for Stored {
    fn from(ty: GgmlType) -> Self {
        match ty {
            GgmlType::F32 => Self::Four,
            GgmlType::F16 => Self::Two(0x7c00),
            GgmlType::BF16 => Self::Two(0x7f80),
            GgmlType::F64 => Self::Eight,
            _ if ty.floats().is_empty() => Self::Any(ty.block_bytes()),
            _ => Self::Blocks(ty.block_bytes(), ty.floats()),
        }
    }
}

impl From<Dtype> for Stored {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F64 => Self::Eight,
            Dtype::F32 | Dtype::C64 => Self::Four,
            Dtype::F16 => Self::Two(0x7c00),
            Dtype::BF16 => Self::Two(0x7f80),
            Dtype::F8E4M3 => Self::One(0x7f),
            Dtype::F8E5M2 => Self::One(0x7c),
            _ => Self::Any(1),
        }
    }
}

impl Stored {
    /// Bytes of a value or block.
    pub fn unit(self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two(_) => 2,
            Self::Four => 4,
            Self::Eight => 8,
            Self::Blocks(bytes, _) | Self::Any(bytes) => bytes.max(1),
        }
    }

    /// Whether there is anything to look for.
    pub fn is_checked(self) -> bool {
        !matches!(self, Self::Any(_))
    }

    /// What a [unit](Self::unit) is called.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Blocks(..) => "block",
            _ => "value",
        }
    }

    /// What the scales of blocks are like; those of other values are neither zero nor infinite.
    ///
    /// Every block that is written is looked at, so that the loops have no way out and are short.
    pub fn scales(self, bytes: &[u8]) -> Scales {
        let Self::Blocks(size, scales) = self else {
            return Scales { finite: true, zero: false };
        };
        let blocks = bytes.chunks_exact(size.max(1));
        // Signs aside, halves are in the order of their bits.
        let halves = |bits: fn(&[u8], usize, usize) -> (u16, u16), first, second| {
            let (most, least) = blocks.clone().fold((0, u16::MAX), |(most, least), block| {
                let (larger, either) = bits(block, first, second);
                (larger.max(most), either.min(least))
            });
            Scales { finite: most < 0x7c00, zero: least == 0 }
        };
        match *scales {
            [Half(at)] => halves(
                |block, at, _| {
                    let bits = half(block, at) & 0x7fff;
                    (bits, bits)
                },
                at,
                at,
            ),
            [Half(first), Half(second)] => halves(
                |block, first, second| {
                    let (a, b) = (half(block, first) & 0x7fff, half(block, second) & 0x7fff);
                    (a.max(b), a | b)
                },
                first,
                second,
            ),
            _ => Scales {
                finite: blocks.clone().all(|b| scales.iter().all(|scale| is_finite(*scale, b))),
                zero: blocks.clone().any(|b| self.is_zero(b)),
            },
        }
    }

    /// Whether all values of a block are zero because its scales are.
    pub fn is_zero(self, block: &[u8]) -> bool {
        match self {
            Self::Blocks(_, scales) => scales.iter().all(|scale| scale.value(block) == 0.0),
            _ => false,
        }
    }

    /// Whether any value is not zero; true of codes that are not looked at.
    pub fn has_value(self, bytes: &[u8]) -> bool {
        match self {
            Self::Any(_) => true,
            Self::One(_) => bytes.iter().any(|b| b & 0x7f != 0),
            // Little-endian: the sign is in the last byte.
            Self::Two(_) | Self::Four | Self::Eight => {
                let is_zero = |value: &[u8]| {
                    value.split_last().is_none_or(|(last, rest)| {
                        last & 0x7f == 0 && rest.iter().all(|byte| *byte == 0)
                    })
                };
                bytes.chunks_exact(self.unit()).any(|value| !is_zero(value))
            }
            // No power of two is zero; codes of four bits are, whatever their sign.
            Self::Blocks(size, &[BlockFloat::Exponent(at)]) => {
                let is_code = |&(i, code): &(usize, &u8)| i != at && code & 0x77 != 0;
                let has = |block: &[u8]| block.iter().enumerate().any(|code| is_code(&code));
                bytes.chunks_exact(size.max(1)).any(has)
            }
            Self::Blocks(size, _) => {
                bytes.chunks_exact(size.max(1)).any(|block| !self.is_zero(block))
            }
        }
    }

    /// Whether blocks have scales that are at most [`LARGEST_HALF`].
    pub fn is_scaled_by_halves(self) -> bool {
        let Self::Blocks(_, scales) = self else { return false };
        scales.iter().any(|scale| matches!(scale, Half(_) | Quarters(_)))
    }

    /// The first unit that is not finite and how many there are.
    pub fn find(self, bytes: &[u8]) -> Option<(u64, u64)> {
        match self {
            Self::Any(_) => None,
            // Loops without a way out are vectorised: first whether there is one, then which.
            Self::Two(exponent) => {
                let (values, _) = bytes.as_chunks();
                let bits = |b: &[u8; 2]| u16::from_le_bytes(*b) & 0x7fff;
                let most = values.iter().map(bits).fold(0, u16::max);
                if most < exponent { None } else { first(values, |b| bits(b) >= exponent) }
            }
            Self::Four => {
                let (values, _) = bytes.as_chunks();
                let bits = |b: &[u8; 4]| u32::from_le_bytes(*b) & 0x7fff_ffff;
                let most = values.iter().map(bits).fold(0, u32::max);
                if most < 0x7f80_0000 { None } else { first(values, |b| bits(b) >= 0x7f80_0000) }
            }
            Self::Eight => {
                let (values, _) = bytes.as_chunks();
                first(values, |b: &[u8; 8]| !f64::from_le_bytes(*b).is_finite())
            }
            Self::One(least) => {
                let most = bytes.iter().map(|b| b & 0x7f).fold(0, u8::max);
                if most < least { None } else { first(bytes, |b| b & 0x7f >= least) }
            }
            Self::Blocks(size, scales) => {
                let blocks = bytes.chunks_exact(size.max(1));
                let bad = |block: &[u8]| scales.iter().any(|scale| !is_finite(*scale, block));
                let mut found = None;
                for (i, _) in (0u64..).zip(blocks).filter(|(_, block)| bad(block)) {
                    let (_, count) = found.get_or_insert((i, 0));
                    *count += 1;
                }
                found
            }
        }
    }
}

fn first<T>(units: &[T], bad: impl Fn(&T) -> bool) -> Option<(u64, u64)> {
    let index = units.iter().position(&bad)?;
    let rest = units.get(index..).unwrap_or_default();
    Some((index as u64, rest.iter().filter(|unit| bad(unit)).count() as u64))
}

#[inline(always)]
fn is_finite(scale: BlockFloat, block: &[u8]) -> bool {
    match scale {
        Half(at) => half(block, at) & 0x7c00 != 0x7c00,
        // Multiplied with a code of up to 127 it has to stay finite.
        Single(_) => (scale.value(block) * 128.0).is_finite(),
        _ => scale.value(block).is_finite(),
    }
}

/// Two bytes of a block; what is not there is not finite.
#[inline(always)]
fn half(block: &[u8], at: usize) -> u16 {
    block.get(at..).and_then(|b| b.first_chunk()).map_or(u16::MAX, |b| u16::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quant_core::{can_dequantize, can_quantize, dequantize, quantize};

    /// A block is called finite exactly if all its values are, whatever else is in it.
    #[test]
    fn scales_decide_over_values() {
        let halves = [0u16, 0x3c00, 0x7bff, 0x7c00, 0x7c01, 0xfc00, 0xfbff, 0x8000];
        for &ty in GgmlType::ALL.iter().filter(|ty| can_dequantize(**ty)) {
            let Stored::Blocks(size, scales) = Stored::from(ty) else { continue };
            if scales.iter().any(|scale| !matches!(scale, Half(_))) {
                continue;
            }
            for fill in [0x55u8, 0xff, 0x01] {
                for bits in halves {
                    for scale in scales {
                        let mut block = vec![fill; size];
                        let place = |scale: &BlockFloat| match *scale {
                            Half(at) => at..at + 2,
                            _ => 0..0,
                        };
                        for scale in scales {
                            block[place(scale)].copy_from_slice(&[0, 0x3c]);
                        }
                        block[place(scale)].copy_from_slice(&bits.to_le_bytes());
                        let mut values = vec![0.0; ty.block_len()];
                        dequantize(ty, &block, &mut values).unwrap();
                        let finite = values.iter().all(|v| v.is_finite());
                        let stored = Stored::from(ty);
                        let found = stored.find(&block);
                        assert_eq!(found.is_none(), finite, "{ty} {bits:x} as {scale:?}");
                        let Scales { finite: all, zero } = stored.scales(&block);
                        assert_eq!((all, zero), (finite, stored.is_zero(&block)), "{ty} {bits:x}");
                        assert!(!zero || values.iter().all(|v| *v == 0.0), "{ty} {bits:x}");
                        assert!(scales.len() > 1 || zero == (bits & 0x7fff == 0), "{ty} {bits:x}");
                    }
                }
            }
        }
    }

    /// What every quantizer makes of zeros is told from what it makes of one small value.
    #[test]
    fn zeros_are_told_from_values() {
        for &ty in GgmlType::ALL.iter().filter(|ty| can_quantize(**ty)) {
            let mut values = vec![0.0; ty.block_len().max(32)];
            let has_value = |values: &[f32]| {
                let bytes = quantize(ty, values, values.len(), None).unwrap();
                Stored::from(ty).has_value(&bytes)
            };
            assert!(!has_value(&values), "{ty}");
            values[17] = -0.01;
            assert!(has_value(&values), "{ty}");
        }
        let minus_zero = |stored: Stored| {
            let mut value = vec![0; stored.unit()];
            *value.last_mut().unwrap() = 0x80;
            stored.has_value(&value)
        };
        for stored in [Stored::Two(0x7c00), Stored::Four, Stored::Eight, Stored::One(0x7f)] {
            assert!(!minus_zero(stored), "{stored:?}");
            assert!(stored.has_value(&vec![1; stored.unit()]), "{stored:?}");
        }
        let mut block = vec![0x88; 17];
        block[0] = 127;
        assert!(!Stored::from(GgmlType::MXFP4).has_value(&block));
        block[9] = 0x81;
        assert!(Stored::from(GgmlType::MXFP4).has_value(&block));
        assert!(Stored::Any(36).has_value(&[0; 36]));
    }

    #[test]
    fn every_quantized_type_is_looked_at() {
        for &ty in GgmlType::ALL.iter().filter(|ty| ty.is_quantized()) {
            match Stored::from(ty) {
                Stored::Blocks(size, _) => {
                    assert_eq!(Stored::from(ty).find(&vec![0xff; 3 * size]), Some((0, 3)), "{ty}");
                    assert_eq!(Stored::from(ty).find(&vec![0; 3 * size]), None, "{ty}");
                    let zeros = Stored::from(ty).scales(&vec![0; 3 * size]);
                    assert_eq!(zeros, Scales { finite: true, zero: ty != GgmlType::MXFP4 }, "{ty}");
                }
                other => assert_eq!((ty, other), (GgmlType::NVFP4, Stored::Any(36))),
            }
        }
    }

    #[test]
    fn floats_are_found_where_they_are() {
        let f32s = |v: [f32; 3]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(Stored::Four.find(&f32s([0.0, f32::NAN, f32::NEG_INFINITY])), Some((1, 2)));
        assert_eq!(Stored::Four.find(&f32s([0.0, f32::MAX, f32::MIN])), None);
        assert_eq!(Stored::Two(0x7c00).find(&[0xff, 0x7b, 0, 0xfc]), Some((1, 1)));
        assert_eq!(Stored::Two(0x7f80).find(&[0x7f, 0x7f, 0x80, 0x7f]), Some((1, 1)));
        assert_eq!(Stored::Eight.find(&f64::INFINITY.to_le_bytes()), Some((0, 1)));
        assert_eq!(Stored::One(0x7f).find(&[0x7e, 0xff, 0xfe]), Some((1, 1)));
        assert_eq!(Stored::One(0x7c).find(&[0x7b, 0xfc]), Some((1, 1)));
    }
}
