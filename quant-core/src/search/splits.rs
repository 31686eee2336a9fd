//! The search of IQ1_S and IQ1_M: values are −1, 0 or 1, all shifted by an eighth up or down, times a
//! scale (`quantize_row_iq1_s_impl` and `quantize_row_iq1_m_impl` in ggml).
//!
//! The values that become −1 are smaller than those that become 0, which are smaller than those that
//! become 1: all ways to split the sorted values in three are tried. Then each group of eight gets a
//! point of the codebook.

mod ways;

use self::ways::{Halves, Sums, Ways, Whole};
use super::nearest::nearest;
use crate::{
    codebook::Codebook,
    lanes::{Lanes, MAX_LANES, PerLane},
};

/// What the three levels stand for, with the shift up and down.
pub(crate) const UP: [f32; 4] = [-0.875, 0.125, 1.125, 0.0];
pub(crate) const DOWN: [f32; 4] = [-1.125, -0.125, 0.875, 0.0];

/// The most values in a sub-block.
const MOST: usize = 32;

/// A sub-block as it was fitted.
#[derive(Clone, Copy)]
pub(crate) struct TernarySub {
    /// Its scale, not negative.
    pub(crate) scale: f32,
    /// The index of each group's point.
    pub(crate) points: [u16; 4],
    /// Whether the levels of each group are shifted down.
    pub(crate) down: [bool; 4],
}

impl TernarySub {
    pub(crate) const ZERO: Self = Self { scale: 0.0, points: [0; 4], down: [false; 4] };
}

/// Room for a batch, to be used again for the next.
pub(crate) struct SplitRoom {
    /// Products of weights and values, and weights, in the order of the values.
    sorted: [[PerLane<f32>; MOST]; 2],
    x: [PerLane<f32>; MOST],
    weights: [PerLane<f32>; MOST],
}

impl SplitRoom {
    pub(crate) const EMPTY: Self = Self {
        sorted: [[[0.0; MAX_LANES]; MOST]; 2],
        x: [[0.0; MAX_LANES]; MOST],
        weights: [[0.0; MAX_LANES]; MOST],
    };
}

/// The best split of each lane so far.
///
/// A search may start from a score that some split exceeds: a *hurdle*. It ends as one that starts from nothing,
/// if no split comes within rounding of the hurdle: the first that is taken is taken then, too, and all is
/// the same from there on.
struct Best<S: Lanes> {
    score: S::F32,
    /// Splits that score less are far from the hurdle; the score itself as soon as a split was taken.
    limit: S::F32,
    taken: Taken<S>,
    /// Whether a split came so near to the hurdle that rounding decided.
    unsure: bool,
}

/// A split.
#[derive(Clone, Copy)]
struct Taken<S: Lanes> {
    scale: S::F32,
    /// How many values are below 0, and below 1.
    ends: [S::I32; 2],
    /// Which way of shifting it is; −1 before there is one.
    way: S::I32,
}

impl<S: Lanes> Best<S> {
    /// Takes those splits of a mask that score higher than what there is, given the sums of each way, in order.
    #[inline(always)]
    fn offer<const WAYS: usize>(
        &mut self,
        s: S,
        among: S::Mask,
        ways: [[S::F32; 2]; WAYS],
        ends: [S::I32; 2],
    ) {
        // Records are rare: one branch for all.
        let mut higher = 0;
        for [sum_qx, sum_q2] in ways {
            higher |= s.mask_bits(is_exceeded(s, self.limit, sum_qx, sum_q2));
        }
        if higher & s.mask_bits(among) == 0 {
            return;
        }
        for (way, [sum_qx, sum_q2]) in ways.into_iter().enumerate() {
            let far = s.and(among, is_exceeded(s, self.limit, sum_qx, sum_q2));
            if !s.any(far) {
                continue;
            }
            let higher = s.and(among, is_exceeded(s, self.score, sum_qx, sum_q2));
            self.unsure |= s.any(s.and(far, s.not(higher)));
            let better = s.and(s.lt(s.splat(0.0), sum_q2), higher);
            if s.any(better) {
                let scale = s.div(sum_qx, sum_q2);
                self.score = s.select(better, s.mul(scale, sum_qx), self.score);
                self.limit = s.select(better, self.score, self.limit);
                let taken = &mut self.taken;
                taken.scale = s.select(better, scale, taken.scale);
                for (taken, end) in taken.ends.iter_mut().zip(ends) {
                    *taken = s.select_i(better, end, *taken);
                }
                taken.way = s.select_i(better, s.splat_i(way as i32), taken.way);
            }
        }
    }
}

