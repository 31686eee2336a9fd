//! The nearest points of many groups side by side: a lane is a run of candidates at which a group has the
//! same key, and has a list of points of its own.
//!
//! Lists are short, so that a vector of the points of one would be half empty, and finding the lowest lane
//! of it would take longer than computing the lanes. Here the points of a list come one by one.

use super::nearest::{NUMBERS, look_up, next_level, odd_levels};
use crate::{
    codebook::{List, Near, START_BITS},
    lanes::{Lanes, MAX_LANES},
};

/// The most points of a list whose run is settled beside others.
pub(super) const SHORT: usize = 32;

/// Room for runs: those of one group of a batch, and some of each group before.
pub(super) const ROOM: usize = 1024;

/// The most lanes.
pub(crate) const MOST_LANES: usize = 16;
/// The most groups of a sub-block.
pub(super) const MOST_GROUPS: usize = 8;
/// The most candidates, and one more.
pub(super) const MOST_CANDIDATES: usize = 32;

/// Candidates in a row at which a group has the same key, but perhaps not the same point.
///
/// As a number it has, from the lowest bit on, the lane in four bits, the group in three, the first candidate in
/// five, the last in five, and the key.
#[derive(Clone, Copy)]
pub(super) struct Run {
    run: u32,
    list: List,
}

/// Where the group, the candidates and the key are in the number of a run.
pub(super) const GROUP: u32 = 4;
pub(super) const FIRST: u32 = 7;
pub(super) const LAST: u32 = 12;
pub(super) const KEY: u32 = 17;

impl Run {
    /// The group and the lane.
    #[inline(always)]
    pub(super) fn place(self) -> (usize, usize) {
        ((self.run >> GROUP & 7) as usize, (self.run & 15) as usize)
    }

    /// Where the list starts.
    #[inline(always)]
    pub(super) fn start(self) -> usize {
        self.list.start()
    }

    /// How long the list is.
    #[inline(always)]
    pub(super) fn len(self) -> usize {
        self.list.len()
    }

    /// The first candidate.
    #[inline(always)]
    pub(super) fn first(self) -> usize {
        (self.run >> FIRST & 31) as usize
    }

    /// The last candidate.
    #[inline(always)]
    pub(super) fn last(self) -> usize {
        (self.run >> LAST & 31) as usize
    }

    /// The same with other candidates.
    #[inline(always)]
    pub(super) fn part(self, first: usize, last: usize) -> Self {
        let candidates = (first << FIRST | last << LAST) as u32;
        Self { run: self.run & ((1 << FIRST) - 1) | candidates, ..self }
    }
}

/// A vector of runs, and their lists, as numbers.
#[derive(Clone, Copy)]
pub(super) struct Batch<S: Lanes> {
    pub(super) runs: S::I32,
    pub(super) lists: S::I32,
}

impl<S: Lanes> Batch<S> {
    /// The lane and the group of each: its place among as many values for each group.
    #[inline(always)]
    pub(super) fn places(&self, s: S) -> S::I32 {
        s.and_i(self.runs, s.splat_i((1 << FIRST) - 1))
    }

    /// The first candidate of each.
    #[inline(always)]
    pub(super) fn first(&self, s: S) -> S::I32 {
        s.and_i(s.shr::<FIRST>(self.runs), s.splat_i(31))
    }

    /// The last candidate of each.
    #[inline(always)]
    pub(super) fn last(&self, s: S) -> S::I32 {
        s.and_i(s.shr::<LAST>(self.runs), s.splat_i(31))
    }

    /// Where the list of each starts.
    #[inline(always)]
    fn starts(&self, s: S) -> S::I32 {
        s.and_i(self.lists, s.splat_i((1 << START_BITS) - 1))
    }

    /// How long the list of each is.
    #[inline(always)]
    pub(super) fn lens(&self, s: S) -> S::F32 {
        s.to_f32(s.shr::<START_BITS>(self.lists))
    }

    /// How long the longest list is.
    #[inline(always)]
    pub(super) fn longest(&self, s: S) -> usize {
        -s.lowest(s.sub(s.splat(0.0), self.lens(s))) as usize
    }

