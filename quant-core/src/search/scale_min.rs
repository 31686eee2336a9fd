//! The two-parameter search: a scale and a minimum (ggml's `make_qkx2_quants`, `make_qkx3_quants`).

use crate::lanes::{Call, Lanes, ROUND_LIMIT, nearest_clamped, nearest_clamped_float};

/// The candidates of a search: inverse scales `(start + step * i) + largest code` over the range,
/// for `i` in `0..=last`.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) start: f32,
    pub(crate) step: f32,
    pub(crate) last: i32,
}

/// A scale and a minimum per lane, and what the codes follow from.
pub(crate) struct ScaleMin<S: Lanes> {
    /// The scale.
    pub(crate) scale: S::F32,
    /// The amount to subtract from `scale * code`, not negative.
    pub(crate) min: S::F32,
    inverse: S::F32,
    shift: S::F32,
}

impl<S: Lanes> ScaleMin<S> {
    /// The code of a value, `0..=largest`.
    #[inline(always)]
    pub(crate) fn code(&self, s: S, x: S::F32, largest: i32) -> S::I32 {
        nearest_clamped(s, s.mul(self.inverse, s.sub(x, self.shift)), 0, largest)
    }
}

/// Finds the scale and minimum of `LEN` values that minimise the weighted squared error, or with
/// `ABSOLUTE` the weighted absolute error, over the candidates of the grid.
///
/// The minimum of an accepted candidate shifts the next and its range: candidates of a lane are
/// sequential.
#[inline(always)]
pub(crate) fn fit_scale_min<S: Lanes, const LEN: usize, const ABSOLUTE: bool>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    largest: i32,
    grid: Grid,
) -> ScaleMin<S> {
    s.call(FitScaleMin::<S, LEN, ABSOLUTE> { x, weights, largest, grid })
}

/// As [`fit_scale_min`] says.
struct FitScaleMin<'a, S: Lanes, const LEN: usize, const ABSOLUTE: bool> {
    x: &'a [S::F32; LEN],
    weights: &'a [S::F32; LEN],
    largest: i32,
    grid: Grid,
}

impl<S: Lanes, const LEN: usize, const ABSOLUTE: bool> Call<S>
    for FitScaleMin<'_, S, LEN, ABSOLUTE>
{
    type Output = ScaleMin<S>;

    #[inline(always)]
    fn eval(self, s: S) -> ScaleMin<S> {
        let Self { x, weights, largest, grid } = self;
        let zero = s.splat(0.0);
        let largest_f = largest as f32;

        let (mut lowest, mut highest) = (x[0], x[0]);
        let mut sum_w = weights[0];
        let mut sum_x = s.mul(sum_w, x[0]);
        for i in 1..LEN {
            lowest = s.min(x[i], lowest);
            highest = s.max(x[i], highest);
            sum_w = s.add(sum_w, weights[i]);
            sum_x = s.add(sum_x, s.mul(weights[i], x[i]));
        }
        let mut min = s.select(s.lt(zero, lowest), zero, lowest);
        let flat = s.eq(highest, min);
        let flat_min = min;
        // A flat block's result is fixed below; a range of one keeps its lanes from overflowing.
        let range = s.select(flat, s.splat(1.0), s.sub(highest, min));
        let ends = [lowest, highest];

        let mut codes = [zero; LEN];
        let mut inverse = s.div(s.splat(largest_f), range);
        let mut shift = min;
        let mut scale = s.div(s.splat(1.0), inverse);
        assign(s, x, weights, inverse, shift, &ends, largest, 0.0, &mut codes);
        let mut best = error::<S, LEN, ABSOLUTE>(s, x, weights, &codes, scale, min);

        for i in 0..=grid.last {
            let range = s.select(flat, s.splat(1.0), s.sub(highest, min));
            let extra = grid.start + grid.step * i as f32;
            let candidate = s.div(s.splat(extra + largest_f), range);
            let Sums { l: sum_l, l2: sum_l2, xl: sum_xl } =
                assign(s, x, weights, candidate, min, &ends, largest, extra, &mut codes);
            let determinant = s.sub(s.mul(sum_w, sum_l2), s.mul(sum_l, sum_l));
            let solvable = s.lt(zero, determinant);
            let mut new_min = s.div(s.sub(s.mul(sum_l2, sum_x), s.mul(sum_l, sum_xl)), determinant);
            // No branch: it would be taken for one lane or another too often to be foreseen. And one
            // division for both cases of the scale: divisions are what takes longest here.
            let positive = s.lt(zero, new_min);
            new_min = s.select(positive, zero, new_min);
            let free = s.sub(s.mul(sum_w, sum_xl), s.mul(sum_x, sum_l));
            let numerator = s.select(positive, sum_xl, free);
            let new_scale = s.div(numerator, s.select(positive, sum_l2, determinant));
            let current = error::<S, LEN, ABSOLUTE>(s, x, weights, &codes, new_scale, new_min);
            let better = s.and(solvable, s.lt(current, best));
            best = s.select(better, current, best);
            inverse = s.select(better, candidate, inverse);
            shift = s.select(better, min, shift);
            scale = s.select(better, new_scale, scale);
            min = s.select(better, new_min, min);
        }

        ScaleMin {
            scale: s.select(flat, zero, scale),
            // Negated by its sign, not subtracted from zero: a minimum of zero becomes −0 in ggml too.
            min: s.mul(s.splat(-1.0), s.select(flat, flat_min, min)),
            inverse: s.select(flat, zero, inverse),
            shift: s.select(flat, zero, shift),
        }
    }
}