#[inline(always)]
fn is_exceeded<S: Lanes>(s: S, score: S::F32, sum_qx: S::F32, sum_q2: S::F32) -> S::Mask {
    s.lt(s.mul(score, sum_q2), s.mul(sum_qx, sum_qx))
}

/// By how much, as a part of it, the highest score may be off at most.
///
/// Σ w·q² is no less than a 64th of the weights W, and with X = Σ w·|x| the split at zero scores 0.6·X² / W, so that
/// Σ w·x·q of one that scores about as high is a tenth of X or more. Rounding errs by eight units in the last place of
/// 3.2·X and 3.8·W: 3·10⁻⁵ and 1.2·10⁻⁴ of the score, to which the rough inverse adds as much.
const ROUGH: f32 = 3e-4;

/// The best of all splits, in the order in which the first of equals wins: of those rows in which a split may be the
/// best, that of each lane side by side. `scale` is what there is if none is taken; `from_nothing` says to go through
/// all.
#[inline(always)]
fn search<S: Lanes, W: Ways<S, ENDS, WAYS>, const ENDS: usize, const WAYS: usize>(
    s: S,
    ways: &W,
    sums: &[Sums<S, ENDS>; 2],
    dead: S::Mask,
    scale: S::F32,
    from_nothing: bool,
) -> Best<S> {
    let (zero, none, least) = (s.splat(0.0), s.splat_i(0), s.splat(f32::MIN));
    let highest = ways.parts(s).highest(s);
    let mut most = zero;
    for &highest in &highest {
        most = s.max(highest, most);
    }
    // Σ w·q² is from a hundredth of the weights to twice as much: nothing is subnormal or overflows.
    let (low, high) = (s.splat(1e-25), s.splat(1e25));
    let size = s.mul(most, s.add(sums[0].w[ENDS - 1], sums[1].w[ENDS - 1]));
    let size = s.and(s.lt(low, size), s.lt(size, high));
    let mut sound = s.and(size, s.and(s.lt(low, most), s.lt(most, high)));
    if from_nothing {
        sound = s.lt(zero, zero);
    }
    loop {
        // Some split exceeds the hurdle, and those of rows that are left out are far from it.
        let hurdle = s.mul(most, s.splat(1.0 - 2.0 * ROUGH));
        let below = s.mul(most, s.splat(1.0 - 2.0 * ROUGH - 1e-6));
        let row = s.mul(most, s.splat(1.0 - 3.1 * ROUGH));
        let row = s.select(sound, row, s.splat(f32::NEG_INFINITY));
        let row = s.select(dead, s.splat(f32::INFINITY), row);
        let mut best = Best {
            score: s.select(sound, hurdle, least),
            limit: s.select(sound, below, least),
            taken: Taken { scale, ends: [none; 2], way: s.splat_i(-1) },
            unsure: false,
        };
        let mut done = s.splat(-1.0);
        loop {
            let beyond = s.splat(ENDS as f32);
            let mut next = beyond;
            for i in (0..ENDS).rev() {
                let number = s.splat(i as f32);
                let ahead = s.and(s.lt(done, number), s.not(s.lt(highest[i], row)));
                next = s.select(ahead, number, next);
            }
            let live = s.lt(next, beyond);
            if !s.any(live) {
                break;
            }
            let mut below = [[zero; 2]; 2];
            for i in 0..ENDS {
                let here = s.eq(next, s.splat(i as f32));
                for (below, sums) in below.iter_mut().zip(sums) {
                    *below =
                        [s.select(here, sums.wx[i], below[0]), s.select(here, sums.w[i], below[1])];
                }
            }
            let (first, row) = (s.trunc(next), ways.row(s, below));
            for j in s.lowest(next) as usize..ENDS {
                let among = s.and(live, s.le(next, s.splat(j as f32)));
                best.offer(s, among, ways.sums(s, &row, j), [first, s.splat_i(j as i32)]);
            }
            done = next;
        }
        if !best.unsure {
            return best;
        }
        sound = s.lt(zero, zero);
    }
}