    /// The same without the first and the last candidate.
    #[inline(always)]
    pub(super) fn inner(&self, s: S) -> Self {
        let one = s.splat_i(1);
        self.part(s, s.add_i(self.first(s), one), s.sub_i(self.last(s), one))
    }

    /// The same with other candidates.
    #[inline(always)]
    pub(super) fn part(&self, s: S, first: S::I32, last: S::I32) -> Self {
        let candidates = s.or_i(s.shl::<FIRST>(first), s.shl::<LAST>(last));
        Self { runs: s.or_i(self.places(s), candidates), lists: self.lists }
    }
}

/// Runs that wait.
pub(super) struct Pile {
    runs: [i32; ROOM + 2 * MAX_LANES],
    lists: [i32; ROOM + 2 * MAX_LANES],
    len: usize,
}

impl Pile {
    pub(super) const EMPTY: Self =
        Self { runs: [0; ROOM + 2 * MAX_LANES], lists: [0; ROOM + 2 * MAX_LANES], len: 0 };

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is room for two vectors.
    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        self.len <= ROOM - 2 * MAX_LANES
    }

    /// Adds those of a mask.
    #[inline(always)]
    pub(super) fn push<S: Lanes>(&mut self, s: S, mask: S::Mask, batch: &Batch<S>) {
        s.compress_i(mask, batch.lists, &mut self.lists[self.len..]);
        self.push_runs(s, mask, batch.runs);
    }

    /// Adds runs without lists.
    #[inline(always)]
    pub(super) fn push_runs<S: Lanes>(&mut self, s: S, mask: S::Mask, runs: S::I32) {
        let count = s.compress_i(mask, runs, &mut self.runs[self.len..]);
        self.len = self.len.wrapping_add(count);
    }

    /// A vector of them from a place on; whatever there is beyond the last.
    #[inline(always)]
    pub(super) fn at<S: Lanes>(&self, s: S, at: usize) -> Batch<S> {
        let load = |values: &[i32]| match values[at..].first_chunk() {
            Some(values) => s.load_i(values),
            None => s.splat_i(0),
        };
        Batch { runs: load(&self.runs), lists: load(&self.lists) }
    }

    /// Takes the last ones, as many as there are lanes or as there are, and says which lanes have one. The
    /// lists of the others are empty.
    #[inline(always)]
    pub(super) fn take<S: Lanes>(&mut self, s: S) -> (Batch<S>, S::Mask) {
        let count = S::N.min(self.len);
        self.len -= count;
        let live = s.lt(s.load(&NUMBERS), s.splat(count as f32));
        let Batch { runs, lists } = self.at(s, self.len);
        (Batch { runs, lists: s.select_i(live, lists, s.splat_i(0)) }, live)
    }

    /// Adds one.
    #[inline(always)]
    pub(super) fn put(&mut self, run: Run) {
        (self.runs[self.len], self.lists[self.len]) = (run.run as i32, run.list.bits());
        self.len += 1;
    }

    /// Takes the last one.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<Run> {
        self.len = self.len.checked_sub(1)?;
        let (run, list) = (self.runs[self.len], self.lists[self.len]);
        Some(Run { run: run as u32, list: List::from_bits(list) })
    }
}

/// The lowest line of each lane at one scale.
pub(super) struct Lowest<S: Lanes> {
    /// Its point.
    pub(super) code: S::I32,
    /// Whether no other comes within the noise.
    pub(super) alone: S::Mask,
}

/// The lines of the points of a vector of runs.
pub(super) struct Drawn<S: Lanes> {
    a: [S::F32; SHORT],
    b: [S::F32; SHORT],
    len: usize,
    /// By lane, twice the products of weights and values, and the weights.
    values: [S::F32; 16],
}

/// Where the nearest point of a run may change once.
pub(super) struct Turn<S: Lanes> {
    /// The candidate.
    pub(super) guess: S::I32,
    /// Whether no point but the two is nearest anywhere.
    pub(super) pair: S::Mask,
    /// The lines of both.
    lines: [(S::F32, S::F32); 2],
    noise: S::F32,
}

