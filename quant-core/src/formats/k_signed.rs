//! What the formats with sixteen sub-blocks of 16 values (Q2_K, Q3_K, Q6_K) share.

use super::{
    QK_K, Rows,
    batch::{Batch, word},
};
use crate::lanes::{Lanes, nearest_clamped};

pub(super) const SUB: usize = 16;
pub(super) const SUBS: usize = QK_K / SUB;

/// The values of a batch, by sub-block.
pub(super) type Values<S> = [[<S as Lanes>::F32; SUB]; SUBS];

/// Loads the super-blocks of a batch and sums their squares in order.
#[inline(always)]
pub(super) fn load<S: Lanes>(s: S, rows: &Rows<'_>, batch: &Batch, x: &mut Values<S>) -> S::F32 {
    let mut sum = s.splat(0.0);
    for (j, x) in x.iter_mut().enumerate() {
        let starts = batch.starts.map(|start| start + j * SUB);
        s.load_columns(rows.values, &starts, x);
        for &v in x.iter() {
            sum = s.add(sum, s.mul(v, v));
        }
    }
    sum
}

/// Final codes of a sub-block, `round(x / scale)` limited to `-half..half` and offset by `half`;
/// where the scale is zero, the codes of the search stay.
#[inline(always)]
pub(super) fn recode<S: Lanes>(
    s: S,
    x: &[S::F32; SUB],
    scale: S::F32,
    half: i32,
    codes: &mut [S::I32],
) {
    let keep = s.eq(scale, s.splat(0.0));
    for (code, &x) in codes.iter_mut().zip(x) {
        let nearest = nearest_clamped(s, s.div(x, scale), -half, half - 1);
        *code = s.select_i(keep, *code, s.add_i(nearest, s.splat_i(half)));
    }
}

/// The low two bits of 256 codes as 64 bytes: of each 128 codes, byte `i` holds codes `i`,
/// `i + 32`, `i + 64` and `i + 96`, lowest bits first.
#[inline(always)]
pub(super) fn two_bit_words<S: Lanes>(s: S, codes: &[S::I32; QK_K]) -> [S::I32; 16] {
    let low = s.splat_i(3);
    let mut words = [s.splat_i(0); 16];
    for (w, out) in words.iter_mut().enumerate() {
        let at = w / 8 * 128 + w % 8 * 4;
        let mut bytes = [s.splat_i(0); 4];
        for (i, byte) in bytes.iter_mut().enumerate() {
            for quarter in (0..4).rev() {
                let bits = s.and_i(codes[at + i + 32 * quarter], low);
                *byte = s.or_i(s.shl::<2>(*byte), bits);
            }
        }
        *out = word(s, bytes);
    }
    words
}
