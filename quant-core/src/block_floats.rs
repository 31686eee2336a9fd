//! The third list of formats: where the floats of a block are. Scales and minimums decide whether
//! its values are finite, and whether they are all zero.

use crate::GgmlType;

/// A float in a block, at a byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockFloat {
    /// Half precision, little-endian.
    Half(usize),
    /// Single precision, little-endian.
    Single(usize),
    /// A power of two as its biased exponent (E8M0), of which 0xff is no number.
    Exponent(usize),
    /// Half precision, a quarter of it in the highest four bits of each of four 16-bit words.
    Quarters(usize),
}

impl BlockFloat {
    /// The value in a block; NaN if the block ends before it.
    #[inline(always)]
    pub fn value(self, block: &[u8]) -> f32 {
        let half = |at: usize| match block.get(at..).and_then(|b| b.first_chunk()) {
            Some(bytes) => u16::from_le_bytes(*bytes),
            None => u16::MAX,
        };
        match self {
            Self::Half(at) => half::f16::from_bits(half(at)).to_f32(),
            Self::Single(at) => match block.get(at..).and_then(|b| b.first_chunk()) {
                Some(bytes) => f32::from_le_bytes(*bytes),
                None => f32::NAN,
            },
            Self::Exponent(at) => match block.get(at) {
                None | Some(0xff) => f32::NAN,
                Some(0) => f32::from_bits(0x0040_0000),
                Some(e) => f32::from_bits(u32::from(*e) << 23),
            },
            Self::Quarters(at) => {
                let quarter = |i: usize| half(at + 2 * i) >> 12 << (4 * i);
                half::f16::from_bits(quarter(0) | quarter(1) | quarter(2) | quarter(3)).to_f32()
            }
        }
    }

    /// The first byte of the block after it.
    pub const fn end(self) -> usize {
        match self {
            Self::Half(at) => at + 2,
            Self::Single(at) => at + 4,
            Self::Exponent(at) => at + 1,
            Self::Quarters(at) => at + 8,
        }
    }
}

impl GgmlType {
    /// The floats in a block of the type: its scale, then its minimum if it has one. The values of a
    /// block are finite if they are. None for plain floats and integers, and for `NVFP4`, whose codes
    /// of scales are all numbers.
    pub const fn floats(self) -> &'static [BlockFloat] {
        use BlockFloat::{Exponent, Half, Quarters, Single};
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Q1_0 | Self::Q2_0 => &[Half(0)],
            Self::Q4_1 | Self::Q5_1 | Self::Q8_1 => &[Half(0), Half(2)],
            Self::Q2_K => &[Half(80), Half(82)],
            Self::Q3_K => &[Half(108)],
            Self::Q4_K | Self::Q5_K => &[Half(0), Half(2)],
            Self::Q6_K => &[Half(208)],
            Self::Q8_K => &[Single(0)],
            Self::IQ1_S | Self::IQ2_XXS | Self::IQ2_XS | Self::IQ2_S => &[Half(0)],
            Self::IQ3_XXS | Self::IQ3_S | Self::IQ4_NL | Self::IQ4_XS => &[Half(0)],
            Self::IQ1_M => &[Quarters(48)],
            Self::TQ1_0 => &[Half(52)],
            Self::TQ2_0 => &[Half(64)],
            Self::MXFP4 => &[Exponent(0)],
            Self::NVFP4 => &[],
            Self::F64 | Self::F32 | Self::F16 | Self::BF16 => &[],
            Self::I8 | Self::I16 | Self::I32 | Self::I64 => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{can_dequantize, dequantize};

    #[test]
    fn every_float_is_inside_its_block() {
        for ty in GgmlType::ALL {
            assert!(ty.floats().iter().all(|float| float.end() <= ty.block_bytes()), "{ty}");
            let expected = ty.is_quantized() && *ty != GgmlType::NVFP4;
            assert_eq!(!ty.floats().is_empty(), expected, "{ty}");
        }
    }

    /// A block restores finite values exactly if its floats are, whatever else is in it.
    #[test]
    fn floats_decide_over_values() {
        for &ty in GgmlType::ALL.iter().filter(|ty| ty.is_quantized() && can_dequantize(**ty)) {
            for fill in [0x55u8, 0xff, 0x01] {
                for &float in ty.floats() {
                    let (BlockFloat::Half(at), bits) = (float, [0x3c00u16, 0x7c00, 0x7e01, 0xfc00])
                    else {
                        continue;
                    };
                    for bits in bits {
                        let mut block = vec![fill; ty.block_bytes()];
                        for other in ty.floats() {
                            if let BlockFloat::Half(at) = *other {
                                block[at..at + 2].copy_from_slice(&[0, 0x3c]);
                            }
                        }
                        block[at..at + 2].copy_from_slice(&bits.to_le_bytes());
                        let mut values = vec![0.0; ty.block_len()];
                        dequantize(ty, &block, &mut values).unwrap();
                        let finite = values.iter().all(|v| v.is_finite());
                        assert_eq!(float.value(&block).is_finite(), finite, "{ty} {bits:x}");
                    }
                }
            }
        }
    }

    #[test]
    fn quarters_are_joined() {
        let mut block = [0u8; 56];
        // 1.5 is 0x3e00; the lowest quarter comes first.
        for (i, quarter) in [0x0u8, 0x0, 0xe, 0x3].into_iter().enumerate() {
            block[48 + 2 * i + 1] = quarter << 4;
        }
        assert_eq!(BlockFloat::Quarters(48).value(&block), 1.5);
        assert!(BlockFloat::Half(56).value(&block).is_nan());
        assert_eq!(BlockFloat::Exponent(0).value(&[128]), 2.0);
        assert!(BlockFloat::Exponent(0).value(&[255]).is_nan());
    }
}
