//! IQ3_XXS: 256 values, a half-precision scale, and for each 32 values a 4-bit scale, eight points of a
//! codebook of 256 for four values each, and seven signs for each eight values.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    codebook::{Weighing, even_signs, fit_all, scale_codes, sign},
};
use crate::{
    GgmlType, codebook,
    lanes::Lanes,
    search::{Again, Settings},
};

const LEN: usize = 32;
const SUBS: usize = QK_K / LEN;

/// What the levels stand for, in quarters of the scale.
const LEVELS: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];

/// A block of IQ3_XXS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ3XXS {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// The index of the point of each four values.
    pub qs: [[u8; 8]; SUBS],
    /// For each sub-block a word: seven bits of signs for each eight values, the eighth making their
    /// number even, and the scale in the highest four bits.
    pub scales_and_signs: [[u8; 4]; SUBS],
}

const _: () = assert!(size_of::<BlockIQ3XXS>() == GgmlType::IQ3_XXS.block_bytes());

/// The format of [`GgmlType::IQ3_XXS`].
#[derive(Debug)]
pub struct IQ3XXS;

impl BlockFormat for IQ3XXS {
    type Block = BlockIQ3XXS;
    const TYPE: GgmlType = GgmlType::IQ3_XXS;

    #[inline(always)]
    fn dequantize(block: &BlockIQ3XXS, out: &mut [f32]) {
        let d = block.d.to_f32();
        let subs = block.qs.iter().zip(block.scales_and_signs);
        for (out, (points, word)) in out.chunks_exact_mut(LEN).zip(subs) {
            let word = u32::from_le_bytes(word);
            let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
            for (k, (out, point)) in out.chunks_exact_mut(4).zip(points).enumerate() {
                let signs = even_signs((word >> (7 * (k / 2))) as u8);
                let levels = codebook::IQ3_XXS.levels((*point).into());
                for (i, (out, level)) in out.iter_mut().zip(levels).enumerate() {
                    *out = scale * LEVELS[level] * sign(signs, k % 2 * 4 + i);
                }
            }
        }
    }
}

impl Quantizer for IQ3XXS {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;
    // Points of the codebook are looked at by the vector, and there are not many.
    const PAIRS: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockIQ3XXS]) {
        const SETTINGS: Settings = Settings {
            least: 1e-8,
            step: 0.2,
            even_signs: true,
            fitted: false,
            again: Again::OffGrid,
        };
        let book = &codebook::IQ3_XXS;
        let (near, weighing) = (book.near(), Weighing::Squares(2.0));
        let count = blocks.len();
        fit_all::<S, 4, LEN, 8, 31>(s, rows, count, book, weighing, SETTINGS, |number, subs| {
            let block = &mut blocks[number];
            *block = Zeroable::zeroed();
            let Some((d, codes)) = scale_codes::<SUBS>(|i| subs[i].scale, 15) else { return };
            // ggml has found the factor by trying.
            block.d = F16Le::from_f32(d * 1.0125);
            for (j, (sub, scale)) in subs.iter().zip(codes).enumerate() {
                block.qs[j] = sub.codes.map(|code| near.index(code) as u8);
                let signs = sub.signs.iter().enumerate();
                let word = signs.fold(u32::from(scale) << 28, |word, (k, signs)| {
                    word | u32::from(signs & 127) << (7 * k)
                });
                block.scales_and_signs[j] = word.to_le_bytes();
            }
        });
    }
}
