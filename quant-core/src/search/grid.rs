//! The search of the two- and three-bit codebook types: a scale for a sub-block, and a point of the
//! codebook for each of its groups (`quantize_row_iq2_xxs_impl` and its siblings in ggml).
//!
//! Lanes are sub-blocks where values are rounded and errors summed, and points of the book where the
//! nearest is looked for. What the point of a group is depends on no other group and on no other
//! candidate, so all candidates are rounded first, then settled group by group, then summed.

use super::{
    abreast::{Drawn, MOST_CANDIDATES},
    fit_positive,
    nearest::{NUMBERS, look_up, next_level, odd_levels},
    settle::Room,
};
use crate::{
    codebook::{Codebook, Near, ON_GRID},
    lanes::{Call, Lanes, MAX_LANES, clamp, nearest_clamped},
};

/// What the searches differ in.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    /// Sub-blocks of which no magnitude reaches this are all zero; if it is zero itself, those of
    /// which none exceeds it.
    pub(crate) least: f32,
    /// Candidates make the largest value the highest level and this much more or less, times as many
    /// steps as there are candidates on each side.
    pub(crate) step: f32,
    /// The sign of the eighth value of a group of eight follows from the others: there is an even
    /// number of negative ones.
    pub(crate) even_signs: bool,
    /// Candidates are laid around a scale fitted without the book, not around the largest value.
    pub(crate) fitted: bool,
    /// Which groups get new points when the scale has been chosen.
    pub(crate) again: Again,
}

/// Which groups get new points when the scale has been chosen.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Again {
    /// All.
    Always,
    /// All, unless every group is a point of the book.
    UnlessOnGrid,
    /// Those that are no points of the book.
    OffGrid,
}

/// A sub-block as it was fitted.
#[derive(Clone, Copy)]
pub(crate) struct Sub {
    /// Its scale, not negative; zero for a sub-block that is all zero.
    pub(crate) scale: f32,
    /// The code of each group's point.
    pub(crate) codes: [u16; 8],
    /// The signs of each eight values, a bit for each, the first lowest.
    pub(crate) signs: [u8; 4],
    /// Whether it was not fitted because all its values are zero, or next to it.
    pub(crate) dead: bool,
}

impl Sub {
    pub(crate) const ZERO: Self = Self { scale: 0.0, codes: [0; 8], signs: [0; 4], dead: true };
}

/// The values of a batch of sub-blocks.
struct Values<'a, S: Lanes, const LEN: usize> {
    /// Magnitudes, negative where a sign was changed.
    x: &'a [S::F32; LEN],
    weights: &'a [S::F32; LEN],
    /// The products of both.
    products: &'a [S::F32; LEN],
    /// The largest magnitude.
    reach: S::F32,
}

/// A batch of sub-blocks of `LEN` values in `GROUPS` groups, to be fitted with one of `CANDIDATES` scales.
pub(crate) struct FitGrid<
    'a,
    S: Lanes,
    const DIMS: usize,
    const LEN: usize,
    const GROUPS: usize,
    const CANDIDATES: usize,
> {
    pub(crate) book: &'a Codebook<DIMS>,
    pub(crate) settings: Settings,
    pub(crate) x: &'a [S::F32; LEN],
    pub(crate) weights: &'a [S::F32; LEN],
    pub(crate) room: &'a mut Room<LEN, GROUPS>,
    /// As many as lanes count.
    pub(crate) subs: &'a mut [Sub],
}

