//! IQ1_M: 256 values, a half-precision scale, and for each 16 values a 3-bit scale and two points of a
//! codebook of 2048 for eight values each, with a shift each.

use alloc::{vec, vec::Vec};

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, Importance, QK_K, Quantizer, Rows,
    batch::row_values,
    codebook::{Fit, Weighing, for_sub_blocks, scale_codes, weigh},
};
use crate::{
    GgmlType, codebook,
    lanes::{Lanes, MAX_LANES},
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
        fit_splits::<S, LEN, { LEN + 1 }, 2, true>(s, book, 1e-7, x, weights, &mut self.0, subs);
    }
}

/// Numbers in [`Fitted::codes`] for a super-block.
const CODES: usize = 3 * SUBS;

/// What super-blocks were fitted to.
struct Fitted {
    /// σ² of each.
    sigma2: Vec<f32>,
    /// The scale of the scales of each; `None` where all of these are zero.
    units: Vec<Option<f32>>,
    /// For each sub-block: its odd factor, above a bit for each shift that is down, and the codes of its points.
    codes: Vec<u16>,
}

impl Fitted {
    /// Makes the scales those that fit all codes best. Each sum is one chain of additions, in order; with a
    /// super-block in each lane there are many at a time.
    #[inline(always)]
    fn refit<S: Lanes>(&mut self, s: S, rows: &Rows<'_>, weighing: Weighing) {
        let (zero, none) = (s.splat(0.0), s.splat_i(0));
        let count = self.units.len();
        let mut sums = [[0.0; MAX_LANES]; 2];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, QK_K);
            let sigma2 = row_values(s, &self.sigma2, &batch, QK_K);
            let (mut starts, mut columns) = (batch.starts, batch.columns);
            let mut at = [0; MAX_LANES];
            for (at, start) in at.iter_mut().zip(starts) {
                *at = (start / QK_K * CODES) as i32;
            }
            let mut codes = [none; CODES];
            s.load_u16_columns(&self.codes, s.load_i(&at), &mut codes);
            let (mut sum_qx, mut sum_q2) = (zero, zero);
            // Sub-blocks that are zero have codes, too.
            for [factor, points @ ..] in codes.as_chunks::<3>().0 {
                let mut x = [zero; LEN];
                s.load_columns(rows.values, &starts, &mut x);
                let weights = weigh(s, weighing, rows, &columns, &x, sigma2);
                let scale = s.to_f32(s.shr::<2>(*factor));
                for (half, point) in points.iter().enumerate() {
                    let up = s.eq_i(s.and_i(*factor, s.splat_i(1 << half)), none);
                    let mut rest = *point;
                    for i in 8 * half..8 * half + 8 {
                        let (above, below) = (s.look_up_4(&UP, rest), s.look_up_4(&DOWN, rest));
                        let q = s.mul(s.select(up, above, below), scale);
                        let wq = s.mul(weights[i], q);
                        sum_qx = s.add(sum_qx, s.mul(wq, x[i]));
                        sum_q2 = s.add(sum_q2, s.mul(wq, q));
                        rest = s.shr::<2>(rest);
                    }
                }
                for (start, column) in starts.iter_mut().zip(&mut columns) {
                    *start += LEN;
                    *column += LEN;
                }
            }
            s.store(sum_qx, &mut sums[0]);
            s.store(sum_q2, &mut sums[1]);
            for (lane, unit) in self.units[first..][..batch.live].iter_mut().enumerate() {
                if let Some(unit) = unit
                    && sums[1][lane] > 0.0
                {
                    *unit = sums[0][lane] / sums[1][lane];
                }
            }
        }
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
        let mut fitted = Fitted {
            sigma2: vec![0.0; count],
            units: vec![None; count],
            codes: vec![0; count * CODES],
        };
        for_sub_blocks::<S, _, LEN>(s, rows, count, weighing, fit, |number, subs, sigma2| {
            let block = &mut blocks[number];
            *block = Zeroable::zeroed();
            for (k, point) in subs.iter().flat_map(|sub| &sub.points[..2]).enumerate() {
                block.qs[k] = *point as u8;
                block.qh[k / 2] |= ((point >> 8) as u8) << (4 * (k % 2));
            }
            let Some((unit, scales)) = scale_codes::<SUBS>(|i| subs[i].scale, 7) else { return };
            fitted.sigma2[number] = sigma2;
            fitted.units[number] = Some(unit);
            let codes = fitted.codes[number * CODES..][..CODES].as_chunks_mut::<3>().0;
            let mut words = [0; 4];
            for (j, (sub, scale)) in subs.iter().zip(scales).enumerate() {
                let scale = u16::from(scale);
                words[j / 4] |= scale << (3 * (j % 4));
                let (first, second) = (u8::from(sub.down[0]), u8::from(sub.down[1]));
                block.qh[j] |= first << 3 | second << 7;
                codes[j] = [
                    (2 * scale + 1) << 2 | u16::from(second << 1 | first),
                    codebook::IQ1.codes[usize::from(sub.points[0])],
                    codebook::IQ1.codes[usize::from(sub.points[1])],
                ];
            }
            block.scales = words.map(u16::to_le_bytes);
        });
        fitted.refit(s, &rows, weighing);
        for (block, unit) in blocks.iter_mut().zip(fitted.units) {
            let Some(unit) = unit else { continue };
            // ggml has found the factor by trying.
            let mut bits = half::f16::from_f32(unit * 1.1125).to_bits();
            for [_, high] in &mut block.scales {
                *high |= (bits as u8) << 4;
                bits >>= 4;
            }
        }
    }
}
