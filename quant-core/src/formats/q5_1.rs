//! Q5_1: 32 values, a half-precision scale and minimum, 5-bit codes.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, Quantizer, Rows,
    batch::{scatter, scatter_f16},
    q4_0::nibbles,
    q4_1::{AffineBlock, quantize_affine},
    q5_0::{codes, fifth_bits},
};
use crate::{GgmlType, lanes::Lanes};

const LEN: usize = 32;

/// A block of Q5_1: value `i` is `d · code + m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_1 {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// Minimum, half-precision bits.
    pub m: F16Le,
    /// Fifth bits, little-endian: bit `i` belongs to value `i`.
    pub qh: [u8; 4],
    /// Low four bits: the low nibbles hold values 0..16, the high nibbles 16..32.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_1>() == GgmlType::Q5_1.block_bytes());

impl AffineBlock for BlockQ5_1 {
    const LARGEST: i32 = 31;

    #[inline(always)]
    fn pack<S: Lanes>(s: S, d: S::I32, m: S::I32, codes: &[S::I32; LEN], blocks: &mut [Self]) {
        scatter_f16(s, d, blocks, |b| &mut b.d);
        scatter_f16(s, m, blocks, |b| &mut b.m);
        scatter(s, &[fifth_bits(s, codes)], blocks, |b| &mut b.qh);
        scatter(s, &nibbles(s, codes), blocks, |b| &mut b.qs);
    }
}

/// The format of [`GgmlType::Q5_1`].
#[derive(Debug)]
pub struct Q5_1;

impl BlockFormat for Q5_1 {
    type Block = BlockQ5_1;
    const TYPE: GgmlType = GgmlType::Q5_1;

    #[inline(always)]
    fn dequantize(block: &BlockQ5_1, out: &mut [f32]) {
        let (d, m) = (block.d.to_f32(), block.m.to_f32());
        for (out, code) in out.iter_mut().zip(codes(block.qh, &block.qs)) {
            *out = code as f32 * d + m;
        }
    }
}

impl Quantizer for Q5_1 {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ5_1]) {
        quantize_affine(s, rows, blocks);
    }
}
