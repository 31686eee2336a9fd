//! The one-parameter search: a signed scale (ggml's `make_qx_quants`).

use super::GROUP_MAX_EPS;
use crate::lanes::{Call, Lanes, clamp_above, nearest_clamped, nearest_clamped_float};

/// A scale per lane, and what the codes follow from.
pub(crate) struct Scale<S: Lanes> {
    /// The scale; zero for an all-zero block.
    pub(crate) scale: S::F32,
    inverse: S::F32,
    zero: S::Mask,
}

impl<S: Lanes> Scale<S> {
    /// The code of a value, offset to `0..2 * half`; zero throughout an all-zero block.
    #[inline(always)]
    pub(crate) fn code(&self, s: S, x: S::F32, half: i32) -> S::I32 {
        let code = nearest_clamped(s, s.mul(self.inverse, x), -half, half - 1);
        s.select_i(self.zero, s.splat_i(0), s.add_i(code, s.splat_i(half)))
    }
}

/// The value of largest magnitude, the first of equals, and that magnitude.
#[inline(always)]
pub(crate) fn signed_extreme<S: Lanes>(s: S, x: &[S::F32]) -> (S::F32, S::F32) {
    // As signed integers the bits of negative floats are below those of all others, as unsigned
    // ones above, further from zero higher: two integer maximums find both ends.
    let (mut high, mut low) = (s.splat_i(0), s.splat_i(0));
    for &v in x {
        high = s.max_i(high, s.bits(v));
        low = s.max_u(low, s.bits(v));
    }
    let low_magnitude = s.and_i(low, s.splat_i(i32::MAX));
    let bits = s.max_i(high, low_magnitude);
    let magnitude = s.bits_to_f32(bits);
    let ordered = s.le(magnitude, s.splat(f32::INFINITY));
    let same = s.and(s.eq_i(low_magnitude, high), s.not(s.eq_i(low, high)));
    if s.any(same) || s.any(s.not(ordered)) {
        return first_extreme(s, x);
    }
    (s.bits_to_f32(s.select_i(s.eq_i(bits, high), high, low)), magnitude)
}

/// [`signed_extreme`] where both ends may be as far from zero, when the first decides, or where there
/// are NaNs, which do not count.
#[inline(always)]
fn first_extreme<S: Lanes>(s: S, x: &[S::F32]) -> (S::F32, S::F32) {
    let (mut extreme, mut magnitude) = (s.splat(0.0), s.splat(0.0));
    for &v in x {
        let a = s.abs(v);
        let larger = s.lt(magnitude, a);
        magnitude = s.select(larger, a, magnitude);
        extreme = s.select(larger, v, extreme);
    }
    (extreme, magnitude)
}

/// Finds the scale of `LEN` values, coded as `-half..half`, that minimises the weighted squared
/// error over 19 candidates. They are independent of each other.
///
/// `FINITE` says that the values are finite; what comes out of another search need not be.
#[inline(always)]
pub(crate) fn fit_scale<S: Lanes, const LEN: usize, const FINITE: bool>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    half: i32,
) -> Scale<S> {
    s.call(FitScale::<S, LEN, FINITE> { x, weights, half })
}

/// As [`fit_scale`] says.
struct FitScale<'a, S: Lanes, const LEN: usize, const FINITE: bool> {
    x: &'a [S::F32; LEN],
    weights: &'a [S::F32; LEN],
    half: i32,
}

