//! IQ2_S: 256 values, a half-precision scale, and for each 16 values a 4-bit scale, two points of a
//! codebook of 1024 for eight values each, and eight signs for each.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    codebook::{LEVELS_2, Weighing, fit_all, scale_codes, sign},
};
use crate::{
    GgmlType, codebook,
    lanes::Lanes,
    search::{Again, Settings},
};

const LEN: usize = 16;
const SUBS: usize = QK_K / LEN;

/// A block of IQ2_S.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ2S {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// The low eight bits of the index of the point of each eight values.
    pub qs: [u8; QK_K / 8],
    /// The signs of each eight values.
    pub signs: [u8; QK_K / 8],
    /// The high two bits of the indices, four in a byte, the first lowest.
    pub qh: [u8; QK_K / 32],
    /// Scales of the sub-blocks, two in a byte, the lower nibble first.
    pub scales: [u8; SUBS / 2],
}

const _: () = assert!(size_of::<BlockIQ2S>() == GgmlType::IQ2_S.block_bytes());

/// The format of [`GgmlType::IQ2_S`].
#[derive(Debug)]
pub struct IQ2S;

impl BlockFormat for IQ2S {
    type Block = BlockIQ2S;
    const TYPE: GgmlType = GgmlType::IQ2_S;

    #[inline(always)]
    fn dequantize(block: &BlockIQ2S, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (k, out) in out.chunks_exact_mut(8).enumerate() {
            let code = block.scales[k / 4] >> (4 * (k / 2 % 2)) & 15;
            let scale = d * (0.5 + f32::from(code)) * 0.25;
            let high = usize::from(block.qh[k / 4] >> (2 * (k % 4)) & 3);
            let levels = codebook::IQ2_S.levels(usize::from(block.qs[k]) | high << 8);
            for (i, (out, level)) in out.iter_mut().zip(levels).enumerate() {
                *out = scale * LEVELS_2[level] * sign(block.signs[k], i);
            }
        }
    }
}

impl Quantizer for IQ2S {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;
    // Points of the codebook are looked at by the vector, and there are not many.
    const PAIRS: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockIQ2S]) {
        const SETTINGS: Settings = Settings {
            least: 1e-8,
            step: 0.1,
            even_signs: false,
            fitted: false,
            again: Again::OffGrid,
        };
        let book = &codebook::IQ2_S;
        let (near, weighing) = (book.near(), Weighing::Mean);
        let count = blocks.len();
        fit_all::<S, 8, LEN, 2, 19>(s, rows, count, book, weighing, SETTINGS, |number, subs| {
            let block = &mut blocks[number];
            *block = Zeroable::zeroed();
            for (k, code) in subs.iter().flat_map(|sub| &sub.codes[..2]).enumerate() {
                let index = near.index(*code);
                block.qs[k] = index as u8;
                block.qh[k / 4] |= ((index >> 8) as u8) << (2 * (k % 4));
                block.signs[k] = subs[k / 2].signs[k % 2];
            }
            let Some((d, codes)) = scale_codes::<SUBS>(|i| subs[i].scale, 15) else { return };
            // ggml has found the factor by trying.
            block.d = F16Le::from_f32(d * 0.9875);
            for (j, scale) in codes.into_iter().enumerate() {
                block.scales[j / 2] |= scale << (4 * (j % 2));
            }
        });
    }
}
