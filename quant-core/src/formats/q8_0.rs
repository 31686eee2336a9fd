//! Q8_0: 32 values, a half-precision scale, signed 8-bit codes.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, Quantizer, Rows,
    batch::{scatter, scatter_f16, word},
};
use crate::{GgmlType, lanes::Lanes, search::signed_extreme};

const LEN: usize = 32;

/// A block of Q8_0: value `i` is `d · qs[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// Codes, two's complement.
    pub qs: [u8; LEN],
}

const _: () = assert!(size_of::<BlockQ8_0>() == GgmlType::Q8_0.block_bytes());

/// The format of [`GgmlType::Q8_0`]. It has no search: importance does not change its bytes.
#[derive(Debug)]
pub struct Q8_0;

impl BlockFormat for Q8_0 {
    type Block = BlockQ8_0;
    const TYPE: GgmlType = GgmlType::Q8_0;

    #[inline(always)]
    fn dequantize(block: &BlockQ8_0, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (out, q) in out.iter_mut().zip(block.qs) {
            *out = f32::from(q as i8) * d;
        }
    }
}

impl Quantizer for Q8_0 {
    const IMPORTANCE: Importance = Importance::Ignored;
    const SEARCHES: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockQ8_0]) {
        let count = blocks.len();
        let mut x = [s.splat(0.0); LEN];
        let mut words = [s.splat_i(0); LEN / 4];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, LEN);
            s.load_columns(rows.values, &batch.starts, &mut x);
            let (_, magnitude) = signed_extreme(s, &x);
            let d = s.div(magnitude, s.splat(127.0));
            let zero = s.splat(0.0);
            // An inverse that overflows gives codes of zero in ggml too.
            let inverse = s.div(s.splat(1.0), d);
            let inverse = s.select(s.lt(inverse, s.splat(f32::INFINITY)), inverse, zero);
            for (w, out) in words.iter_mut().enumerate() {
                let mut bytes = [s.splat_i(0); 4];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    let code = round_half_away(s, s.mul(x[4 * w + i], inverse));
                    *byte = s.and_i(code, s.splat_i(0xff));
                }
                *out = word(s, bytes);
            }
            let blocks = &mut blocks[batch.first..batch.first + batch.live];
            scatter_f16(s, s.to_f16_bits(d), blocks, |b| &mut b.d);
            scatter(s, &words, blocks, |b| &mut b.qs);
        }
    }
}

/// Rounds as C's `roundf` does, halves away from zero, for magnitudes below 2²².
///
/// Adding a half and truncating is wrong for 0.49999997; the remainder decides instead.
#[inline(always)]
fn round_half_away<S: Lanes>(s: S, v: S::F32) -> S::I32 {
    let whole = s.trunc(v);
    let remainder = s.sub(v, s.to_f32(whole));
    let half = s.splat(0.5);
    let up = s.select_i(s.le(half, remainder), s.splat_i(1), s.splat_i(0));
    let down = s.select_i(s.le(remainder, s.splat(-0.5)), s.splat_i(1), s.splat_i(0));
    s.sub_i(s.add_i(whole, up), down)
}
