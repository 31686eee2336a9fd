//! The nearest points of many groups side by side: a lane is a run of candidates at which a group has the
//! same key, and has a list of points of its own.
//!
//! Lists are short, so that a vector of the points of one would be half empty, and finding the lowest lane
//! of it would take longer than computing the lanes. Here the points of a list come one by one.

use super::nearest::{look_up, next_level, odd_levels};
use crate::{
    codebook::{List, Near},
    lanes::{Lanes, MAX_LANES, PerLane},
};

/// The most points of a list whose run is settled beside others.
pub(super) const SHORT: usize = 32;

/// Room for runs: those of one group of a batch at least, and of others to choose from.
pub(super) const ROOM: usize = 1024;

/// Candidates in a row at which a group has the same key, but perhaps not the same point.
#[derive(Clone, Copy)]
pub(super) struct Run {
    start: u32,
    len: u16,
    group: u8,
    lane: u8,
    from: u8,
    end: u8,
}

impl Run {
    pub(super) const NONE: Self = Self { start: 0, len: 0, group: 0, lane: 0, from: 0, end: 0 };

    /// The run of a group and lane with a list of points, from a candidate to the one before another.
    #[inline(always)]
    pub(super) fn new(list: List, (g, lane): (usize, usize), (from, end): (usize, usize)) -> Self {
        Self {
            start: list.start,
            len: list.len,
            group: g as u8,
            lane: lane as u8,
            from: from as u8,
            end: end as u8,
        }
    }

    /// The group and the lane.
    #[inline(always)]
    pub(super) fn place(self) -> (usize, usize) {
        (self.group.into(), self.lane.into())
    }

    /// A part of it.
    #[inline(always)]
    pub(super) fn part(self, from: usize, end: usize) -> Self {
        Self { from: from as u8, end: end as u8, ..self }
    }

    /// Where the list starts.
    #[inline(always)]
    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    /// How long the list is.
    #[inline(always)]
    pub(super) fn len(self) -> usize {
        self.len.into()
    }

    /// The first candidate.
    #[inline(always)]
    pub(super) fn from(self) -> usize {
        self.from.into()
    }

    /// The candidate after the last.
    #[inline(always)]
    pub(super) fn end(self) -> usize {
        self.end.into()
    }
}

/// Runs for later.
pub(super) struct Pile {
    runs: [Run; ROOM],
    len: usize,
}

impl Pile {
    pub(super) const EMPTY: Self = Self { runs: [Run::NONE; ROOM], len: 0 };

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is room for two.
    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        self.len + 2 <= ROOM
    }

    #[inline(always)]
    pub(super) fn push(&mut self, run: Run) {
        self.runs[self.len] = run;
        self.len += 1;
    }

    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<Run> {
        self.len = self.len.checked_sub(1)?;
        Some(self.runs[self.len])
    }
}

/// Runs with short lists.
pub(super) struct Runs {
    runs: [Run; ROOM],
    len: usize,
    /// Their numbers in the order of the lengths of their lists.
    order: [u16; ROOM],
    /// How many have a list of each length.
    counts: [u16; SHORT + 1],
}

impl Runs {
    pub(super) const NONE: Self =
        Self { runs: [Run::NONE; ROOM], len: 0, order: [0; ROOM], counts: [0; SHORT + 1] };

    /// Adds a run if it `counts`, without a branch.
    #[inline(always)]
    pub(super) fn push(&mut self, run: Run, counts: bool) {
        self.runs[self.len] = run;
        self.len = self.len.wrapping_add(usize::from(counts));
        let count = &mut self.counts[run.len().min(SHORT)];
        *count = count.wrapping_add(u16::from(counts));
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.counts = [0; SHORT + 1];
    }

    /// Orders them by the lengths of their lists, so that those that are side by side are alike.
    #[inline(always)]
    pub(super) fn sort(&mut self) {
        let mut starts = [0; SHORT + 1];
        let mut next = 0u16;
        for (start, count) in starts.iter_mut().zip(self.counts) {
            *start = next;
            next = next.wrapping_add(count);
        }
        for (number, run) in self.runs[..self.len].iter().enumerate() {
            let start = &mut starts[run.len().min(SHORT)];
            self.order[usize::from(*start) % ROOM] = number as u16;
            *start = start.wrapping_add(1);
        }
    }

