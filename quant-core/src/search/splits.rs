//! The search of IQ1_S and IQ1_M: values are −1, 0 or 1, all shifted by an eighth up or down, times a
//! scale (`quantize_row_iq1_s_impl` and `quantize_row_iq1_m_impl` in ggml).
//!
//! The values that become −1 are smaller than those that become 0, which are smaller than those that
//! become 1: all ways to split the sorted values in three are tried. Then each group of eight gets a
//! point of the codebook.

use super::nearest::{Group, Levels};
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
    /// Products of weights and values, and weights, in the order of the values; of each half of the sub-block,
    /// if the halves are shifted each by itself.
    sorted: [[[PerLane<f32>; MOST]; 2]; 2],
    x: [PerLane<f32>; MOST],
    weights: [PerLane<f32>; MOST],
}

impl SplitRoom {
    pub(crate) const EMPTY: Self = Self {
        sorted: [[[[0.0; MAX_LANES]; MOST]; 2]; 2],
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
    /// What there was before the first.
    start: Taken<S>,
    /// The sum of the weights.
    weight: S::F32,
    /// Whether a split came so near to the hurdle that rounding decided.
    unsure: bool,
    /// How many searches there were.
    searches: usize,
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

/// The splits that a search goes through: the least and the greatest number of values below 0, and those of
/// values below 1.
const fn splits(len: usize, search: usize) -> [[usize; 2]; 2] {
    match search {
        // They are often good.
        0 => [[len / 4, len / 4 + 3], [len * 3 / 4 - 3, len * 3 / 4]],
        _ => [[0, len]; 2],
    }
}

impl<S: Lanes> Best<S> {
    /// Nothing yet: given the scale where no split is taken, and the sum of the weights.
    #[inline(always)]
    fn new(s: S, scale: S::F32, weight: S::F32) -> Self {
        let (least, none) = (s.splat(f32::MIN), s.splat_i(0));
        let taken = Taken { scale, ends: [none; 2], way: s.splat_i(-1) };
        Self { score: least, limit: least, taken, start: taken, weight, unsure: false, searches: 0 }
    }

    /// Goes on with the next search: after one of some splits with all, from a hurdle just below the best of these,
    /// and if that was not sure, from nothing. Says whether there is a next one.
    #[inline(always)]
    fn goes_on(&mut self, s: S) -> bool {
        self.searches += 1;
        if self.searches > 1 && !self.unsure {
            return false;
        }
        let (low, high, least) = (s.splat(1e-25), s.splat(1e25), s.splat(f32::MIN));
        // Σ w·q² is from a hundredth of the weights to twice as much: nothing is subnormal or overflows.
        let size = s.mul(self.score, self.weight);
        let size = s.and(s.lt(low, size), s.lt(size, high));
        let mut sound = s.and(size, s.and(s.lt(low, self.score), s.lt(self.score, high)));
        if self.searches > 1 {
            sound = s.lt(least, least);
        }
        // Rounding errs by 6·10⁻⁸, some six times until scores are compared.
        let hurdle = s.mul(self.score, s.splat(1.0 - 8e-7));
        let below = s.mul(self.score, s.splat(1.0 - 1.6e-6));
        self.score = s.select(sound, hurdle, least);
        self.limit = s.select(sound, below, least);
        self.taken = self.start;
        self.unsure = false;
        true
    }

    /// Takes those splits that score higher than what there is, given the sums of each way, in order.
    #[inline(always)]
    fn offer<const WAYS: usize>(&mut self, s: S, ways: [[S::F32; 2]; WAYS], ends: [usize; 2]) {
        // Records are rare: one branch for all.
        let mut higher = 0;
        for [sum_qx, sum_q2] in ways {
            higher |= s.mask_bits(is_exceeded(s, self.limit, sum_qx, sum_q2));
        }
        if higher == 0 {
            return;
        }
        for (way, [sum_qx, sum_q2]) in ways.into_iter().enumerate() {
            let far = is_exceeded(s, self.limit, sum_qx, sum_q2);
            if !s.any(far) {
                continue;
            }
            let higher = is_exceeded(s, self.score, sum_qx, sum_q2);
            self.unsure |= s.any(s.and(far, s.not(higher)));
            let better = s.and(s.lt(s.splat(0.0), sum_q2), higher);
            if s.any(better) {
                let scale = s.div(sum_qx, sum_q2);
                self.score = s.select(better, s.mul(scale, sum_qx), self.score);
                self.limit = s.select(better, self.score, self.limit);
                let taken = &mut self.taken;
                taken.scale = s.select(better, scale, taken.scale);
                for (taken, end) in taken.ends.iter_mut().zip(ends) {
                    *taken = s.select_i(better, s.splat_i(end as i32), *taken);
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

/// Sums over the first values, in order, of the whole sub-block or one half of it.
struct Sums<S: Lanes> {
    wx: [S::F32; MOST + 1],
    w: [S::F32; MOST + 1],
}

/// Fits a batch of sub-blocks of `LEN` values in `GROUPS` groups of eight. With `BY_HALF` each of the two
/// groups has a shift of its own. Sub-blocks of which no magnitude reaches `least` are all zero.
#[inline(always)]
pub(crate) fn fit_splits<S: Lanes, const LEN: usize, const GROUPS: usize, const BY_HALF: bool>(
    s: S,
    book: &Codebook<8>,
    least: f32,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    room: &mut SplitRoom,
    subs: &mut [TernarySub],
) {
    const { assert!(LEN <= MOST && GROUPS * 8 == LEN) }
    let zero = s.splat(0.0);
    let none = s.splat_i(0);
    let mut max = zero;
    for &v in x {
        max = s.max(max, s.abs(v));
    }
    let ranks = rank(s, x);
    let sums = sort::<S, LEN, BY_HALF>(s, x, weights, &ranks, room);
    let mut weight = sums[0].w[LEN];
    if BY_HALF {
        weight = s.add(weight, sums[1].w[LEN]);
    }
    let mut best = Best::new(s, max, weight);
    if BY_HALF {
        try_halves::<S, LEN>(s, &sums, &mut best);
    } else {
        try_whole::<S, LEN>(s, &sums[0], &mut best);
    }
    let dead = s.lt(max, s.splat(least));
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
                let levels = if down >> lane & 1 == 1 { &TABLE_DOWN } else { &TABLE_UP };
                let group = Group::<8>::new(x, weights);
                let codes = near.codes(list.start());
                keys[lane] = group.nearest(s, codes, list.len(), levels, scales[lane]).into();
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

/// The levels as a table of errors has them.
const TABLE_UP: Levels = repeated(UP);
const TABLE_DOWN: Levels = repeated(DOWN);

const fn repeated(four: [f32; 4]) -> Levels {
    let mut levels = [0.0; 32];
    let mut i = 0;
    while i < 32 {
        levels[i] = four[i % 4];
        i += 1;
    }
    levels
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
fn sort<S: Lanes, const LEN: usize, const BY_HALF: bool>(
    s: S,
    x: &[S::F32; LEN],
    weights: &[S::F32; LEN],
    ranks: &[S::I32; LEN],
    room: &mut SplitRoom,
) -> [Sums<S>; 2] {
    let zero = s.splat(0.0);
    let (mut places, mut wx, mut w) = ([0; MAX_LANES], [0.0; MAX_LANES], [0.0; MAX_LANES]);
    for i in 0..LEN {
        s.store_i(ranks[i], &mut places);
        s.store(s.mul(weights[i], x[i]), &mut wx);
        s.store(weights[i], &mut w);
        let half = if BY_HALF { i * 2 / LEN } else { 0 };
        for lane in 0..S::N {
            let place = places[lane] as usize;
            for (h, [sorted_wx, sorted_w]) in room.sorted.iter_mut().enumerate() {
                let counts = h == half;
                sorted_wx[place][lane] = if counts { wx[lane] } else { 0.0 };
                sorted_w[place][lane] = if counts { w[lane] } else { 0.0 };
            }
        }
    }
    let empty = Sums { wx: [zero; MOST + 1], w: [zero; MOST + 1] };
    let mut sums = [Sums { ..empty }, empty];
    for (sums, [wx, w]) in sums.iter_mut().zip(&room.sorted) {
        for i in 0..LEN {
            sums.wx[i + 1] = s.add(sums.wx[i], s.load(&wx[i]));
            sums.w[i + 1] = s.add(sums.w[i], s.load(&w[i]));
        }
    }
    sums
}

/// All splits with one shift for all, up (0) or down (1), in the order in which the first of the best
/// wins.
#[inline(always)]
fn try_whole<S: Lanes, const LEN: usize>(s: S, sums: &Sums<S>, best: &mut Best<S>) {
    // The middle levels are opposite numbers.
    const { assert!(UP[1] == -DOWN[1]) }
    let middle = s.splat(UP[1]);
    let (wx, w, nothing) = (&sums.wx, &sums.w, (s.splat(0.0), s.splat(0.0)));
    // What the values at the highest level add, by where they begin and by way.
    let mut high = [[nothing; 2]; MOST + 1];
    for j in 0..=LEN {
        let (high_x, high_w) = (s.sub(wx[LEN], wx[j]), s.sub(w[LEN], w[j]));
        for (high, levels) in high[j].iter_mut().zip([UP, DOWN]) {
            let level = s.splat(levels[2]);
            *high = (s.mul(high_x, level), s.mul(s.mul(high_w, level), level));
        }
    }
    loop {
        let [below, ends] = splits(LEN, best.searches);
        for i in below[0]..=below[1] {
            let mut low = [nothing; 2];
            for (low, levels) in low.iter_mut().zip([UP, DOWN]) {
                let level = s.splat(levels[0]);
                *low = (s.mul(wx[i], level), s.mul(s.mul(w[i], level), level));
            }
            for j in i.max(ends[0])..=ends[1] {
                let middle_x = s.mul(s.sub(wx[j], wx[i]), middle);
                let middle_q2 = s.mul(s.mul(s.sub(w[j], w[i]), middle), middle);
                let [up, down] = high[j];
                let sums_up = [
                    s.add(s.add(low[0].0, middle_x), up.0),
                    s.add(s.add(low[0].1, middle_q2), up.1),
                ];
                let sums_down = [
                    s.add(s.sub(low[1].0, middle_x), down.0),
                    s.add(s.add(low[1].1, middle_q2), down.1),
                ];
                best.offer(s, [sums_up, sums_down], [i, j]);
            }
        }
        if !best.goes_on(s) {
            break;
        }
    }
}

/// All splits with a shift for each half, in ggml's order: both up, the second down, the first down, both
/// down. Its sums start from those with all values at the highest level.
#[inline(always)]
fn try_halves<S: Lanes, const LEN: usize>(s: S, sums: &[Sums<S>; 2], best: &mut Best<S>) {
    // By half and shift.
    let nothing = [[s.splat(0.0); 2]; 2];
    let (mut top_x, mut top_q2, mut to_low) = (nothing, nothing, nothing);
    // What it adds to Σ w·q² that values are no higher than the middle, by where these end.
    let mut to_middle = [nothing; MOST + 1];
    for h in 0..2 {
        for (way, [low, middle, high, _]) in [UP, DOWN].into_iter().enumerate() {
            let top = s.splat(high);
            top_x[h][way] = s.mul(sums[h].wx[LEN], top);
            top_q2[h][way] = s.mul(s.mul(sums[h].w[LEN], top), top);
            to_low[h][way] = s.splat(low * low - middle * middle);
            let steps = s.splat(middle * middle - high * high);
            for (to_middle, &w) in to_middle.iter_mut().zip(&sums[h].w).take(LEN + 1) {
                to_middle[h][way] = s.mul(w, steps);
            }
        }
    }
    loop {
        let [below, ends] = splits(LEN, best.searches);
        for i in below[0]..=below[1] {
            let mut start_q2 = nothing;
            for h in 0..2 {
                for way in 0..2 {
                    let low = s.mul(sums[h].w[i], to_low[h][way]);
                    start_q2[h][way] = s.add(top_q2[h][way], low);
                }
            }
            let all = to_middle.iter().enumerate().take(ends[1] + 1);
            for (j, to_middle) in all.skip(i.max(ends[0])) {
                let mut parts = [[[top_x[0][0]; 2]; 2]; 2];
                for h in 0..2 {
                    let ends = s.add(sums[h].wx[i], sums[h].wx[j]);
                    for way in 0..2 {
                        let sum_q2 = s.add(start_q2[h][way], to_middle[h][way]);
                        parts[h][way] = [s.sub(top_x[h][way], ends), sum_q2];
                    }
                }
                let mut ways = [parts[0][0]; 4];
                for (way, sums) in ways.iter_mut().enumerate() {
                    let (a, b) = (parts[0][way / 2], parts[1][way % 2]);
                    *sums = [s.add(a[0], b[0]), s.add(a[1], b[1])];
                }
                best.offer(s, ways, [i, j]);
            }
        }
        if !best.goes_on(s) {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
