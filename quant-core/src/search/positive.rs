//! The search for the scale of a super-block's scales (ggml's `make_qp_quants`).

use super::GROUP_MAX_EPS;
use crate::lanes::{Lanes, nearest_int};

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
    for _ in 0..5 {
        let mut moved = false;
        for i in 0..LEN {
            let w = weights[i];
            let wx = s.mul(w, x[i]);
            let l = s.to_f32(codes[i]);
            let rest_lx = s.sub(sum_lx, s.mul(wx, l));
            let rest_l2 = s.sub(sum_l2, s.mul(s.mul(w, l), l));
            let target = s.div(s.mul(x[i], rest_l2), rest_lx);
            let new_code = s.min_i(largest_i, nearest_int(s, target));
            let new_l = s.to_f32(new_code);
            let new_lx = s.add(rest_lx, s.mul(wx, new_l));
            let new_l2 = s.add(rest_l2, s.mul(s.mul(w, new_l), new_l));
            let improves =
                s.lt(s.mul(s.mul(sum_lx, sum_lx), new_l2), s.mul(s.mul(new_lx, new_lx), sum_l2));
            let differs = s.not(s.eq_i(new_code, codes[i]));
            let accept =
                s.and(s.and(s.lt(zero, rest_lx), s.lt(zero, rest_l2)), s.and(differs, improves));
            codes[i] = s.select_i(accept, s.and_i(new_code, byte), codes[i]);
            sum_lx = s.select(accept, new_lx, sum_lx);
            sum_l2 = s.select(accept, new_l2, sum_l2);
            moved |= s.any(s.and(accept, s.not(all_zero)));
        }
        if !moved {
            break;
        }
    }
    for code in &mut codes {
        *code = s.select_i(all_zero, s.splat_i(0), *code);
    }
    let usable = s.and(s.lt(zero, sum_l2), s.not(all_zero));
    (s.select(usable, s.div(sum_lx, sum_l2), zero), codes)
}

/// `(w · d) · d`.
#[inline(always)]
fn weighted_square<S: Lanes>(s: S, weight: S::F32, difference: S::F32) -> S::F32 {
    s.mul(s.mul(weight, difference), difference)
}
