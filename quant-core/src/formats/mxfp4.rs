//! MXFP4: 32 values, a power of two, 4-bit floats. Checkpoints come in it; it is read, not made.

use bytemuck::{Pod, Zeroable};

use super::BlockFormat;
use crate::GgmlType;

const LEN: usize = 32;

/// Twice what the codes stand for (ggml's `kvalues_mxfp4`).
const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// A block of MXFP4: value `i` is `2^(e − 127)` times what its code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockMXFP4 {
    /// Exponent of the scale, biased by 127.
    pub e: u8,
    /// Codes: the low nibbles hold values 0..16, the high nibbles 16..32.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockMXFP4>() == GgmlType::MXFP4.block_bytes());

/// The format of [`GgmlType::MXFP4`].
#[derive(Debug)]
pub struct MXFP4;

impl BlockFormat for MXFP4 {
    type Block = BlockMXFP4;
    const TYPE: GgmlType = GgmlType::MXFP4;

    #[inline(always)]
    fn dequantize(block: &BlockMXFP4, out: &mut [f32]) {
        let half = half_of_power(block.e);
        let (low, high) = out.split_at_mut(LEN / 2);
        for ((low, high), q) in low.iter_mut().zip(high).zip(block.qs) {
            *low = f32::from(DOUBLED[usize::from(q & 15)]) * half;
            *high = f32::from(DOUBLED[usize::from(q >> 4)]) * half;
        }
    }
}

/// `2^(e − 128)`, subnormal for the lowest two, as ggml has it.
#[inline(always)]
fn half_of_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (u32::from(e) - 1) << 23 })
}