/// What the least-squares solution for a candidate's codes needs: Σ w·l, Σ w·l², Σ w·l·x.
struct Sums<S: Lanes> {
    l: S::F32,
    l2: S::F32,
    xl: S::F32,
}

/// Assigns the codes of a candidate, whose inverse maps the highest value to `largest + extra`, and
/// sums over them.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the state of one step of a search")]
fn assign<S: Lanes, const LEN: usize>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    inverse: S::F32,
    shift: S::F32,
    ends: &[S::F32; 2],
    largest: i32,
    extra: f32,
    codes: &mut [S::F32; LEN],
) -> Sums<S> {
    // Rounding is monotone, so the two ends tell whether any value leaves the range in which the
    // cheap rounding equals ggml's. Only degenerate blocks do.
    let limit = s.splat(ROUND_LIMIT);
    let low = s.abs(s.mul(inverse, s.sub(ends[0], shift)));
    let high = s.abs(s.mul(inverse, s.sub(ends[1], shift)));
    if s.any(s.not(s.and(s.le(low, limit), s.le(high, limit)))) {
        assign_codes::<S, LEN, { Limits::WRAP }>(s, x, weights, inverse, shift, largest, codes)
    } else if extra < 0.49 {
        assign_codes::<S, LEN, { Limits::LOW }>(s, x, weights, inverse, shift, largest, codes)
    } else {
        assign_codes::<S, LEN, { Limits::BOTH }>(s, x, weights, inverse, shift, largest, codes)
    }
}

/// Which limits codes are held to; constants because they select code.
struct Limits;

impl Limits {
    /// The upper one holds by itself: the highest value rounds to the largest code.
    const LOW: u8 = 0;
    const BOTH: u8 = 1;
    /// Both, by the rounding that wraps beyond its range as ggml's does.
    const WRAP: u8 = 2;
}

#[inline(always)]
fn assign_codes<S: Lanes, const LEN: usize, const LIMITS: u8>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    inverse: S::F32,
    shift: S::F32,
    largest: i32,
    codes: &mut [S::F32; LEN],
) -> Sums<S> {
    let zero = s.splat(0.0);
    let mut sums = Sums::<S> { l: zero, l2: zero, xl: zero };
    for i in 0..LEN {
        let value = s.mul(inverse, s.sub(x[i], shift));
        let code = match LIMITS {
            Limits::LOW => s.round(s.bits_to_f32(s.max_i(s.bits(value), s.splat_i(0)))),
            Limits::BOTH => nearest_clamped_float(s, value, 0.0, largest as f32),
            _ => s.to_f32(nearest_clamped(s, value, 0, largest)),
        };
        codes[i] = code;
        let wl = s.mul(weights[i], code);
        sums.l = s.add(sums.l, wl);
        sums.l2 = s.add(sums.l2, s.mul(wl, code));
        sums.xl = s.add(sums.xl, s.mul(wl, x[i]));
    }
    sums
}

#[inline(always)]
fn error<S: Lanes, const LEN: usize, const ABSOLUTE: bool>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    codes: &[S::F32; LEN],
    scale: S::F32,
    min: S::F32,
) -> S::F32 {
    let mut sum = s.splat(0.0);
    for i in 0..LEN {
        let difference = s.sub(s.add(s.mul(scale, codes[i]), min), x[i]);
        let distance = if ABSOLUTE { s.abs(difference) } else { s.mul(difference, difference) };
        sum = s.add(sum, s.mul(weights[i], distance));
    }
    sum
}
