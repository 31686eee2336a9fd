//! IQ4_NL: 32 values, a half-precision scale, 4-bit codes of sixteen values that are not evenly
//! spaced.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, Quantizer, Rows,
    batch::{scatter, scatter_f16, weigh},
    q4_0::nibbles,
};
use crate::{
    GgmlType,
    lanes::{Call, Lanes},
    search::{GROUP_MAX_EPS, signed_extreme},
};

pub(super) const LEN: usize = 32;

/// What the codes stand for, in units of the scale (ggml's `kvalues_iq4nl`).
pub(crate) const VALUES: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

/// The middles between neighbours in [`VALUES`], from which on the upper one is nearer. ggml compares
/// the two distances instead; both are exact next to a middle, so that the choice is the same.
const MIDDLES: [f32; 15] = {
    let mut middles = [0.0; 15];
    let mut i = 0;
    while i < middles.len() {
        middles[i] = (VALUES[i] + VALUES[i + 1]) / 2.0;
        i += 1;
    }
    middles
};

/// [`MIDDLES`] as a table; what lies beyond them is never reached.
const PADDED_MIDDLES: [f32; 16] = {
    let mut table = [f32::INFINITY; 16];
    let mut i = 0;
    while i < MIDDLES.len() {
        table[i] = MIDDLES[i];
        i += 1;
    }
    table
};

/// A block of IQ4_NL: value `i` is `d` times what its code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ4NL {
    /// Scale, half-precision bits.
    pub d: F16Le,
    /// Codes: the low nibbles hold values 0..16, the high nibbles 16..32.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockIQ4NL>() == GgmlType::IQ4_NL.block_bytes());

/// The format of [`GgmlType::IQ4_NL`].
#[derive(Debug)]
pub struct IQ4NL;

impl BlockFormat for IQ4NL {
    type Block = BlockIQ4NL;
    const TYPE: GgmlType = GgmlType::IQ4_NL;

    #[inline(always)]
    fn dequantize(block: &BlockIQ4NL, out: &mut [f32]) {
        let d = block.d.to_f32();
        let (low, high) = out.split_at_mut(LEN / 2);
        for ((low, high), q) in low.iter_mut().zip(high).zip(block.qs) {
            *low = d * VALUES[usize::from(q & 15)];
            *high = d * VALUES[usize::from(q >> 4)];
        }
    }
}

impl Quantizer for IQ4NL {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;
    // Its candidates keep enough additions in flight.
    const PAIRS: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockIQ4NL]) {
        let count = blocks.len();
        let zero = s.splat(0.0);
        let mut x = [zero; LEN];
        let mut codes = [s.splat_i(0); LEN];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, LEN);
            s.load_columns(rows.values, &batch.starts, &mut x);
            let weights = match rows.importance {
                Some(importance) => {
                    let mut sum = zero;
                    for v in x {
                        sum = s.add(sum, s.mul(v, v));
                    }
                    let sigma2 = s.mul(sum, s.splat(2.0 / LEN as f32));
                    weigh(s, &x, importance, &batch.columns, sigma2)
                }
                None => {
                    let mut squares = x;
                    for v in &mut squares {
                        *v = s.mul(*v, *v);
                    }
                    squares
                }
            };
            let d = fit(s, &x, &weights);
            // The codes follow from the scale itself, not from the candidate that led to it.
            let inverse = s.select(s.eq(d, zero), zero, s.div(s.splat(1.0), d));
            for i in 0..LEN {
                codes[i] = nearest(s, s.mul(inverse, x[i]));
            }
            let blocks = &mut blocks[batch.first..batch.first + batch.live];
            scatter_f16(s, s.to_f16_bits(d), blocks, |b| &mut b.d);
            scatter(s, &nibbles(s, &codes), blocks, |b| &mut b.qs);
        }
    }
}

/// Candidates on each side of the middle one, after one of the other sign.
const TRIES: i32 = 7;
const CANDIDATES: usize = 2 * TRIES as usize + 1;

/// The scale with the least weighted squared error of sixteen candidates (ggml's
/// `quantize_row_iq4_nl_impl`).
#[inline(always)]
pub(super) fn fit<S: Lanes>(s: S, x: &[S::F32; LEN], weights: &[S::F32; LEN]) -> S::F32 {
    s.call(Fit::<S> { x, weights })
}