impl<S: Lanes, const DIMS: usize, const LEN: usize, const GROUPS: usize, const CANDIDATES: usize>
    Call<S> for FitGrid<'_, S, DIMS, LEN, GROUPS, CANDIDATES>
{
    type Output = ();

    #[inline(always)]
    fn eval(self, s: S) {
        let Self { book, settings, x: raw, weights, room, subs } = self;
        const { assert!(CANDIDATES < MOST_CANDIDATES && GROUPS * DIMS == LEN && CANDIDATES % 2 == 1) }
        let near = book.near();
        let zero = s.splat(0.0);
        let top = (2 * Codebook::<DIMS>::LEVELS - 1) as f32;
        let (x, mut signs) = split_signs(s, raw, weights, settings.even_signs);
        let mut max = x[0];
        let mut reach = zero;
        for &v in &x {
            max = s.max(max, v);
            reach = s.max(reach, s.abs(v));
        }
        let mut dead = match settings.least {
            0.0 => s.eq(max, zero),
            least => s.lt(max, s.splat(least)),
        };
        let (mut scale, middle) = match settings.fitted {
            true => {
                let levels = Codebook::<DIMS>::LEVELS as i32;
                let (scale, _) = fit_positive(s, &x, weights, levels + 1);
                let middle = s.mul(scale, s.splat(levels as f32));
                dead = s.not(s.and(s.not(dead), s.not(s.le(middle, zero))));
                (scale, middle)
            }
            false => (s.div(max, s.splat(top)), max),
        };
        let middle = s.select(dead, s.splat(1.0), middle);

        let mut products = x;
        for i in 0..LEN {
            products[i] = s.mul(weights[i], x[i]);
        }
        room.fill(s, &x, weights);
        let values = Values::<S, LEN> { x: &x, weights, products: &products, reach };

        let untouched = if settings.again == Again::UnlessOnGrid { 0 } else { ON_GRID };
        let mut codes = [s.splat_i(untouched); GROUPS];
        let mut best = zero;
        let one = s.splat(1.0);
        let (mut inverses, mut scales) = ([one; CANDIDATES], [one; CANDIDATES]);
        let half = (CANDIDATES / 2) as i32;
        for (c, step) in (-half..=half).enumerate() {
            inverses[c] = s.div(s.splat(top + step as f32 * settings.step), middle);
            scales[c] = s.div(one, inverses[c]);
        }
        let full = s.lt(s.load(&NUMBERS), s.splat(subs.len() as f32));
        let mut wanted = [s.and(full, s.not(dead)); GROUPS];
        let mut again = s.lt(zero, zero);
        let mut known = [(s.splat_i(0), again); GROUPS];
        // First all candidates, then the scale that was chosen. The code for it is there once.
        let mut count = CANDIDATES;
        let mut drawn = Drawn::<S>::new(s);
        loop {
            let far = values.settle::<DIMS, GROUPS>(
                s,
                near,
                [&inverses[..count], &scales[..count]],
                &wanted,
                room,
                &mut drawn,
            );
            if count == 1 {
                room.restore(s, &known);
            }
            let mut candidate = [s.splat_i(0); GROUPS];
            for c in 0..count {
                for (g, candidate) in candidate.iter_mut().enumerate() {
                    let (point, same) = room.point(s, g, c);
                    *candidate = s.select_i(same, *candidate, point);
                    if count == 1 && settings.again == Again::OffGrid {
                        *candidate = s.select_i(is_on_grid(s, codes[g]), codes[g], *candidate);
                    }
                }
                let (sum_qx, sum_q2) = values.sums::<DIMS, GROUPS>(s, &candidate);
                let better = match count {
                    1 => s.and(again, s.lt(zero, sum_q2)),
                    _ => {
                        let higher = s.lt(s.mul(best, sum_q2), s.mul(sum_qx, sum_qx));
                        s.and(s.lt(zero, sum_q2), higher)
                    }
                };
                let taken = if count == 1 { again } else { better };
                if s.any(taken) {
                    scale = s.select(better, s.div(sum_qx, sum_q2), scale);
                    best = s.select(better, s.mul(scale, sum_qx), best);
                    for g in 0..GROUPS {
                        codes[g] = s.select_i(taken, candidate[g], codes[g]);
                    }
                }
            }
            if count == 1 {
                break;
            }
            let mut on_grid = s.splat_i(ON_GRID);
            for &code in &codes {
                on_grid = s.and_i(on_grid, code);
            }
            again = s.and(s.lt(zero, scale), s.not(dead));
            if settings.again != Again::Always {
                again = s.and(again, s.eq_i(on_grid, s.splat_i(0)));
            }
            let once_more = s.and(full, again);
            if !s.any(once_more) {
                break;
            }
            for (wanted, &code) in wanted.iter_mut().zip(&codes) {
                *wanted = once_more;
                if settings.again == Again::OffGrid {
                    *wanted = s.and(once_more, s.not(is_on_grid(s, code)));
                }
            }
            scales[0] = s.select(again, scale, one);
            let inverse = s.div(one, scales[0]);
            if !far {
                known = room.between(s, &inverses, inverse, &mut wanted);
            }
            inverses[0] = inverse;
            count = 1;
        }

        // Scales are stored without a sign.
        let negative = s.lt(scale, zero);
        scale = s.select(negative, s.sub(zero, scale), scale);
        for sign in &mut signs {
            *sign = s.select_i(negative, s.xor_i(*sign, s.splat_i(0xff)), *sign);
        }
        let (mut scales, mut lanes) = ([0.0; MAX_LANES], [0; MAX_LANES]);
        s.store(s.select(dead, zero, scale), &mut scales);
        let dead_bits = s.mask_bits(dead);
        for (lane, sub) in subs.iter_mut().enumerate() {
            *sub = Sub { scale: scales[lane], dead: dead_bits >> lane & 1 == 1, ..Sub::ZERO };
        }
        for (g, &code) in codes.iter().enumerate() {
            s.store_i(s.select_i(dead, s.splat_i(0), code), &mut lanes);
            for (sub, code) in subs.iter_mut().zip(lanes) {
                sub.codes[g] = code as u16;
            }
        }
        for (k, &sign) in signs.iter().enumerate().take(LEN / 8) {
            s.store_i(s.select_i(dead, s.splat_i(0), sign), &mut lanes);
            for (sub, sign) in subs.iter_mut().zip(lanes) {
                sub.signs[k] = sign as u8;
            }
        }
    }
}