impl<S: Lanes, const LEN: usize, const FINITE: bool> Call<S> for FitScale<'_, S, LEN, FINITE> {
    type Output = Scale<S>;

    #[inline(always)]
    fn eval(self, s: S) -> Scale<S> {
        let Self { x, weights, half } = self;
        let zero = s.splat(0.0);
        let half_f = half as f32;
        let (extreme, magnitude) = signed_extreme(s, x);
        let all_zero = s.lt(magnitude, s.splat(GROUP_MAX_EPS));
        let extreme = s.select(all_zero, s.splat(1.0), extreme);

        let mut wx = [zero; LEN];
        for i in 0..LEN {
            wx[i] = s.mul(weights[i], x[i]);
        }

        let mut inverse = s.div(s.splat(-half_f), extreme);
        let (sum_lx, sum_l2) = sums::<S, LEN, FINITE>(s, x, weights, &wx, inverse, half, 0);
        let usable = s.not(s.eq(sum_l2, zero));
        let mut scale = s.select(usable, s.div(sum_lx, sum_l2), zero);
        let mut best = s.mul(scale, sum_lx);
        for i in -9..=9 {
            if i == 0 {
                continue;
            }
            let candidate = s.div(s.splat(-(half_f + 0.1f32 * i as f32)), extreme);
            let (sum_lx, sum_l2) = sums::<S, LEN, FINITE>(s, x, weights, &wx, candidate, half, i);
            let better =
                s.and(s.lt(zero, sum_l2), s.lt(s.mul(best, sum_l2), s.mul(sum_lx, sum_lx)));
            let new_scale = s.div(sum_lx, sum_l2);
            scale = s.select(better, new_scale, scale);
            best = s.select(better, s.mul(new_scale, sum_lx), best);
            inverse = s.select(better, candidate, inverse);
        }
        Scale { scale: s.select(all_zero, zero, scale), inverse, zero: all_zero }
    }
}

/// The limits that codes of a signed scale are held to; constants because they select code.
struct Held;

impl Held {
    /// |inverse·x| is below `half` and a half: only the upper limit, `half - 1`, can be passed.
    const HIGH: u8 = 0;
    const BOTH: u8 = 1;
    /// Both, by the rounding that makes a code even of a NaN as ggml's does.
    const WRAP: u8 = 2;
}

/// Σ w·x·l and Σ w·l² for the codes of candidate `i`, whose inverse makes the extreme of `x` the code
/// `-(half + i / 10)`.
#[inline(always)]
fn sums<S: Lanes, const LEN: usize, const FINITE: bool>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    wx: &[S::F32; LEN],
    inverse: S::F32,
    half: i32,
    i: i32,
) -> (S::F32, S::F32) {
    if !FINITE {
        limited_sums::<S, LEN, { Held::WRAP }>(s, x, weights, wx, inverse, half)
    } else if i < 5 {
        limited_sums::<S, LEN, { Held::HIGH }>(s, x, weights, wx, inverse, half)
    } else {
        limited_sums::<S, LEN, { Held::BOTH }>(s, x, weights, wx, inverse, half)
    }
}

/// [`sums`]; |inverse·x| is at most `half` and one, so that the cheap rounding is exact.
#[inline(always)]
fn limited_sums<S: Lanes, const LEN: usize, const LIMITS: u8>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    wx: &[S::F32; LEN],
    inverse: S::F32,
    half: i32,
) -> (S::F32, S::F32) {
    let (mut sum_lx, mut sum_l2) = (s.splat(0.0), s.splat(0.0));
    let (low, high) = (-half as f32, (half - 1) as f32);
    for i in 0..LEN {
        let value = s.mul(inverse, x[i]);
        let code = match LIMITS {
            Held::HIGH => s.round(clamp_above(s, value, high)),
            Held::BOTH => nearest_clamped_float(s, value, low, high),
            _ => s.to_f32(nearest_clamped(s, value, -half, half - 1)),
        };
        sum_lx = s.add(sum_lx, s.mul(wx[i], code));
        sum_l2 = s.add(sum_l2, s.mul(s.mul(weights[i], code), code));
    }
    (sum_lx, sum_l2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::{Scalar, clamp};

    /// Values among which ties, opposite ties and both zeros are frequent.
    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            (-3i8..=3).prop_map(f32::from),
            Just(-0.0),
            any::<f32>().prop_filter("finite", |v| v.is_finite()),
        ]
    }

    proptest! {
        #[test]
        fn the_extreme_is_the_first_of_the_largest(x in prop::collection::vec(value(), 1..40)) {
            let (extreme, magnitude) = signed_extreme(Scalar, &x);
            let largest = x.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
            let first = x.iter().copied().find(|v| v.abs() == largest && largest > 0.0);
            prop_assert_eq!(magnitude.to_bits(), largest.to_bits());
            prop_assert_eq!(extreme.to_bits(), first.unwrap_or(0.0).to_bits());
        }

        #[test]
        fn integers_limit_as_floats_do(v in value(), lo in 0u8..40, hi in 0u8..40) {
            let (lo, hi) = (-f32::from(lo), f32::from(hi));
            prop_assert_eq!(clamp(Scalar, v, lo, hi), v.clamp(lo, hi));
        }
    }
}
