//! Q5_K: 256 values in eight sub-blocks, each with a 6-bit scale and minimum; 5-bit codes.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    batch::{scatter, word},
    k_min::{self, KMinBlock, nibble_words, unpack_scale},
};
use crate::{GgmlType, lanes::Lanes, search::Grid};

/// A super-block of Q5_K: value `i` of sub-block `j` is `d · scale[j] · code − dmin · min[j]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5K {
    /// Scale of the scales, half-precision bits.
    pub d: F16Le,
    /// Scale of the minimums, half-precision bits.
    pub dmin: F16Le,
    /// Eight 6-bit scales and eight 6-bit minimums.
    pub scales: [u8; 12],
    /// Fifth bits: bit `j` of byte `i` belongs to value `i` of sub-block `j`.
    pub qh: [u8; QK_K / 8],
    /// Low four bits: of each 64 values, the first 32 in the low nibbles of 32 bytes.
    pub qs: [u8; QK_K / 2],
}

const _: () = assert!(size_of::<BlockQ5K>() == GgmlType::Q5_K.block_bytes());

impl KMinBlock for BlockQ5K {
    const LARGEST: i32 = 31;
    const GRID: Grid = Grid { start: -0.5, step: 0.1, last: 15 };

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
        scatter(s, &high_words(s, codes), blocks, |b| &mut b.qh);
        scatter(s, &nibble_words(s, codes), blocks, |b| &mut b.qs);
    }
}

/// The format of [`GgmlType::Q5_K`].
#[derive(Debug)]
pub struct Q5K;

impl BlockFormat for Q5K {
    type Block = BlockQ5K;
    const TYPE: GgmlType = GgmlType::Q5_K;

    #[inline(always)]
    fn dequantize(block: &BlockQ5K, out: &mut [f32]) {
        let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
        for (pair, (out, qs)) in out.chunks_exact_mut(64).zip(block.qs.chunks_exact(32)).enumerate()
        {
            let (low, high) = out.split_at_mut(32);
            for (half, out) in [low, high].into_iter().enumerate() {
                let sub = 2 * pair + half;
                let (scale, min) = unpack_scale(&block.scales, sub);
                let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
                for ((out, q), high) in out.iter_mut().zip(qs).zip(block.qh) {
                    let code = q >> (4 * half) & 15 | (high >> sub & 1) << 4;
                    *out = scale * f32::from(code) - min;
                }
            }
        }
    }
}

impl Quantizer for Q5K {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ5K]) {
        k_min::quantize(s, rows, blocks);
    }
}

/// The fifth bits of 256 codes as 32 bytes.
#[inline(always)]
fn high_words<S: Lanes>(s: S, codes: &[S::I32; QK_K]) -> [S::I32; 8] {
    let mut words = [s.splat_i(0); 8];
    for (w, out) in words.iter_mut().enumerate() {
        let mut bytes = [s.splat_i(0); 4];
        for (i, byte) in bytes.iter_mut().enumerate() {
            for sub in (0..8).rev() {
                let bit = s.and_i(s.shr::<4>(codes[sub * 32 + 4 * w + i]), s.splat_i(1));
                *byte = s.or_i(s.shl::<1>(*byte), bit);
            }
        }
        *out = word(s, bytes);
    }
    words
}
