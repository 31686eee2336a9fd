//! IQ1_M: 256 values, a half-precision scale, and for each 16 values a 3-bit scale and two points of a
//! codebook of 2048 for eight values each, with a shift each.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, Importance, QK_K, Quantizer, Rows,
    codebook::{Fit, Weighing, for_sub_blocks, scale_codes},
};
use crate::{
    GgmlType, codebook,
    lanes::Lanes,
    search::{DOWN, SplitRoom, TernarySub, UP, fit_splits},
};

const LEN: usize = 16;
const SUBS: usize = QK_K / LEN;

/// A block of IQ1_M: a value is `d · (2·scale + 1)` times its level less one and, by the shift, an eighth
/// more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ1M {
    /// The low eight bits of the index of the point of each eight values.
    pub qs: [u8; QK_K / 8],
    /// For each eight values a nibble, the lower first: the high three bits of the index, and a bit that
    /// is set where the shift is down.
    pub qh: [u8; SUBS],
    /// Four words: the scales of four sub-blocks in three bits each, the first lowest, and a quarter
    /// of the bits of the half-precision scale `d`, the lowest first.
    pub scales: [[u8; 2]; 4],
}

const _: () = assert!(size_of::<BlockIQ1M>() == GgmlType::IQ1_M.block_bytes());

impl BlockIQ1M {
    /// The scale, whose bits are spread over four words.
    #[inline(always)]
    pub(super) fn unit(&self) -> f32 {
        let words = self.scales.iter().rev().map(|word| u16::from_le_bytes(*word));
        half::f16::from_bits(words.fold(0, |bits, word| bits << 4 | word >> 12)).to_f32()
    }
}

/// The format of [`GgmlType::IQ1_M`].
#[derive(Debug)]
pub struct IQ1M;

impl BlockFormat for IQ1M {
    type Block = BlockIQ1M;
    const TYPE: GgmlType = GgmlType::IQ1_M;

    #[inline(always)]
    fn dequantize(block: &BlockIQ1M, out: &mut [f32]) {
        let (d, words) = (block.unit(), block.scales.map(u16::from_le_bytes));
        for (k, out) in out.chunks_exact_mut(8).enumerate() {
            let (sub, high) = (k / 2, block.qh[k / 2] >> (4 * (k % 2)));
            let scale = d * f32::from(2 * (words[sub / 4] >> (3 * (sub % 4)) & 7) + 1);
            let shift = if high & 8 == 8 { -0.125 } else { 0.125 };
            let index = usize::from(block.qs[k]) | usize::from(high & 7) << 8;
            for (out, level) in out.iter_mut().zip(codebook::IQ1.levels(index)) {
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
        fit_splits::<S, LEN, 2, true>(s, book, 1e-7, x, weights, &mut self.0, subs);
    }
}

impl Quantizer for IQ1M {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;
    // Points of the codebook are looked at by the vector.
    const PAIRS: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockIQ1M]) {
        let fit = ToSplits(SplitRoom::EMPTY);
        let (count, weighing) = (blocks.len(), Weighing::Squares(2.0));
        for_sub_blocks::<S, _, LEN>(s, rows, count, weighing, fit, |number, subs, sigma2| {
            let block = &mut blocks[number];
            *block = Zeroable::zeroed();
            for (k, point) in subs.iter().flat_map(|sub| &sub.points[..2]).enumerate() {
                block.qs[k] = *point as u8;
                block.qh[k / 2] |= ((point >> 8) as u8) << (4 * (k % 2));
            }
            let Some((mut d, codes)) = scale_codes::<SUBS>(|i| subs[i].scale, 7) else { return };
            let mut words = [0; 4];
            for (j, (sub, code)) in subs.iter().zip(codes).enumerate() {
                words[j / 4] |= u16::from(code) << (3 * (j % 4));
                block.qh[j] |= u8::from(sub.down[0]) << 3 | u8::from(sub.down[1]) << 7;
            }
            // The scale that fits all codes best. Sub-blocks that are zero have codes, too.
            let x = &rows.values[number * QK_K..][..QK_K];
            let column = number * QK_K % rows.row_len;
            let importance = rows.importance.map(|importance| &importance[column..][..QK_K]);
            let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
            for (k, x) in x.chunks_exact(8).enumerate() {
                let sub = &subs[k / 2];
                let levels = if sub.down[k % 2] { &DOWN } else { &UP };
                let scale = f32::from(2 * codes[k / 2] + 1);
                let point = codebook::IQ1.levels(sub.points[k % 2].into());
                for (i, (&x, level)) in x.iter().zip(point).enumerate() {
                    let w = match importance {
                        Some(importance) => {
                            importance[8 * k + i] * crate::math::sqrtf(sigma2 + x * x)
                        }
                        None => x * x,
                    };
                    let q = levels[level & 3] * scale;
                    sum_qx += w * q * x;
                    sum_q2 += w * q * q;
                }
            }
            if sum_q2 > 0.0 {
                d = sum_qx / sum_q2;
            }
            // ggml has found the factor by trying.
            let mut bits = half::f16::from_f32(d * 1.1125).to_bits();
            for (word, bytes) in words.into_iter().zip(&mut block.scales) {
                *bytes = (word | bits << 12).to_le_bytes();
                bits >>= 4;
            }
        });
    }
}
