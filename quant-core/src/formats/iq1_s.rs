//! IQ1_S: 256 values, a half-precision scale, and for each 32 values a 3-bit scale, a shift, and four
//! points of a codebook of 2048 for eight values each.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    codebook::{Fit, Weighing, for_sub_blocks, scale_codes},
};
use crate::{
    GgmlType, codebook,
    lanes::Lanes,
    search::{SplitRoom, TernarySub, fit_splits},
};

const LEN: usize = 32;
const SUBS: usize = QK_K / LEN;

/// A block of IQ1_S: a value is `d · (2·scale + 1)` times its level less one and, by the shift, an eighth
/// more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ1S {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// The low eight bits of the index of the point of each eight values.
    pub qs: [u8; QK_K / 8],
    /// For each sub-block the high three bits of its indices, the first lowest, its scale in three
    /// bits, and a bit that is set where the shift is down.
    pub qh: [[u8; 2]; SUBS],
}

const _: () = assert!(size_of::<BlockIQ1S>() == GgmlType::IQ1_S.block_bytes());

/// The format of [`GgmlType::IQ1_S`].
#[derive(Debug)]
pub struct IQ1S;

impl BlockFormat for IQ1S {
    type Block = BlockIQ1S;
    const TYPE: GgmlType = GgmlType::IQ1_S;

    #[inline(always)]
    fn dequantize(block: &BlockIQ1S, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (k, out) in out.chunks_exact_mut(8).enumerate() {
            let word = u16::from_le_bytes(block.qh[k / 4]);
            let scale = d * f32::from(2 * (word >> 12 & 7) + 1);
            let shift = if word >> 15 == 1 { -0.125 } else { 0.125 };
            let high = usize::from(word >> (3 * (k % 4)) & 7);
            let levels = codebook::IQ1.levels(usize::from(block.qs[k]) | high << 8);
            for (out, level) in out.iter_mut().zip(levels) {
                *out = scale * (level as f32 - 1.0 + shift);
            }
        }
    }
}

struct ToSplits(SplitRoom);

impl Fit<LEN> for ToSplits {
    type Sub = TernarySub;
    const EMPTY: TernarySub = TernarySub::ZERO;

    #[inline(always)]
    fn fit<S: Lanes>(
        &mut self,
        s: S,
        x: &[S::F32; LEN],
        weights: &[S::F32; LEN],
        subs: &mut [TernarySub],
    ) {
        let book = &codebook::IQ1;
        fit_splits::<S, LEN, { LEN + 1 }, 4, false>(s, book, 1e-12, x, weights, &mut self.0, subs);
    }
}

impl Quantizer for IQ1S {
    const IMPORTANCE: Importance = Importance::Needed;
    const SEARCHES: bool = true;
    // Points of the codebook are looked at by the vector.
    const PAIRS: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockIQ1S]) {
        let fit = ToSplits(SplitRoom::EMPTY);
        let (count, weighing) = (blocks.len(), Weighing::Squares(2.0));
        for_sub_blocks::<S, _, LEN>(s, rows, count, weighing, fit, |number, subs, _| {
            let block = &mut blocks[number];
            *block = Zeroable::zeroed();
            let codes = scale_codes::<SUBS>(|i| subs[i].scale, 7);
            // ggml has found the factor by trying.
            block.d = F16Le::from_f32(codes.map_or(0.0, |(d, _)| d * 1.125));
            for (j, sub) in subs.iter().enumerate() {
                let mut word = codes.map_or(0, |(_, codes)| {
                    u16::from(codes[j]) << 12 | u16::from(sub.down[0]) << 15
                });
                for (k, point) in sub.points.into_iter().enumerate() {
                    block.qs[4 * j + k] = point as u8;
                    word |= point >> 8 << (3 * k);
                }
                block.qh[j] = word.to_le_bytes();
            }
        });
    }
}