/// Fits a batch of sub-blocks of `LEN` values in `GROUPS` groups of eight. With `BY_HALF` each of the two
/// groups has a shift of its own. Sub-blocks of which no magnitude reaches `least` are all zero. Splits have `ENDS`
/// places: one more than there are values.
#[inline(always)]
pub(crate) fn fit_splits<
    S: Lanes,
    const LEN: usize,
    const ENDS: usize,
    const GROUPS: usize,
    const BY_HALF: bool,
>(
    s: S,
    book: &Codebook<8>,
    least: f32,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    room: &mut SplitRoom,
    subs: &mut [TernarySub],
) {
    const { assert!(LEN <= MOST && GROUPS * 8 == LEN && ENDS == LEN + 1) }
    let zero = s.splat(0.0);
    let none = s.splat_i(0);
    let mut max = zero;
    for &v in x {
        max = s.max(max, s.abs(v));
    }
    let ranks = rank(s, x);
    let sums = sort::<S, LEN, ENDS, BY_HALF>(s, x, weights, &ranks, room);
    let dead = s.lt(max, s.splat(least));
    let best = if BY_HALF {
        search(s, &Halves::new(s, &sums), &sums, dead, max, false)
    } else {
        search(s, &Whole::new(s, &sums[0]), &sums, dead, max, false)
    };
    let alive = s.and(s.not(s.eq_i(best.taken.way, s.splat_i(-1))), s.not(dead));

    // A negative scale turns all around.
    let negative = s.lt(best.taken.scale, zero);
    let mut scale = s.select(negative, s.sub(zero, best.taken.scale), best.taken.scale);
    let ways = if BY_HALF { 3 } else { 1 };
    let way = s.select_i(negative, s.sub_i(s.splat_i(ways), best.taken.way), best.taken.way);
    let mut down = [s.eq_i(way, s.splat_i(1)); GROUPS];
    if BY_HALF {
        down[0] = s.not(s.eq_i(s.and_i(way, s.splat_i(2)), none));
        down[1] = s.not(s.eq_i(s.and_i(way, s.splat_i(1)), none));
    }

    let mut keys = [[0; MAX_LANES]; GROUPS];
    let (first, second) = (s.to_f32(best.taken.ends[0]), s.to_f32(best.taken.ends[1]));
    for (g, keys) in keys.iter_mut().enumerate() {
        let mut key = zero;
        for i in (8 * g..8 * g + 8).rev() {
            let rank = s.to_f32(ranks[i]);
            let low = s.select(s.lt(rank, first), zero, s.splat(1.0));
            let level = s.add(low, s.select(s.lt(rank, second), zero, s.splat(1.0)));
            let level = s.select(negative, s.sub(s.splat(2.0), level), level);
            key = s.add(s.mul(key, s.splat(3.0)), level);
        }
        s.store_i(s.trunc(key), keys);
    }

    for i in 0..LEN {
        s.store(x[i], &mut room.x[i]);
        s.store(weights[i], &mut room.weights[i]);
    }
    let mut scales = [0.0; MAX_LANES];
    s.store(scale, &mut scales);
    let near = book.near();
    let full = u32::MAX >> (32 - subs.len().min(32));
    let alive_bits = full & s.mask_bits(alive);
    let mut off_grid = [0; MAX_LANES];
    for (g, keys) in keys.iter_mut().enumerate() {
        let down = s.mask_bits(down[g]);
        let mut rest = alive_bits;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let list = near.list(keys[lane] as usize);
            if let Some(code) = list.point() {
                keys[lane] = code.into();
            } else {
                off_grid[lane] = 1;
                let (mut x, mut weights) = ([0.0; 8], [0.0; 8]);
                for i in 0..8 {
                    x[i] = room.x[8 * g + i][lane];
                    weights[i] = room.weights[8 * g + i][lane];
                }
                let levels = if down >> lane & 1 == 1 { &DOWN } else { &UP };
                let (codes, len) = (near.codes(list.start()), list.len());
                keys[lane] = nearest(s, codes, len, [x, weights], levels, scales[lane]).into();
            }
        }
    }

    // Other points than those of the split: another scale.
    let (mut sum_qx, mut sum_q2) = (zero, zero);
    for (g, keys) in keys.iter().enumerate() {
        let mut rest = s.load_i(keys);
        for i in 8 * g..8 * g + 8 {
            let (up, below) = (s.look_up_4(&UP, rest), s.look_up_4(&DOWN, rest));
            let wq = s.mul(weights[i], s.select(down[g], below, up));
            sum_qx = s.add(sum_qx, s.mul(wq, x[i]));
            sum_q2 = s.add(sum_q2, s.mul(wq, s.select(down[g], below, up)));
            rest = s.shr::<2>(rest);
        }
    }
    let usable = s.and(s.lt(zero, sum_qx), s.lt(zero, sum_q2));
    let moved = s.eq_i(s.load_i(&off_grid), s.splat_i(1));
    scale = s.select(s.and(moved, usable), s.div(sum_qx, sum_q2), scale);

    s.store(scale, &mut scales);
    for (lane, sub) in subs.iter_mut().enumerate() {
        *sub = TernarySub::ZERO;
        if alive_bits >> lane & 1 == 1 {
            sub.scale = scales[lane];
            for (point, keys) in sub.points.iter_mut().zip(&keys) {
                *point = near.index(keys[lane] as u16);
            }
        }
    }
    for (g, &down) in down.iter().enumerate() {
        let bits = alive_bits & s.mask_bits(down);
        for (lane, sub) in subs.iter_mut().enumerate() {
            sub.down[g] = bits >> lane & 1 == 1;
        }
    }
}

