//! The search for the scale of a super-block's scales (ggml's `make_qp_quants`).

use super::GROUP_MAX_EPS;
use crate::lanes::{Call, Lanes, nearest_int};

/// Finds the scale of `LEN` values that are not negative, coded as `0..=largest`, by nine
/// candidates and up to five sweeps of coordinate descent. Returns the scale and the codes.
///
/// Codes are bytes in ggml and wrap as such, should rounding noise make a value negative.
#[inline(always)]
pub(crate) fn fit_positive<S: Lanes, const LEN: usize>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    largest: i32,
) -> (S::F32, [S::I32; LEN]) {
    s.call(FitPositive::<S, LEN> { x, weights, largest })
}

/// As [`fit_positive`] says.
struct FitPositive<'a, S: Lanes, const LEN: usize> {
    x: &'a [S::F32; LEN],
    weights: &'a [S::F32; LEN],
    largest: i32,
}

impl<S: Lanes, const LEN: usize> Call<S> for FitPositive<'_, S, LEN> {
    type Output = (S::F32, [S::I32; LEN]);

    #[inline(always)]
    fn eval(self, s: S) -> (S::F32, [S::I32; LEN]) {
        let Self { x, weights, largest } = self;
        let zero = s.splat(0.0);
        let byte = s.splat_i(0xff);
        let largest_i = s.splat_i(largest);

        let mut max = zero;
        for &v in x {
            max = s.max(max, v);
        }
        let all_zero = s.lt(max, s.splat(GROUP_MAX_EPS));
        let max = s.select(all_zero, s.splat(1.0), max);

        let mut inverse = s.div(s.splat(largest as f32), max);
        let scale = s.div(s.splat(1.0), inverse);
        let mut best = zero;
        for i in 0..LEN {
            let l = s.to_f32(s.and_i(nearest_int(s, s.mul(inverse, x[i])), byte));
            best = s.add(best, weighted_square(s, weights[i], s.sub(x[i], s.mul(scale, l))));
        }
        for i in -4..=4 {
            if i == 0 {
                continue;
            }
            let candidate = s.div(s.splat(0.1f32 * i as f32 + largest as f32), max);
            let scale = s.div(s.splat(1.0), candidate);
            let mut error = zero;
            for i in 0..LEN {
                let l = s.to_f32(s.min_i(largest_i, nearest_int(s, s.mul(candidate, x[i]))));
                error = s.add(error, weighted_square(s, weights[i], s.sub(x[i], s.mul(scale, l))));
            }
            let better = s.lt(error, best);
            best = s.select(better, error, best);
            inverse = s.select(better, candidate, inverse);
        }

        let mut codes = [s.splat_i(0); LEN];
        let (mut sum_lx, mut sum_l2) = (zero, zero);
        for i in 0..LEN {
            let code = s.min_i(largest_i, nearest_int(s, s.mul(inverse, x[i])));
            codes[i] = s.and_i(code, byte);
            let l = s.to_f32(code);
            sum_lx = s.add(sum_lx, s.mul(s.mul(weights[i], x[i]), l));
            sum_l2 = s.add(sum_l2, s.mul(s.mul(weights[i], l), l));
        }
        let mut sums = [sum_lx, sum_l2];
        for _ in 0..5 {
            let mut moved = false;
            for i in 0..LEN {
                let step = Step::new(s, x[i], weights[i], codes[i], largest_i, sums);
                // Most values stay: a branch, and not a selection, lets the next one begin before that is known.
                if !s.any(step.accept) {
                    continue;
                }
                codes[i] = s.select_i(step.accept, s.and_i(step.code, byte), codes[i]);
                for (sum, new) in sums.iter_mut().zip(step.sums) {
                    *sum = s.select(step.accept, new, *sum);
                }
                moved |= s.any(s.and(step.accept, s.not(all_zero)));
            }
            if !moved {
                break;
            }
        }
        let [sum_lx, sum_l2] = sums;
        for code in &mut codes {
            *code = s.select_i(all_zero, s.splat_i(0), *code);
        }
        let usable = s.and(s.lt(zero, sum_l2), s.not(all_zero));
        (s.select(usable, s.div(sum_lx, sum_l2), zero), codes)
    }
}

/// A step of the descent: the best code for one value, the others being as they are.
struct Step<S: Lanes> {
    code: S::I32,
    /// Σ w·x·l and Σ w·l² with this code.
    sums: [S::F32; 2],
    /// Whether it is another, and a better one.
    accept: S::Mask,
}

impl<S: Lanes> Step<S> {
    #[inline(always)]
    fn new(
        s: S,
        x: S::F32,
        w: S::F32,
        code: S::I32,
        largest: S::I32,
        [sum_lx, sum_l2]: [S::F32; 2],
    ) -> Self {
        let zero = s.splat(0.0);
        let (wx, l) = (s.mul(w, x), s.to_f32(code));
        let rest_lx = s.sub(sum_lx, s.mul(wx, l));
        let rest_l2 = s.sub(sum_l2, s.mul(s.mul(w, l), l));
        let target = s.div(s.mul(x, rest_l2), rest_lx);
        let new_code = s.min_i(largest, nearest_int(s, target));
        let new_l = s.to_f32(new_code);
        let new_lx = s.add(rest_lx, s.mul(wx, new_l));
        let new_l2 = s.add(rest_l2, s.mul(s.mul(w, new_l), new_l));
        let improves =
            s.lt(s.mul(s.mul(sum_lx, sum_lx), new_l2), s.mul(s.mul(new_lx, new_lx), sum_l2));
        let differs = s.not(s.eq_i(new_code, code));
        let positive = s.and(s.lt(zero, rest_lx), s.lt(zero, rest_l2));
        let accept = s.and(positive, s.and(differs, improves));
        Self { code: new_code, sums: [new_lx, new_l2], accept }
    }
}

/// `(w · d) · d`.
#[inline(always)]
fn weighted_square<S: Lanes>(s: S, weight: S::F32, difference: S::F32) -> S::F32 {
    s.mul(s.mul(weight, difference), difference)
}
