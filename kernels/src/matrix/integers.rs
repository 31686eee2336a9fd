//! Formats whose values are looked up in a codebook, by plain code: compiled once for each format, not for
//! each instruction set.

use std::ops::Range;

use quant_core::formats::{FACTORS, Integers, QK_K};

use super::packed::GROUP;

/// A block of each row of a group, as integers.
pub(crate) struct Unpacked {
    /// Per four columns: four integers plus 128 of row 0, four of row 1, …
    pub(crate) codes: [[u8; 4 * GROUP]; QK_K / 4],
    /// Per sub-block: a factor of each row.
    pub(crate) factors: [[i32; GROUP]; FACTORS],
    /// A unit of each row.
    pub(crate) units: [f32; GROUP],
}

impl Unpacked {
    pub(crate) const EMPTY: Self = Self {
        codes: [[0; 4 * GROUP]; QK_K / 4],
        factors: [[0; GROUP]; FACTORS],
        units: [0.0; GROUP],
    };
}

/// Unpacks some rows of a block of a group.
pub(crate) type Unpack = fn(&[u8], Range<usize>, &mut Unpacked);

/// The [`Unpack`] of a format. The blocks of the rows follow each other.
pub(crate) fn unpack<F: Integers>(blocks: &[u8], rows: Range<usize>, out: &mut Unpacked) {
    let blocks: &[F::Block] = bytemuck::cast_slice(blocks);
    let (mut codes, mut factors) = ([0; QK_K], [0; FACTORS]);
    for r in rows {
        out.units[r] = F::integers(&blocks[r], &mut codes, &mut factors);
        for (out, factor) in out.factors.iter_mut().zip(factors) {
            out[r] = factor;
        }
        for (out, word) in out.codes.iter_mut().zip(codes.as_chunks::<4>().0) {
            out.as_chunks_mut::<4>().0[r] = *word;
        }
    }
}
