//! The points that stand for the groups of a batch of sub-blocks, at many scales.

use super::{
    lines::{Below, Lines, SHORT, ShortLines, Tables},
    nearest::{Group, odd_levels},
};
use crate::{
    codebook::{List, Near},
    lanes::{Lanes, MAX_LANES, PerLane},
};

/// Says of a code that its key was a point of the book.
pub(super) const ON_GRID: i32 = 1 << 16;

/// Room for a batch, to be used again for the next.
pub(crate) struct Room<const LEN: usize, const GROUPS: usize, const CANDIDATES: usize> {
    /// The magnitudes by lane.
    pub(super) x: [PerLane<f32>; LEN],
    /// Square roots of the weights by lane: what distances are weighed by.
    pub(super) roots: [PerLane<f32>; LEN],
    /// Twice the products of these and the values, by lane.
    pub(super) doubled: [PerLane<f32>; LEN],
    /// The key of each group for each candidate, then its point, where it may be another than before.
    pub(super) points: [[PerLane<i32>; CANDIDATES]; GROUPS],
    /// For each group and lane a bit for each candidate whose point may differ from that of the one
    /// before.
    pub(super) turns: [PerLane<i32>; GROUPS],
    /// What rounding can do to the lines of each group.
    pub(super) noise: [PerLane<f32>; GROUPS],
    lines: Lines,
    aside: [Run; CANDIDATES],
    /// Points that are known before they are looked for.
    known: [PerLane<i32>; GROUPS],
}

impl<const LEN: usize, const GROUPS: usize, const CANDIDATES: usize> Room<LEN, GROUPS, CANDIDATES> {
    pub(crate) const EMPTY: Self = Self {
        x: [[0.0; MAX_LANES]; LEN],
        roots: [[0.0; MAX_LANES]; LEN],
        doubled: [[0.0; MAX_LANES]; LEN],
        points: [[[0; MAX_LANES]; CANDIDATES]; GROUPS],
        turns: [[0; MAX_LANES]; GROUPS],
        noise: [[0.0; MAX_LANES]; GROUPS],
        lines: Lines::NONE,
        aside: [Run::NONE; CANDIDATES],
        known: [[0; MAX_LANES]; GROUPS],
    };
}

/// Candidates in a row at which a group has the same key, but perhaps not the same point.
#[derive(Clone, Copy)]
struct Run {
    from: usize,
    end: usize,
    list: List,
    /// Of a short list the lines, and which are lowest at both ends.
    lines: ShortLines,
    bits: [u32; 2],
}

impl Run {
    const NONE: Self = Self {
        from: 0,
        end: 0,
        list: List { start: 0, len: 0, first: 0 },
        lines: ShortLines::NONE,
        bits: [0; 2],
    };
}

