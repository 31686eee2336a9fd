//! NVFP4: 64 values, an 8-bit float as scale for each 16, 4-bit floats. Checkpoints come in it; it is
//! read, not made.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, mxfp4::DOUBLED};
use crate::GgmlType;

const SUB: usize = 16;

/// A block of NVFP4: value `i` of a sub-block is its scale times what its code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockNVFP4 {
    /// Scales: unsigned floats with four bits of exponent and three of mantissa.
    pub d: [u8; 4],
    /// Codes: of the eight bytes of a sub-block, the low nibbles hold values 0..8, the high nibbles
    /// 8..16.
    pub qs: [u8; 32],
}

const _: () = assert!(size_of::<BlockNVFP4>() == GgmlType::NVFP4.block_bytes());

/// The format of [`GgmlType::NVFP4`].
#[derive(Debug)]
pub struct NVFP4;

impl BlockFormat for NVFP4 {
    type Block = BlockNVFP4;
    const TYPE: GgmlType = GgmlType::NVFP4;

    #[inline(always)]
    fn dequantize(block: &BlockNVFP4, out: &mut [f32]) {
        let subs = out.chunks_exact_mut(SUB).zip(block.qs.as_chunks::<8>().0);
        for ((out, qs), scale) in subs.zip(block.d) {
            let half = half_of_scale(scale);
            let (low, high) = out.split_at_mut(SUB / 2);
            for ((low, high), q) in low.iter_mut().zip(high).zip(qs) {
                *low = f32::from(DOUBLED[usize::from(q & 15)]) * half;
                *high = f32::from(DOUBLED[usize::from(q >> 4)]) * half;
            }
        }
    }
}

/// Half of a scale. The code of NaN, 0x7f, is zero, and the highest bit is not looked at but there, as
/// ggml has it.
#[inline(always)]
fn half_of_scale(code: u8) -> f32 {
    let (exponent, mantissa) = (code >> 3 & 15, f32::from(code & 7));
    match (code, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => mantissa / 1024.0,
        _ => (1.0 + mantissa / 8.0) * f32::from_bits((u32::from(exponent) + 119) << 23),
    }
}
