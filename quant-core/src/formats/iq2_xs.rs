//! IQ2_XS: 256 values, a half-precision scale, and for each 16 values a 4-bit scale, two points of a
//! codebook of 512 for eight values each, and seven signs for each.

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

const LEN: usize = 16;
const SUBS: usize = QK_K / LEN;

/// A block of IQ2_XS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ2XS {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// For each eight values the index of their point in nine bits, and seven bits of signs, the
    /// eighth making their number even.
    pub qs: [[u8; 2]; QK_K / 8],
    /// Scales of the sub-blocks, two in a byte, the lower nibble first.
    pub scales: [u8; SUBS / 2],
}

const _: () = assert!(size_of::<BlockIQ2XS>() == GgmlType::IQ2_XS.block_bytes());

/// The format of [`GgmlType::IQ2_XS`].
#[derive(Debug)]
pub struct IQ2XS;

impl BlockFormat for IQ2XS {
    type Block = BlockIQ2XS;
    const TYPE: GgmlType = GgmlType::IQ2_XS;

    #[inline(always)]
    fn dequantize(block: &BlockIQ2XS, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (k, (out, qs)) in out.chunks_exact_mut(8).zip(block.qs).enumerate() {
            let code = block.scales[k / 4] >> (4 * (k / 2 % 2)) & 15;
            let scale = d * (0.5 + f32::from(code)) * 0.25;
            let q = u16::from_le_bytes(qs);
            let signs = even_signs((q >> 9) as u8);
            let levels = codebook::IQ2_XS.levels(usize::from(q & 511));
            for (i, (out, level)) in out.iter_mut().zip(levels).enumerate() {
                *out = scale * LEVELS_2[level] * sign(signs, i);
            }
        }
    }
}

impl Quantizer for IQ2XS {
    const IMPORTANCE: Importance = Importance::Needed;
    const SEARCHES: bool = true;
    // Points of the codebook are looked at by the vector, and there are not many.
    const PAIRS: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockIQ2XS]) {
        const SETTINGS: Settings = Settings {
            least: GROUP_MAX_EPS,
            step: 0.1,
            even_signs: true,
            fitted: false,
            again: Again::OffGrid,
        };
        let book = &codebook::IQ2_XS;
        let (near, weighing) = (book.near(), Weighing::Squares(1.0));
        let count = blocks.len();
        fit_all::<S, 8, LEN, 2, 19>(s, rows, count, book, weighing, SETTINGS, |number, subs| {
            let block = &mut blocks[number];
            *block = Zeroable::zeroed();
            let Some((d, codes)) = scale_codes::<SUBS>(|i| subs[i].scale, 15) else { return };
            block.d = F16Le::from_f32(d);
            for (j, (sub, scale)) in subs.iter().zip(codes).enumerate() {
                block.scales[j / 2] |= scale << (4 * (j % 2));
                for k in 0..2 {
                    let signs = u16::from(sub.signs[k] & 127);
                    block.qs[2 * j + k] = (near.index(sub.codes[k]) | signs << 9).to_le_bytes();
                }
            }
        });
    }
}