/// As [`fit`] says.
struct Fit<'a, S: Lanes> {
    x: &'a [S::F32; LEN],
    weights: &'a [S::F32; LEN],
}

impl<S: Lanes> Call<S> for Fit<'_, S> {
    type Output = S::F32;

    #[inline(always)]
    fn eval(self, s: S) -> S::F32 {
        let Self { x, weights } = self;
        let zero = s.splat(0.0);
        let (extreme, magnitude) = signed_extreme(s, x);
        let all_zero = s.lt(magnitude, s.splat(GROUP_MAX_EPS));
        let extreme = s.select(all_zero, s.splat(1.0), extreme);

        // Two divisions, as ggml has them. The extreme value becomes 127 here and −127 below.
        let start = s.div(s.mul(extreme, s.splat(-1.0)), s.splat(VALUES[0]));
        let inverse = s.div(s.splat(1.0), start);
        let (mut sum_qx, mut sum_q2) = (zero, zero);
        for i in 0..LEN {
            let q = s.look_up(&VALUES, nearest(s, s.mul(inverse, x[i])));
            let wq = s.mul(weights[i], q);
            sum_qx = s.add(sum_qx, s.mul(wq, x[i]));
            sum_q2 = s.add(sum_q2, s.mul(wq, q));
        }
        let mut d = s.select(s.lt(zero, sum_q2), s.div(sum_qx, sum_q2), zero);
        let mut best = s.mul(d, sum_qx);

        let mut inverses = [zero; CANDIDATES];
        for (inverse, i) in inverses.iter_mut().zip(-TRIES..=TRIES) {
            *inverse = s.div(s.splat(i as f32 + VALUES[0]), extreme);
        }
        // As many at a time as there are registers for their sums.
        let sums = match S::N {
            16.. => all_sums::<S, 5>(s, x, weights, &inverses),
            _ => all_sums::<S, 3>(s, x, weights, &inverses),
        };
        for (sum_qx, sum_q2) in sums {
            let improves = s.lt(s.mul(best, sum_q2), s.mul(sum_qx, sum_qx));
            let better = s.and(s.lt(zero, sum_q2), improves);
            if s.any(better) {
                d = s.select(better, s.div(sum_qx, sum_q2), d);
                best = s.select(better, s.mul(d, sum_qx), best);
            }
        }
        s.select(all_zero, zero, d)
    }
}

/// The candidates make the extreme value −134 to −120. A value that passes a middle on the way does not
/// reach the next: its code is one of two in all of them.
const _: () = {
    let (first, last) = (-VALUES[0] + TRIES as f32, -VALUES[0] - TRIES as f32);
    let mut i = 0;
    while i < MIDDLES.len() - 1 {
        let (a, b) = (MIDDLES[i], MIDDLES[i + 1]);
        let (near, far) = if b < 0.0 { (-b, -a) } else { (a, b) };
        assert!(near < 0.0 || far * last > near * first * 1.01);
        i += 1;
    }
};

/// Σ w·q·x and Σ w·q² for the values `q` nearest to `inverse · x`, for inverses between the first and
/// the last.
#[inline(always)]
fn all_sums<S: Lanes, const AT_A_TIME: usize>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    inverses: &[S::F32; CANDIDATES],
) -> [(S::F32, S::F32); CANDIDATES] {
    const { assert!(CANDIDATES.is_multiple_of(AT_A_TIME)) }
    let zero = s.splat(0.0);
    // Of each value the products with the lower and the higher of its two codes, and what lies between.
    let mut products = [[zero; 4]; LEN];
    let mut middles = [zero; LEN];
    for i in 0..LEN {
        let a = nearest(s, s.mul(inverses[0], x[i]));
        let b = nearest(s, s.mul(inverses[CANDIDATES - 1], x[i]));
        let low = s.min_i(a, b);
        middles[i] = s.look_up(&PADDED_MIDDLES, low);
        let (low, high) = (s.look_up(&VALUES, low), s.look_up(&VALUES, s.max_i(a, b)));
        let (wl, wh) = (s.mul(weights[i], low), s.mul(weights[i], high));
        products[i] = [s.mul(wl, x[i]), s.mul(wl, low), s.mul(wh, x[i]), s.mul(wh, high)];
    }
    let mut sums = [(zero, zero); CANDIDATES];
    for (sums, inverses) in sums.chunks_exact_mut(AT_A_TIME).zip(inverses.chunks_exact(AT_A_TIME)) {
        let (mut sum_qx, mut sum_q2) = ([zero; AT_A_TIME], [zero; AT_A_TIME]);
        for i in 0..LEN {
            let [low_qx, low_q2, high_qx, high_q2] = products[i];
            for c in 0..AT_A_TIME {
                let below = s.lt(s.mul(inverses[c], x[i]), middles[i]);
                sum_qx[c] = s.add(sum_qx[c], s.select(below, low_qx, high_qx));
                sum_q2[c] = s.add(sum_q2[c], s.select(below, low_q2, high_q2));
            }
        }
        for c in 0..AT_A_TIME {
            sums[c] = (sum_qx[c], sum_q2[c]);
        }
    }
    sums
}