impl<const LEN: usize, const GROUPS: usize, const CANDIDATES: usize> Room<LEN, GROUPS, CANDIDATES> {
    /// Finds the points that stand for a lane's group at several scales, from large to small, given their keys,
    /// and says at which candidates they change.
    ///
    /// Where a key comes at several scales in a row, one point may be nearest at the first and the last
    /// of them by more than rounding can do. It is at those between, too, since points are lines.
    #[inline(always)]
    pub(super) fn settle<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        g: usize,
        lane: usize,
        scales: &[PerLane<f32>],
    ) {
        let places = g * DIMS..(g + 1) * DIMS;
        let (roots, doubled) = (&self.roots[places.clone()], &self.doubled[places]);
        let tables = Tables::new::<S, DIMS>(s, roots, doubled, lane);
        let noise = self.noise[g][lane];
        let points = &mut self.points[g][..scales.len()];
        // No branch waits for what is found: it would be foreseen wrongly too often. What is not
        // simple is put aside.
        let mut aside = 0;
        let mut turns = self.turns[g][lane] as u32;
        while turns != 0 {
            let from = turns.trailing_zeros() as usize;
            turns &= turns.wrapping_sub(1);
            let end = (turns.trailing_zeros() as usize).min(points.len());
            let list = near.list(points[from][lane] as usize);
            if list.len <= 1 {
                let on_grid = if list.len == 0 { ON_GRID } else { 0 };
                points[from][lane] = i32::from(list.first) | on_grid;
                continue;
            }
            let codes = near.codes(list.start as usize);
            let ends = [scales[from][lane], scales[end.wrapping_sub(1)][lane]];
            let len = usize::from(list.len);
            let run = &mut self.aside[aside];
            (run.from, run.end, run.list) = (from, end, list);
            let (place, certain) = if len <= SHORT {
                let lines = &mut run.lines;
                run.bits = tables.draw_short::<S, DIMS>(s, codes, len, ends, noise, lines);
                let one = run.bits[0];
                let certain = (one == run.bits[1]) & (one & one.wrapping_sub(1) == 0);
                (one.trailing_zeros() as usize % MAX_LANES, certain)
            } else {
                let lines = &mut self.lines;
                let [one, other] = tables.draw_all::<S, DIMS>(s, codes, len, ends, noise, lines);
                let same = one.place == other.place;
                (one.place, same & one.is_alone() & other.is_alone())
            };
            points[from][lane] = codes[place].into();
            aside = aside.wrapping_add(usize::from(!certain));
        }
        for i in 0..aside {
            self.settle_run::<S, DIMS>(s, near, g, lane, scales, &tables, i);
        }
    }

    /// Finds the points at another scale, where they are those of both candidates it is between: neither
    /// the key nor the point changes there. Takes the lanes of which they are known out of those
    /// that are wanted, and says which these are.
    #[inline(always)]
    pub(super) fn between<S: Lanes>(
        &mut self,
        s: S,
        inverses: &[S::F32; CANDIDATES],
        inverse: S::F32,
        wanted: &mut [u32; GROUPS],
    ) -> [u32; GROUPS] {
        let mut below = s.splat_i(0);
        for &candidate in inverses {
            let more = s.add_i(below, s.splat_i(1));
            below = s.select_i(s.le(candidate, inverse), more, below);
        }
        let mut lanes = [0; MAX_LANES];
        s.store_i(below, &mut lanes);
        let mut known = [0; GROUPS];
        for g in 0..GROUPS {
            let mut rest = wanted[g];
            while rest != 0 {
                let lane = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                // Of the candidate after it, and of those before.
                let next = lanes[lane] as usize;
                let turns = self.turns[g][lane] as u32;
                let before = turns & (1u32 << next).wrapping_sub(1);
                if next < CANDIDATES && before != 0 && turns >> next & 1 == 0 {
                    let c = 31 - before.leading_zeros() as usize;
                    self.known[g][lane] = self.points[g][c][lane];
                    known[g] |= 1 << lane;
                }
            }
            wanted[g] &= !known[g];
        }
        known
    }

    /// Puts what [`between`](Self::between) has found where points are looked for.
    #[inline(always)]
    pub(super) fn restore(&mut self, known: [u32; GROUPS]) {
        for (g, mut rest) in known.into_iter().enumerate() {
            while rest != 0 {
                let lane = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                self.points[g][0][lane] = self.known[g][lane];
            }
        }
    }

    /// Finds the points for a run that was put aside.
    #[inline(always)]
    fn settle_run<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        g: usize,
        lane: usize,
        scales: &[PerLane<f32>],
        tables: &Tables,
        number: usize,
    ) {
        let (noise, run) = (self.noise[g][lane], &self.aside[number]);
        let (from, end) = (run.from, run.end.min(scales.len()));
        let codes = near.codes(run.list.start as usize);
        let len = usize::from(run.list.len);
        let lines = &mut self.lines;
        let ends = if len <= SHORT {
            lines.take(s, &run.lines);
            run.bits.map(Below::from_bits)
        } else {
            let ends = [scales[from][lane], scales[end - 1][lane]];
            tables.draw_all::<S, DIMS>(s, codes, len, ends, noise, lines)
        };
        if ends[0].is_alone() && ends[1].is_alone() {
            // If no other point is nearest between, the one at the last scale is from some scale on.
            let places = [ends[0].place, ends[1].place];
            if let Some(scale) = lines.crossing(s, places, noise) {
                let mut turn = from + 1;
                while turn < end - 1 && scales[turn][lane] > scale {
                    turn += 1;
                }
                let [before, after] = [scales[turn - 1][lane], scales[turn][lane]];
                if lines.are_apart(places, [before, after], noise) {
                    self.points[g][turn][lane] = codes[places[1]].into();
                    self.turns[g][lane] |= 1 << turn;
                    return;
                }
            }
        }
        for c in from..end {
            let scale = scales[c][lane];
            let code = match self.lines.lowest(s, scale, noise) {
                Some(place) => codes[place],
                None => {
                    let (mut x, mut weights) = ([0.0; DIMS], [0.0; DIMS]);
                    for i in 0..DIMS {
                        x[i] = self.x[g * DIMS + i][lane];
                        weights[i] = self.roots[g * DIMS + i][lane];
                    }
                    let levels = const { &odd_levels::<DIMS>() };
                    Group::<DIMS>::new(x, weights).nearest(s, codes, len, levels, scale)
                }
            };
            self.points[g][c][lane] = code.into();
            self.turns[g][lane] |= 1 << c;
        }
    }
}
