//! Q4_K: 256 values in eight sub-blocks, each with a 6-bit scale and minimum; 4-bit codes.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    batch::scatter,
    k_min::{self, KMinBlock, nibble_words, unpack_scale},
};
use crate::{GgmlType, lanes::Lanes, search::Grid};

/// A super-block of Q4_K: value `i` of sub-block `j` is `d · scale[j] · code − dmin · min[j]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4K {
    /// Scale of the scales, half-precision bits.
    pub d: F16Le,
    /// Scale of the minimums, half-precision bits.
    pub dmin: F16Le,
    /// Eight 6-bit scales and eight 6-bit minimums.
    pub scales: [u8; 12],
    /// Codes: of each 64 values, the first 32 in the low nibbles of 32 bytes.
    pub qs: [u8; QK_K / 2],
}

const _: () = assert!(size_of::<BlockQ4K>() == GgmlType::Q4_K.block_bytes());

impl KMinBlock for BlockQ4K {
    const LARGEST: i32 = 15;
    const GRID: Grid = Grid { start: -1.0, step: 0.1, last: 20 };

    #[inline(always)]
    fn d(&mut self) -> &mut F16Le {
        &mut self.d
    }
    #[inline(always)]
    fn dmin(&mut self) -> &mut F16Le {
        &mut self.dmin
    }
    #[inline(always)]
    fn scales(&mut self) -> &mut [u8; 12] {
        &mut self.scales
    }
    #[inline(always)]
    fn pack<S: Lanes>(s: S, codes: &[S::I32; QK_K], blocks: &mut [Self]) {
        scatter(s, &nibble_words(s, codes), blocks, |b| &mut b.qs);
    }
}

/// The format of [`GgmlType::Q4_K`].
#[derive(Debug)]
pub struct Q4K;

impl BlockFormat for Q4K {
    type Block = BlockQ4K;
    const TYPE: GgmlType = GgmlType::Q4_K;

    #[inline(always)]
    fn dequantize(block: &BlockQ4K, out: &mut [f32]) {
        let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
        for (pair, (out, qs)) in out.chunks_exact_mut(64).zip(block.qs.chunks_exact(32)).enumerate()
        {
            let (low, high) = out.split_at_mut(32);
            for (half, out) in [low, high].into_iter().enumerate() {
                let (scale, min) = unpack_scale(&block.scales, 2 * pair + half);
                let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
                for (out, q) in out.iter_mut().zip(qs) {
                    *out = scale * f32::from(q >> (4 * half) & 15) - min;
                }
            }
        }
    }
}

impl Quantizer for Q4K {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ4K]) {
        k_min::quantize(s, rows, blocks);
    }
}
