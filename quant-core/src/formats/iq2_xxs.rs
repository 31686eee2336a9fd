//! IQ2_XXS: 256 values, a half-precision scale, and for each 32 values a 4-bit scale, four points of a
//! codebook of 256 for eight values each, and seven signs for each.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    codebook::{LEVELS_2, Weighing, even_signs, fit_all, scale_codes, sign},
};
use crate::{
    GgmlType, codebook,
    lanes::Lanes,
    search::{Again, GROUP_MAX_EPS, Settings},
};

const LEN: usize = 32;
const SUBS: usize = QK_K / LEN;

/// A block of IQ2_XXS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ2XXS {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// For each sub-block the indices of its points, and a word: seven bits of signs for each point, the
    /// eighth making their number even, and the scale in the highest four bits.
    pub qs: [[u8; 8]; SUBS],
}

const _: () = assert!(size_of::<BlockIQ2XXS>() == GgmlType::IQ2_XXS.block_bytes());

/// The format of [`GgmlType::IQ2_XXS`].
#[derive(Debug)]
pub struct IQ2XXS;

impl BlockFormat for IQ2XXS {
    type Block = BlockIQ2XXS;
    const TYPE: GgmlType = GgmlType::IQ2_XXS;

    #[inline(always)]
    fn dequantize(block: &BlockIQ2XXS, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (out, qs) in out.chunks_exact_mut(LEN).zip(block.qs) {
            let [points @ .., a, b, c, e] = qs;
            let word = u32::from_le_bytes([a, b, c, e]);
            let scale = d * (0.5 + (word >> 28) as f32) * 0.25;
            for (k, (out, point)) in out.chunks_exact_mut(8).zip(points).enumerate() {
                let signs = even_signs((word >> (7 * k)) as u8);
                let levels = codebook::IQ2_XXS.levels(point.into());
                for (i, (out, level)) in out.iter_mut().zip(levels).enumerate() {
                    *out = scale * LEVELS_2[level] * sign(signs, i);
                }
            }
        }
    }
}

impl Quantizer for IQ2XXS {
    const IMPORTANCE: Importance = Importance::Needed;
    const SEARCHES: bool = true;
    // Points of the codebook are looked at by the vector, and there are not many.
    const PAIRS: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockIQ2XXS]) {
        const SETTINGS: Settings = Settings {
            least: GROUP_MAX_EPS,
            step: 0.1,
            even_signs: true,
            fitted: true,
            again: Again::Always,
        };
        let book = &codebook::IQ2_XXS;
        let (near, weighing) = (book.near(), Weighing::Squares(1.0));
        let count = blocks.len();
        fit_all::<S, 8, LEN, 4, 13>(s, rows, count, book, weighing, SETTINGS, |number, subs| {
            let block = &mut blocks[number];
            *block = Zeroable::zeroed();
            let Some((d, codes)) = scale_codes::<SUBS>(|i| subs[i].scale, 15) else { return };
            block.d = F16Le::from_f32(d);
            for ((qs, sub), scale) in block.qs.iter_mut().zip(subs).zip(codes) {
                let mut word = u32::from(scale) << 28;
                let groups = sub.codes.into_iter().zip(sub.signs);
                for ((k, q), (code, signs)) in qs[..4].iter_mut().enumerate().zip(groups) {
                    *q = near.index(code) as u8;
                    word |= u32::from(signs & 127) << (7 * k);
                }
                qs[4..].copy_from_slice(&word.to_le_bytes());
            }
        });
    }
}
