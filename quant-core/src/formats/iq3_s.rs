//! IQ3_S: 256 values, a half-precision scale, and for each 32 values a 4-bit scale, eight points of a
//! codebook of 512 for four values each, and all signs.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    codebook::{Weighing, fit_all, scale_codes, sign},
};
use crate::{
    GgmlType, codebook,
    lanes::Lanes,
    search::{Again, Settings},
};

const LEN: usize = 32;
const SUBS: usize = QK_K / LEN;

/// A block of IQ3_S: a level stands for twice itself and one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ3S {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// The low eight bits of the index of the point of each four values.
    pub qs: [u8; QK_K / 4],
    /// The ninth bits of the indices, eight in a byte, the first lowest.
    pub qh: [u8; SUBS],
    /// The signs of each eight values.
    pub signs: [u8; QK_K / 8],
    /// Scales of the sub-blocks, two in a byte, the lower nibble first.
    pub scales: [u8; SUBS / 2],
}

const _: () = assert!(size_of::<BlockIQ3S>() == GgmlType::IQ3_S.block_bytes());

/// The format of [`GgmlType::IQ3_S`].
#[derive(Debug)]
pub struct IQ3S;

impl BlockFormat for IQ3S {
    type Block = BlockIQ3S;
    const TYPE: GgmlType = GgmlType::IQ3_S;

    #[inline(always)]
    fn dequantize(block: &BlockIQ3S, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (k, out) in out.chunks_exact_mut(4).enumerate() {
            let code = block.scales[k / 16] >> (4 * (k / 8 % 2)) & 15;
            let scale = d * (1 + 2 * i32::from(code)) as f32;
            let high = usize::from(block.qh[k / 8] >> (k % 8) & 1);
            let levels = codebook::IQ3_S.levels(usize::from(block.qs[k]) | high << 8);
            for (i, (out, level)) in out.iter_mut().zip(levels).enumerate() {
                *out = scale * (2 * level + 1) as f32 * sign(block.signs[k / 2], k % 2 * 4 + i);
            }
        }
    }
}

impl Quantizer for IQ3S {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;
    // Points of the codebook are looked at by the vector, and there are not many.
    const PAIRS: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockIQ3S]) {
        const SETTINGS: Settings = Settings {
            least: 0.0,
            step: 0.2,
            even_signs: false,
            fitted: false,
            again: Again::UnlessOnGrid,
        };
        let book = &codebook::IQ3_S;
        let (near, weighing) = (book.near(), Weighing::Squares(2.0));
        let count = blocks.len();
        fit_all::<S, 4, LEN, 8, 19>(s, rows, count, book, weighing, SETTINGS, |number, subs| {
            let block = &mut blocks[number];
            *block = Zeroable::zeroed();
            // ggml does not leave room for sub-blocks that are all zero: the low bits and the signs of
            // those after them move up, the high bits do not. Such super-blocks are restored
            // wrongly; bytes that differ from ggml's would be worse.
            let alive = subs.iter().enumerate().filter(|(_, sub)| !sub.dead);
            for (place, (j, sub)) in alive.enumerate() {
                for (k, code) in sub.codes.into_iter().enumerate() {
                    let index = near.index(code);
                    block.qs[8 * place + k] = index as u8;
                    block.qh[j] |= ((index >> 8) as u8) << k;
                }
                block.signs[4 * place..][..4].copy_from_slice(&sub.signs);
            }
            let Some((d, codes)) = scale_codes::<SUBS>(|i| subs[i].scale, 15) else { return };
            // ggml has found the factor by trying.
            block.d = F16Le::from_f32(d * 1.033);
            for (j, scale) in codes.into_iter().enumerate() {
                block.scales[j / 2] |= scale << (4 * (j % 2));
            }
        });
    }
}
