//! Q5_0: 32 values, a half-precision scale, 5-bit codes offset by 16.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, Quantizer, Rows,
    batch::{scatter, scatter_f16},
    q4_0::{SymmetricBlock, nibbles, quantize_symmetric},
};
use crate::{GgmlType, lanes::Lanes};

const LEN: usize = 32;

/// A block of Q5_0: value `i` is `d · (code − 16)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_0 {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// Fifth bits, little-endian: bit `i` belongs to value `i`.
    pub qh: [u8; 4],
    /// Low four bits: the low nibbles hold values 0..16, the high nibbles 16..32.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == GgmlType::Q5_0.block_bytes());

impl SymmetricBlock for BlockQ5_0 {
    const HALF: i32 = 16;

    #[inline(always)]
    fn pack<S: Lanes>(s: S, d: S::I32, codes: &[S::I32; LEN], blocks: &mut [Self]) {
        scatter_f16(s, d, blocks, |b| &mut b.d);
        scatter(s, &[fifth_bits(s, codes)], blocks, |b| &mut b.qh);
        scatter(s, &nibbles(s, codes), blocks, |b| &mut b.qs);
    }
}

/// The format of [`GgmlType::Q5_0`].
#[derive(Debug)]
pub struct Q5_0;

impl BlockFormat for Q5_0 {
    type Block = BlockQ5_0;
    const TYPE: GgmlType = GgmlType::Q5_0;

    #[inline(always)]
    fn dequantize(block: &BlockQ5_0, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (out, code) in out.iter_mut().zip(codes(block.qh, &block.qs)) {
            *out = (code - 16) as f32 * d;
        }
    }
}

impl Quantizer for Q5_0 {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ5_0]) {
        quantize_symmetric(s, rows, blocks);
    }
}

/// Bit 4 of 32 codes as one word, code `i` in bit `i`.
#[inline(always)]
pub(super) fn fifth_bits<S: Lanes>(s: S, codes: &[S::I32; LEN]) -> S::I32 {
    // Built from the last code down, so that the shift is the same constant at each step.
    let mut word = s.splat_i(0);
    for &code in codes.iter().rev() {
        let bit = s.and_i(s.shr::<4>(code), s.splat_i(1));
        word = s.or_i(s.shl::<1>(word), bit);
    }
    word
}

/// The 5-bit codes of a block.
#[inline(always)]
pub(super) fn codes(qh: [u8; 4], qs: &[u8; 16]) -> [i32; LEN] {
    let high = u32::from_le_bytes(qh);
    let mut codes = [0; LEN];
    for i in 0..16 {
        let (bit_low, bit_high) = (high >> i & 1, high >> (i + 16) & 1);
        codes[i] = i32::from(qs[i] & 15) | (bit_low << 4) as i32;
        codes[i + 16] = i32::from(qs[i] >> 4) | (bit_high << 4) as i32;
    }
    codes
}