/// How many values come before each in ascending order, equal ones in their own order. (The reference
/// leaves that to the C library, whose sort keeps it.)
#[inline(always)]
fn rank<S: Lanes, const LEN: usize>(s: S, x: &[S::F32; LEN]) -> [S::I32; LEN] {
    let one = s.splat_i(1);
    let mut ranks = [s.splat_i(0); LEN];
    for j in 1..LEN {
        let mut before = s.splat_i(0);
        for i in 0..j {
            let first = s.le(x[i], x[j]);
            before = s.select_i(first, s.add_i(before, one), before);
            ranks[i] = s.select_i(first, ranks[i], s.add_i(ranks[i], one));
        }
        ranks[j] = before;
    }
    ranks
}

/// The sums over the first values in order; with `BY_HALF` those over the values of either half.
#[inline(always)]
fn sort<S: Lanes, const LEN: usize, const ENDS: usize, const BY_HALF: bool>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    ranks: &[S::I32; LEN],
    room: &mut SplitRoom,
) -> [Sums<S, ENDS>; 2] {
    let zero = s.splat(0.0);
    let (mut places, mut wx, mut w) = ([0; MAX_LANES], [0.0; MAX_LANES], [0.0; MAX_LANES]);
    let (sign, none) = (s.splat_i(i32::MIN), s.splat_i(0));
    for i in 0..LEN {
        s.store_i(ranks[i], &mut places);
        s.store(s.mul(weights[i], x[i]), &mut wx);
        // Instead of its sign, which no weight has, the half.
        let half = if BY_HALF && i >= LEN / 2 { sign } else { none };
        s.store(s.bits_to_f32(s.or_i(s.bits(s.abs(weights[i])), half)), &mut w);
        let [sorted_wx, sorted_w] = &mut room.sorted;
        for lane in 0..S::N {
            let place = places[lane] as usize % MOST;
            (sorted_wx[place][lane], sorted_w[place][lane]) = (wx[lane], w[lane]);
        }
    }
    let empty = Sums { wx: [zero; ENDS], w: [zero; ENDS] };
    let mut sums = [Sums { ..empty }, empty];
    for i in 0..LEN {
        let (wx, w) = (s.load(&room.sorted[0][i]), s.load(&room.sorted[1][i]));
        let first = s.eq_i(s.and_i(s.bits(w), sign), none);
        for (half, sums) in sums.iter_mut().enumerate().take(1 + usize::from(BY_HALF)) {
            let mask = if half == 0 { first } else { s.not(first) };
            sums.wx[i + 1] = s.add(sums.wx[i], s.select(mask, wx, zero));
            sums.w[i + 1] = s.add(sums.w[i], s.select(mask, s.abs(w), zero));
        }
    }
    sums
}

#[cfg(test)]
mod tests;