impl<S: Lanes> Drawn<S> {
    #[inline(always)]
    pub(super) fn new(s: S) -> Self {
        let zero = s.splat(0.0);
        Self { a: [zero; SHORT], b: [zero; SHORT], len: 0, values: [zero; 16] }
    }

    /// Takes the values of runs; `rows` has `2 * LEN` for each lane.
    #[inline(always)]
    pub(super) fn take<const DIMS: usize, const LEN: usize>(
        &mut self,
        s: S,
        rows: &[f32],
        batch: &Batch<S>,
    ) {
        const { assert!((LEN == 16 || LEN == 32) && (DIMS == 4 || DIMS == 8)) }
        let lane = s.and_i(batch.runs, s.splat_i(15));
        let group = s.and_i(s.shr::<GROUP>(batch.runs), s.splat_i(7));
        let from = if LEN == 32 { s.shl::<6>(lane) } else { s.shl::<5>(lane) };
        let inside = if DIMS == 8 { s.shl::<4>(group) } else { s.shl::<3>(group) };
        s.load_columns_at(rows, s.add_i(from, inside), &mut self.values[..2 * DIMS]);
    }

    /// Draws the lines of runs whose values were taken, of which none has a list shorter or longer than `lens`
    /// says, and finds the lowest at two scales.
    #[inline(always)]
    pub(super) fn draw<const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        batch: &Batch<S>,
        [shortest, longest]: [usize; 2],
        noise: S::F32,
        scales: [S::F32; 2],
    ) -> [Lowest<S>; 2] {
        let (starts, lens) = (batch.starts(s), batch.lens(s));
        self.len = longest;
        let infinity = s.splat(f32::INFINITY);
        let mut least = [infinity; 2];
        let mut second = [infinity; 2];
        let mut found = [s.splat_i(0); 2];
        let mut codes = [s.splat_i(0); 8];
        for first in (0..longest).step_by(codes.len()) {
            s.load_u16_columns(near.codes(first), starts, &mut codes);
            for k in first..longest.min(first + codes.len()) {
                let code = codes[k - first];
                let (mut a, b) = self.line::<DIMS>(s, code);
                if k >= shortest {
                    a = s.select(s.lt(s.splat(k as f32), lens), a, infinity);
                }
                (self.a[k], self.b[k]) = (a, b);
                for i in 0..2 {
                    let height = s.loose_mul_sub(scales[i], a, b);
                    let lower = s.lt(height, least[i]);
                    second[i] = s.min(second[i], s.max(least[i], height));
                    least[i] = s.min(least[i], height);
                    found[i] = s.select_i(lower, code, found[i]);
                }
            }
        }
        let one = Lowest { code: found[0], alone: s.lt(s.add(least[0], noise), second[0]) };
        [one, Lowest { code: found[1], alone: s.lt(s.add(least[1], noise), second[1]) }]
    }

    /// The points nearest to the values of runs at two scales: by the errors themselves, in the order of the
    /// reference's sums; of equals the first, and if no error is a number, the first of all.
    #[inline(always)]
    pub(super) fn nearest<const DIMS: usize>(
        &self,
        s: S,
        near: &Near,
        batch: &Batch<S>,
        x: &[S::F32; 8],
        scales: [S::F32; 2],
    ) -> [S::I32; 2] {
        let levels = const { &odd_levels::<DIMS>() };
        let (starts, lens) = (batch.starts(s), batch.lens(s));
        let longest = batch.longest(s);
        let mut least = [s.splat(f32::MAX); 2];
        let mut found = [s.splat_i(0); 2];
        let mut codes = [s.splat_i(0); 8];
        for first in (0..longest).step_by(codes.len()) {
            s.load_u16_columns(near.codes(first), starts, &mut codes);
            if first == 0 {
                found = [codes[0]; 2];
            }
            for k in first..longest.min(first + codes.len()) {
                let mut rest = codes[k - first];
                let mut errors = [s.splat(0.0); 2];
                for (i, &x) in x.iter().enumerate().take(DIMS) {
                    let q = look_up::<S, DIMS>(s, levels, i, rest);
                    rest = next_level::<S, DIMS>(s, rest);
                    for (error, scale) in errors.iter_mut().zip(scales) {
                        let difference = s.sub(s.mul(scale, q), x);
                        let part = s.mul(s.mul(self.values[DIMS + i], difference), difference);
                        *error = if i == 0 { part } else { s.add(*error, part) };
                    }
                }
                let inside = s.lt(s.splat(k as f32), lens);
                for i in 0..2 {
                    let lower = s.and(inside, s.lt(errors[i], least[i]));
                    least[i] = s.select(lower, errors[i], least[i]);
                    found[i] = s.select_i(lower, codes[k - first], found[i]);
                }
            }
        }
        found
    }

    /// The line of each lane's point.
    #[inline(always)]
    fn line<const DIMS: usize>(&self, s: S, code: S::I32) -> (S::F32, S::F32) {
        let levels = const { &odd_levels::<DIMS>() };
        let mut rest = code;
        let (mut a, mut b) = (s.splat(0.0), s.splat(0.0));
        for i in 0..DIMS {
            let q = look_up::<S, DIMS>(s, levels, i, rest);
            rest = next_level::<S, DIMS>(s, rest);
            let (square, weight, product) = (s.mul(q, q), self.values[DIMS + i], self.values[i]);
            (a, b) = if i == 0 {
                (s.mul(square, weight), s.mul(q, product))
            } else {
                (s.loose_mul_add(square, weight, a), s.loose_mul_add(q, product, b))
            };
        }
        (a, b)
    }

    /// Where one point gives way to the other, given which are the lowest at both ends.
    #[inline(always)]
    pub(super) fn turn<const DIMS: usize>(
        &self,
        s: S,
        noise: S::F32,
        [high, low]: [S::F32; 2],
        codes: [S::I32; 2],
        [first, last]: [S::I32; 2],
    ) -> Turn<S> {
        let one = self.line::<DIMS>(s, codes[0]);
        let other = self.line::<DIMS>(s, codes[1]);
        let [rise, gap] = [s.sub(one.0, other.0), s.sub(one.1, other.1)];
        // A third line that is above both there is between the ends above one or the other, even if that is not
        // quite where they meet.
        let scale = s.mul(gap, s.rough_inverse(rise));
        let heights =
            [s.loose_mul_sub(scale, one.0, one.1), s.loose_mul_sub(scale, other.0, other.1)];
        let limit = s.add(noise, s.max(heights[0], heights[1]));
        let mut count = s.splat(0.0);
        for k in 0..self.len {
            let below = s.le(s.loose_mul_sub(scale, self.a[k], self.b[k]), limit);
            count = s.select(below, s.add(count, s.splat(1.0)), count);
        }
        // The inverses of scales are evenly spaced.
        let from = s.add(s.to_f32(first), s.splat(1.0));
        let steps = s.to_f32(s.sub_i(last, first));
        let passed = s.loose_mul_sub(high, s.mul(rise, s.rough_inverse(gap)), s.splat(1.0));
        let spacing = s.mul(s.mul(low, s.rough_inverse(s.sub(high, low))), steps);
        let guess = s.trunc(s.loose_mul_add(passed, spacing, from));
        let guess = s.min_i(s.max_i(guess, s.trunc(from)), last);
        Turn { guess, pair: s.eq(count, s.splat(2.0)), lines: [one, other], noise }
    }
}

impl<S: Lanes> Turn<S> {
    /// Whether the first line is lower at the first of two scales and the second at the second, by more than
    /// the noise.
    #[inline(always)]
    pub(super) fn is_at(&self, s: S, scales: [S::F32; 2]) -> S::Mask {
        let [one, other] = self.lines;
        let mut above = scales;
        for (above, scale) in above.iter_mut().zip(scales) {
            let heights =
                [s.loose_mul_sub(scale, one.0, one.1), s.loose_mul_sub(scale, other.0, other.1)];
            *above = s.sub(heights[1], heights[0]);
        }
        let [before, after] = above;
        s.and(s.lt(self.noise, before), s.lt(after, s.sub(s.splat(0.0), self.noise)))
    }
}
