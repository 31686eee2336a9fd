//! Formats whose codes are looked up in a table, or have one or two bits. Where codes have one or two bits,
//! products with several columns go by panels: what packed weights need for few is not compiled for them.

use quant_core::{formats::*, lanes::Lanes};

use super::coded::{Blocks, Coded, Head, Plane, plane, six_bits_less_32};
use crate::activation::Scaling;

/// What codes of IQ4_NL and IQ4_XS stand for, plus 128.
const IQ4: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

impl Coded for IQ4NL {
    type Layout = Blocks<{ Self::TYPE.block_len() }, 32, 8, false>;
    const BYTES: usize = Self::TYPE.block_bytes();
    const LOW: Plane = plane(2, 4, 16);
    const TABLE: [u8; 16] = IQ4;
    const LOOKED_UP: bool = true;
    const BIAS: i32 = 128;
    const SCALING: Scaling = Scaling::Per32;
    const HALVES: &'static [usize] = &[0];
}

impl Coded for IQ4XS {
    type Layout = Blocks<{ Self::TYPE.block_len() }, 32, 8, false>;
    const BYTES: usize = Self::TYPE.block_bytes();
    const LOW: Plane = plane(8, 4, 16);
    const TABLE: [u8; 16] = IQ4;
    const LOOKED_UP: bool = true;
    const BIAS: i32 = 128;
    const SCALING: Scaling = Scaling::Per256;
    const HALVES: &'static [usize] = &[0];
    const SCALES: (usize, usize) = (2, 6);

    #[inline(always)]
    fn factors<S: Lanes, H: Head<S>>(s: S, head: &H, j: usize) -> (S::I32, S::I32) {
        // Two bytes have the upper bits of the factors, four to a byte, then four the lower.
        let (low, upper) = (head.byte(s, 2 + j / 2), head.byte(s, j / 4));
        let low = if j.is_multiple_of(2) { s.and_i(low, s.splat_i(15)) } else { s.shr::<4>(low) };
        (six_bits_less_32(s, low, upper, j % 4), s.splat_i(0))
    }
}

impl Coded for MXFP4 {
    type Layout = Blocks<{ Self::TYPE.block_len() }, 32, 5, false>;
    const BYTES: usize = Self::TYPE.block_bytes();
    const LOW: Plane = plane(1, 4, 16);
    // Twice the values, plus 16.
    const TABLE: [u8; 16] = [16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4];
    const LOOKED_UP: bool = true;
    const BIAS: i32 = 16;
    const SCALING: Scaling = Scaling::Per32;
    const HALVES: &'static [usize] = &[];
    const SCALES: (usize, usize) = (0, 1);

    #[inline(always)]
    fn units<S: Lanes, H: Head<S>>(s: S, head: &H) -> (S::F32, S::F32) {
        // 2 to the power of the byte less 128, of which the lowest two are subnormal.
        let e = head.byte(s, 0);
        let normal = s.shl::<23>(s.sub_i(e, s.splat_i(1)));
        let second = s.select_i(s.eq_i(e, s.splat_i(1)), s.splat_i(0x0040_0000), normal);
        let bits = s.select_i(s.eq_i(e, s.splat_i(0)), s.splat_i(0x0020_0000), second);
        (s.bits_to_f32(bits), s.splat(0.0))
    }
}

/// Formats of one scale and codes of one or two bits: layout, place of the scale, codes, bias, scaling.
macro_rules! few_bits {
    ($name:ident, $layout:ty, $half:literal, $low:expr, $bias:literal, $scaling:ident) => {
        impl Coded for $name {
            type Layout = $layout;
            const BYTES: usize = Self::TYPE.block_bytes();
            const LOW: Plane = $low;
            const BIAS: i32 = $bias;
            const FEW: bool = false;
            const SCALING: Scaling = Scaling::$scaling;
            const HALVES: &'static [usize] = &[$half];
        }
    };
}

few_bits!(Q2_0, Blocks<64, 64, 4, false>, 0, plane(2, 2, 0), 1, Per64);
// Sixteen sub-blocks of the factor 1: a layout that there is.
few_bits!(TQ2_0, Blocks<256, 16, 4, false>, 64, plane(0, 2, 32), 1, Per256);

impl Coded for Q1_0 {
    type Layout = Blocks<128, 128, 4, false>;
    const BYTES: usize = Self::TYPE.block_bytes();
    const LOW: Plane = plane(2, 1, 0);
    // −1 and 1, plus 1.
    const TABLE: [u8; 16] = [0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2];
    const LOOKED_UP: bool = true;
    const FEW: bool = false;
    const BIAS: i32 = 1;
    const SCALING: Scaling = Scaling::Per128;
    const HALVES: &'static [usize] = &[0];
}