impl<S: Lanes, const LEN: usize> Values<'_, S, LEN> {
    /// The points for some scales and their inverses, of the groups of the lanes that are wanted. Returns whether
    /// values are so large for a scale that ggml's way of rounding wraps.
    #[inline(always)]
    fn settle<const DIMS: usize, const GROUPS: usize>(
        &self,
        s: S,
        near: &Near,
        [inverses, scales]: [&[S::F32]; 2],
        wanted: &[S::Mask; GROUPS],
        room: &mut Room<LEN, GROUPS>,
        drawn: &mut Drawn<S>,
    ) -> bool {
        const ROUNDED: f32 = 1_000_000.0;
        // Half of it is a normal number.
        const HALVED: f32 = 1e-30;
        // Levels are at most 7, and off by some units in the last place.
        const INSIDE: f32 = 0.49998;
        let mut far = s.lt(s.splat(0.0), s.splat(0.0));
        for &inverse in inverses {
            let within = s.lt(s.mul(inverse, self.reach), s.splat(ROUNDED));
            let within = s.and(within, s.lt(s.splat(HALVED), inverse));
            far = s.not(s.and(within, s.not(far)));
        }
        let far = s.any(far);
        room.set_scales(s, scales);
        let ends = [scales[0], scales[scales.len() - 1]];
        let mut all = true;
        for (g, &wanted) in wanted.iter().enumerate() {
            let apart = if far {
                self.round::<DIMS, GROUPS, true>(s, g, inverses, wanted, room)
            } else {
                self.round::<DIMS, GROUPS, false>(s, g, inverses, wanted, room)
            };
            let (x, inside) = (&self.x[g * DIMS..(g + 1) * DIMS], s.lt(apart, s.splat(INSIDE)));
            let certain = room.set_noise::<S, DIMS>(s, near, g, x, ends, inside);
            all &= !s.any(s.and(wanted, s.not(certain)));
            let last = g + 1 == GROUPS;
            room.list_runs::<S, DIMS>(s, near, all, last);
            room.settle::<S, DIMS>(s, near, drawn, last);
        }
        far
    }

    /// Rounds a group to levels at each scale, and lists the runs of the lanes that are wanted in which the key is
    /// the same. `WRAP` is for values that are so large for a scale that ggml's way of rounding wraps.
    /// Returns how far values are from their levels at most, at any scale, but for those beyond all
    /// levels; infinity with `WRAP`.
    #[inline(always)]
    fn round<const DIMS: usize, const GROUPS: usize, const WRAP: bool>(
        &self,
        s: S,
        g: usize,
        inverses: &[S::F32],
        wanted: S::Mask,
        room: &mut Room<LEN, GROUPS>,
    ) -> S::F32 {
        let levels = Codebook::<DIMS>::LEVELS;
        let (one, half) = (s.splat(1.0), s.splat(0.5));
        let mut apart = s.splat(if WRAP { f32::INFINITY } else { 0.0 });
        let (mut before, mut run) = (s.splat_i(0), Room::<LEN, GROUPS>::begin(s, g, 0));
        for (c, &inverse) in inverses.iter().enumerate() {
            let mut key = s.splat(0.0);
            let half_inverse = s.mul(half, inverse);
            for i in (0..DIMS).rev() {
                let x = self.x[g * DIMS + i];
                let level = if WRAP {
                    let v = s.mul(half, s.sub(s.mul(inverse, x), one));
                    s.to_f32(nearest_clamped(s, v, 0, levels as i32 - 1))
                } else {
                    // The same: halves are exact.
                    let v = s.sub(s.mul(half_inverse, x), half);
                    let v = clamp(s, v, 0.0, (levels - 1) as f32);
                    let level = s.round(v);
                    apart = s.max_abs(s.sub(v, level), apart);
                    level
                };
                key = s.loose_mul_add(key, s.splat(levels as f32), level);
            }
            let key = s.trunc(key);
            room.forget(s, g, c);
            if c > 0 {
                let turned = s.and(wanted, s.not(s.eq_i(key, before)));
                room.end(s, turned, run, before, c - 1);
                run = s.select_i(turned, Room::<LEN, GROUPS>::begin(s, g, c), run);
            }
            before = key;
        }
        room.end(s, wanted, run, before, inverses.len() - 1);
        apart
    }

    /// Σ w·x·q and Σ w·q² for the points of codes.
    #[inline(always)]
    fn sums<const DIMS: usize, const GROUPS: usize>(
        &self,
        s: S,
        codes: &[S::I32; GROUPS],
    ) -> (S::F32, S::F32) {
        let levels = const { &odd_levels::<DIMS>() };
        let (mut sum_qx, mut sum_q2) = (s.splat(0.0), s.splat(0.0));
        for (g, &code) in codes.iter().enumerate() {
            let mut rest = code;
            for i in 0..DIMS {
                let q = look_up::<S, DIMS>(s, levels, i, rest);
                sum_qx = s.add(sum_qx, s.mul(self.products[g * DIMS + i], q));
                sum_q2 = s.add(sum_q2, s.mul(s.mul(self.weights[g * DIMS + i], q), q));
                rest = next_level::<S, DIMS>(s, rest);
            }
        }
        (sum_qx, sum_q2)
    }
}

