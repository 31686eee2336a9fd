//! The coordinate descent of Q3_K (ggml's `make_q3_quants`).

use super::{GROUP_MAX_EPS, scale::signed_extreme};
use crate::lanes::{Lanes, nearest_clamped};

/// Finds a scale for `LEN` values coded as `-half..half`, with weights `x²`: codes start from the
/// extreme value's scale and change one at a time while the fit improves, in up to five sweeps.
///
/// `codes` becomes the codes offset to `0..2 * half`, zero throughout an all-zero block.
#[inline(always)]
pub(crate) fn fit_scale_by_descent<S: Lanes, const LEN: usize>(
    s: S,
    x: &[S::F32; LEN],
    half: i32,
    codes: &mut [S::I32; LEN],
) -> S::F32 {
    let zero = s.splat(0.0);
    let (extreme, magnitude) = signed_extreme(s, x);
    let all_zero = s.lt(magnitude, s.splat(GROUP_MAX_EPS));
    let inverse = s.div(s.splat(-(half as f32)), s.select(all_zero, s.splat(1.0), extreme));

    let (mut sum_lx, mut sum_l2) = (zero, zero);
    let (mut weights, mut weighted) = (*x, *x);
    for i in 0..LEN {
        codes[i] = nearest_clamped(s, s.mul(inverse, x[i]), -half, half - 1);
        let w = s.mul(x[i], x[i]);
        (weights[i], weighted[i]) = (w, s.mul(w, x[i]));
        let l = s.to_f32(codes[i]);
        sum_lx = s.add(sum_lx, s.mul(weighted[i], l));
        sum_l2 = s.add(sum_l2, s.mul(s.mul(w, l), l));
    }
    for _ in 0..5 {
        // A lane that a sweep leaves as it was stays so: only the lanes that still move matter.
        let mut moved = false;
        for i in 0..LEN {
            let (w, wx) = (weights[i], weighted[i]);
            let l = s.to_f32(codes[i]);
            let rest_lx = s.sub(sum_lx, s.mul(wx, l));
            let rest_l2 = s.sub(sum_l2, s.mul(s.mul(w, l), l));
            let target = s.div(s.mul(x[i], rest_l2), rest_lx);
            let new_code = nearest_clamped(s, target, -half, half - 1);
            let new_l = s.to_f32(new_code);
            let new_lx = s.add(rest_lx, s.mul(wx, new_l));
            let new_l2 = s.add(rest_l2, s.mul(s.mul(w, new_l), new_l));
            let improves =
                s.lt(s.mul(s.mul(sum_lx, sum_lx), new_l2), s.mul(s.mul(new_lx, new_lx), sum_l2));
            let differs = s.not(s.eq_i(new_code, codes[i]));
            let accept =
                s.and(s.and(s.lt(zero, rest_lx), differs), s.and(s.lt(zero, new_l2), improves));
            codes[i] = s.select_i(accept, new_code, codes[i]);
            sum_lx = s.select(accept, new_lx, sum_lx);
            sum_l2 = s.select(accept, new_l2, sum_l2);
            moved |= s.any(s.and(accept, s.not(all_zero)));
        }
        if !moved {
            break;
        }
    }
    for code in codes.iter_mut() {
        *code = s.select_i(all_zero, s.splat_i(0), s.add_i(*code, s.splat_i(half)));
    }
    let usable = s.and(s.lt(zero, sum_l2), s.not(all_zero));
    s.select(usable, s.div(sum_lx, sum_l2), zero)
}