    /// As many of them as there are lanes, in order; the last again where there are no more. Says how many
    /// there are.
    #[inline(always)]
    pub(super) fn batch<S: Lanes>(&self, at: usize) -> ([Run; MAX_LANES], usize) {
        let order = &self.order[at..self.len.min(at + S::N)];
        let mut runs = [Run::NONE; MAX_LANES];
        for (i, run) in runs.iter_mut().enumerate().take(S::N) {
            *run = self.runs[usize::from(order[i.min(order.len() - 1)]) % ROOM];
        }
        (runs, order.len())
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
    lines: [[PerLane<f32>; 2]; 2],
    noise: PerLane<f32>,
}

impl<S: Lanes> Drawn<S> {
    #[inline(always)]
    pub(super) fn new(s: S) -> Self {
        let zero = s.splat(0.0);
        Self { a: [zero; SHORT], b: [zero; SHORT], len: 0, values: [zero; 16] }
    }

    /// Takes the values of runs; `rows` has `2 * len` for each lane.
    #[inline(always)]
    pub(super) fn take<const DIMS: usize>(
        &mut self,
        s: S,
        rows: &[f32],
        len: usize,
        runs: &[Run; MAX_LANES],
    ) {
        let mut starts = [0; MAX_LANES];
        for (start, run) in starts.iter_mut().zip(runs).take(S::N) {
            let (g, lane) = run.place();
            *start = lane * 2 * len + g * 2 * DIMS;
        }
        s.load_columns(rows, &starts, &mut self.values[..2 * DIMS]);
    }

    /// Draws the lines of runs whose values were taken, of which the first has the shortest list and the last
    /// the longest, and finds the lowest at two scales.
    #[inline(always)]
    pub(super) fn draw<const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        runs: &[Run; MAX_LANES],
        noise: S::F32,
        scales: [S::F32; 2],
    ) -> [Lowest<S>; 2] {
        let (mut lens, mut starts) = ([0.0; MAX_LANES], [0; MAX_LANES]);
        for (i, run) in runs.iter().enumerate().take(S::N) {
            starts[i] = run.start();
            lens[i] = f32::from(run.len);
        }
        let lens = s.load(&lens);
        let (shortest, longest) = (runs[0].len(), runs[S::N - 1].len().min(SHORT));
        self.len = longest;
        let infinity = s.splat(f32::INFINITY);
        let mut least = [infinity; 2];
        let mut second = [infinity; 2];
        let mut found = [s.splat_i(0); 2];
        let mut codes = [s.splat_i(0); 8];
        for first in (0..longest).step_by(codes.len()) {
            s.load_u16_columns(near.codes(first), &starts, &mut codes);
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
        runs: &[Run; MAX_LANES],
    ) -> Turn<S> {
        let one = self.line::<DIMS>(s, codes[0]);
        let other = self.line::<DIMS>(s, codes[1]);
        let scale = s.div(s.sub(one.1, other.1), s.sub(one.0, other.0));
        let heights =
            [s.loose_mul_sub(scale, one.0, one.1), s.loose_mul_sub(scale, other.0, other.1)];
        let limit = s.add(noise, s.max(heights[0], heights[1]));
        let mut count = s.splat(0.0);
        for k in 0..self.len {
            let below = s.le(s.loose_mul_sub(scale, self.a[k], self.b[k]), limit);
            count = s.select(below, s.add(count, s.splat(1.0)), count);
        }
        // The inverses of scales are evenly spaced.
        let mut steps = [0.0; MAX_LANES];
        let mut from = [0.0; MAX_LANES];
        for (i, run) in runs.iter().enumerate().take(S::N) {
            from[i] = f32::from(run.from) + 1.0;
            steps[i] = f32::from(run.end) - from[i];
        }
        let unit = s.splat(1.0);
        let passed = s.sub(s.div(high, scale), unit);
        let part = s.div(passed, s.sub(s.div(high, low), unit));
        let guess = s.trunc(s.add(s.mul(part, s.load(&steps)), s.load(&from)));
        let mut turn = Turn {
            guess,
            pair: s.eq(count, s.splat(2.0)),
            lines: [[[0.0; MAX_LANES]; 2]; 2],
            noise: [0.0; MAX_LANES],
        };
        for (stored, line) in turn.lines.iter_mut().zip([one, other]) {
            s.store(line.0, &mut stored[0]);
            s.store(line.1, &mut stored[1]);
        }
        s.store(noise, &mut turn.noise);
        turn
    }
}

impl<S: Lanes> Turn<S> {
    /// Whether in a lane the first line is lower at the first of two scales and the second at the second, by
    /// more than the noise.
    #[inline(always)]
    pub(super) fn is_at(&self, lane: usize, scales: [f32; 2]) -> bool {
        let [one, other] = self.lines.each_ref().map(|line| [line[0][lane], line[1][lane]]);
        let above = scales.map(|scale| (scale * other[0] - other[1]) - (scale * one[0] - one[1]));
        above[0] > self.noise[lane] && above[1] < -self.noise[lane]
    }
}