/// Whether the group of a code was a point of the book.
#[inline(always)]
fn is_on_grid<S: Lanes>(s: S, code: S::I32) -> S::Mask {
    s.eq_i(s.and_i(code, s.splat_i(ON_GRID)), s.splat_i(ON_GRID))
}

/// Magnitudes and signs. With `even`, the least important value of a group of eight with an odd number of
/// negative ones gets the other sign, so that its magnitude becomes negative.
#[inline(always)]
fn split_signs<S: Lanes, const LEN: usize>(
    s: S,
    raw: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    even: bool,
) -> ([S::F32; LEN], [S::I32; 4]) {
    let zero = s.splat(0.0);
    let mut x = *raw;
    let mut signs = [s.splat_i(0); 4];
    for (k, sign) in signs.iter_mut().enumerate().take(LEN / 8) {
        let (raw, weights) = (&raw[8 * k..8 * k + 8], &weights[8 * k..8 * k + 8]);
        let x = &mut x[8 * k..8 * k + 8];
        let mut parity = s.splat_i(0);
        for (i, (x, &v)) in x.iter_mut().zip(raw).enumerate() {
            let negative = s.lt(v, zero);
            *x = s.select(negative, s.abs(v), v);
            let bit = s.select_i(negative, s.splat_i(1 << i), s.splat_i(0));
            *sign = s.or_i(*sign, bit);
            parity = s.xor_i(parity, s.select_i(negative, s.splat_i(1), s.splat_i(0)));
        }
        if even {
            let (mut least, mut bit) = (s.splat(f32::INFINITY), s.splat_i(1));
            for i in 0..8 {
                let cost = s.mul(s.mul(weights[i], raw[i]), raw[i]);
                let less = s.lt(cost, least);
                least = s.select(less, cost, least);
                bit = s.select_i(less, s.splat_i(1 << i), bit);
            }
            let odd = s.eq_i(parity, s.splat_i(1));
            bit = s.select_i(odd, bit, s.splat_i(0));
            *sign = s.xor_i(*sign, bit);
            for (i, x) in x.iter_mut().enumerate() {
                *x = s.select(s.eq_i(bit, s.splat_i(1 << i)), s.sub(zero, *x), *x);
            }
        }
    }
    (x, signs)
}

#[cfg(test)]
mod tests;