/// The code of the value nearest to `v`; the highest for a NaN, as ggml's search ends there.
#[inline(always)]
pub(super) fn nearest<S: Lanes>(s: S, v: S::F32) -> S::I32 {
    // A binary search.
    let mut code = s.splat_i(0);
    for step in [8, 4, 2, 1] {
        let middle = s.look_up(&PADDED_MIDDLES, s.add_i(code, s.splat_i(step - 1)));
        let up = s.not(s.lt(v, middle));
        code = s.select_i(up, s.add_i(code, s.splat_i(step)), code);
    }
    code
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::Scalar;

    /// ggml's `best_index_int8`.
    fn by_distance(x: f32) -> i32 {
        if x <= VALUES[0] {
            return 0;
        }
        if x >= VALUES[15] {
            return 15;
        }
        let (mut low, mut high) = (0, 15);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if x < VALUES[middle] {
                high = middle;
            } else {
                low = middle;
            }
        }
        (if x - VALUES[high - 1] < VALUES[high] - x { high - 1 } else { high }) as i32
    }

    #[test]
    fn codes_are_those_of_the_smaller_distance() {
        for middle in MIDDLES.into_iter().chain(VALUES) {
            for ulps in -4i32..=4 {
                let x = f32::from_bits((middle.to_bits() as i32 + ulps) as u32);
                assert_eq!(nearest(Scalar, x), by_distance(x), "{x}");
            }
        }
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, f32::MIN] {
            assert_eq!(nearest(Scalar, x), by_distance(x), "{x}");
        }
    }

    /// ggml's search, one candidate after the other.
    fn by_trying(x: &[f32; LEN], weights: &[f32; LEN]) -> f32 {
        let mut extreme = 0.0f32;
        for v in x {
            extreme = if v.abs() > extreme.abs() { *v } else { extreme };
        }
        if extreme.abs() < GROUP_MAX_EPS {
            return 0.0;
        }
        let sums = |inverse: f32| {
            x.iter().zip(weights).fold((0.0, 0.0), |(sum_qx, sum_q2), (x, w)| {
                let q = VALUES[by_distance(inverse * x) as usize];
                (sum_qx + w * q * x, sum_q2 + w * q * q)
            })
        };
        let (sum_qx, sum_q2) = sums(1.0 / (-extreme / VALUES[0]));
        let mut d = if sum_q2 > 0.0 { sum_qx / sum_q2 } else { 0.0 };
        let mut best = d * sum_qx;
        for i in -7..=7 {
            let (sum_qx, sum_q2) = sums((i as f32 + VALUES[0]) / extreme);
            if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
                d = sum_qx / sum_q2;
                best = d * sum_qx;
            }
        }
        d
    }

    proptest! {
        #[test]
        fn codes_are_those_of_the_smaller_distance_anywhere(x in -140.0f32..140.0) {
            prop_assert_eq!(nearest(Scalar, x), by_distance(x));
        }

        #[test]
        fn scales_are_those_of_trying_all_candidates(
            x in prop::collection::vec(-1.0f32..1.0, LEN),
            weights in prop::collection::vec(0.0f32..1.0, LEN),
            exponent in -36i32..18,
        ) {
            let x = core::array::from_fn(|i| x[i] * 10f32.powi(exponent));
            let weights = core::array::from_fn(|i| weights[i]);
            let (found, expected) = (fit(Scalar, &x, &weights), by_trying(&x, &weights));
            prop_assert_eq!(found.to_bits(), expected.to_bits());
        }
    }
}
