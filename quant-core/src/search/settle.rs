//! The points that stand for the groups of a batch of sub-blocks, at many scales.

use super::{
    abreast::{Drawn, Pile, ROOM, Run, Runs, SHORT},
    lines::{Below, Lines, Tables, noise},
    nearest::{Group, odd_levels},
};
use crate::{
    codebook::Near,
    lanes::{Lanes, MAX_LANES, PerLane},
};

/// Says of a code that its key was a point of the book.
pub(super) const ON_GRID: i32 = 1 << 16;

/// Room for a batch, to be used again for the next.
pub(crate) struct Room<const LEN: usize, const GROUPS: usize, const CANDIDATES: usize> {
    /// The magnitudes by lane.
    pub(super) x: [PerLane<f32>; LEN],
    /// By lane, for each group: of each value twice the product of its magnitude and the square root of
    /// its weight, then these roots, which distances are weighed by.
    columns: [[PerLane<f32>; LEN]; 2],
    /// The same of each lane in a row.
    rows: [[[f32; LEN]; 2]; MAX_LANES],
    /// The key of each group for each candidate, then its point, where it may be another than before.
    pub(super) points: [[PerLane<i32>; CANDIDATES]; GROUPS],
    /// For each group and lane a bit for each candidate whose point may differ from that of the one
    /// before.
    pub(super) turns: [PerLane<i32>; GROUPS],
    /// What rounding can do to the lines of each group.
    noise: [PerLane<f32>; GROUPS],
    /// For each group the lanes of which only the rivals among the points near a key may be the nearest.
    certain: [u32; GROUPS],
    lines: Lines,
    runs: Runs,
    long: [Run; CANDIDATES],
    /// Runs that need a closer look.
    aside: Pile,
    /// Parts of runs, which are looked at again.
    parts: Pile,
    /// Points that are known before they are looked for.
    known: [PerLane<i32>; GROUPS],
}

impl<const LEN: usize, const GROUPS: usize, const CANDIDATES: usize> Room<LEN, GROUPS, CANDIDATES> {
    pub(crate) const EMPTY: Self = Self {
        x: [[0.0; MAX_LANES]; LEN],
        columns: [[[0.0; MAX_LANES]; LEN]; 2],
        rows: [[[0.0; LEN]; 2]; MAX_LANES],
        points: [[[0; MAX_LANES]; CANDIDATES]; GROUPS],
        turns: [[0; MAX_LANES]; GROUPS],
        noise: [[0.0; MAX_LANES]; GROUPS],
        certain: [0; GROUPS],
        lines: Lines::NONE,
        runs: Runs::NONE,
        long: [Run::NONE; CANDIDATES],
        aside: Pile::EMPTY,
        parts: Pile::EMPTY,
        known: [[0; MAX_LANES]; GROUPS],
    };

    /// Takes the magnitudes and weights of a batch.
    #[inline(always)]
    pub(super) fn fill<S: Lanes>(&mut self, s: S, x: &[S::F32; LEN], weights: &[S::F32; LEN]) {
        let dims = LEN / GROUPS;
        let columns = self.columns.as_flattened_mut();
        for (i, (&x, &weight)) in x.iter().zip(weights).enumerate() {
            let root = s.sqrt(weight);
            s.store(x, &mut self.x[i]);
            let at = i + i / dims * dims;
            s.store(s.mul(s.mul(s.splat(2.0), root), x), &mut columns[at]);
            s.store(root, &mut columns[at + dims]);
        }
        let mut turned = [s.splat(0.0); MAX_LANES];
        for at in (0..2 * LEN).step_by(S::N) {
            let starts = core::array::from_fn(|b| (at + b) * MAX_LANES);
            s.load_columns(columns.as_flattened(), &starts, &mut turned[..S::N]);
            for (row, &v) in self.rows.iter_mut().zip(&turned[..S::N]) {
                s.store_part(v, &mut row.as_flattened_mut()[at..]);
            }
        }
    }

    /// Notes what rounding can do to the lines of a group from a high to a low scale, and whether all values are
    /// well inside the cells of their levels.
    #[inline(always)]
    pub(super) fn set_noise<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        g: usize,
        x: &[S::F32],
        ends: [S::F32; 2],
        inside: S::Mask,
    ) {
        let roots = &self.columns.as_flattened()[(2 * g + 1) * DIMS..][..DIMS];
        let noise = noise::<S, DIMS>(s, roots, x, ends);
        s.store(noise, &mut self.noise[g]);
        // Where noise is infinite, scales may be no inverses of their inverses.
        self.certain[g] = s.mask_bits(s.and(inside, s.lt(noise, s.splat(f32::INFINITY))));
    }

    /// Finds the points that stand for the groups of lanes at several scales, from large to small, given their
    /// keys, and says at which candidates they change.
    ///
    /// Where a key comes at several scales in a row, one point may be nearest at the first and the last
    /// of them by more than rounding can do. It is at those between, too, since points are lines.
    #[inline(always)]
    pub(super) fn settle<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        wanted: &[u32; GROUPS],
        scales: &[PerLane<f32>],
    ) {
        const { assert!(MAX_LANES * CANDIDATES <= ROOM) }
        for (g, &wanted) in wanted.iter().enumerate() {
            let mut rest = wanted;
            while rest != 0 {
                let lane = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                self.list_runs::<S, DIMS>(s, near, g, lane, scales);
            }
            let count = self.runs.len() + self.aside.len();
            if count + S::N * CANDIDATES > ROOM || g + 1 == GROUPS {
                loop {
                    self.settle_short::<S, DIMS>(s, near, scales);
                    self.runs.clear();
                    while let Some(run) = self.parts.pop() {
                        self.runs.push(run, true);
                    }
                    // Before there are more: there is room for as many as were settled.
                    while let Some(run) = self.aside.pop() {
                        self.settle_each::<S, DIMS>(s, near, scales, run);
                    }
                    if self.runs.len() == 0 {
                        break;
                    }
                }
            }
        }
    }

    /// Lists the runs of a group. Those whose points are many are settled at once.
    #[inline(always)]
    fn list_runs<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        g: usize,
        lane: usize,
        scales: &[PerLane<f32>],
    ) {
        let points = &mut self.points[g][..scales.len()];
        let lists = near.lists(self.certain[g] >> lane & 1 == 1);
        let mut long = 0;
        let mut turns = self.turns[g][lane] as u32;
        while turns != 0 {
            let from = turns.trailing_zeros() as usize;
            turns &= turns.wrapping_sub(1);
            let end = (turns.trailing_zeros() as usize).min(points.len());
            let list = lists[points[from][lane] as usize];
            let on_grid = if list.len == 0 { ON_GRID } else { 0 };
            points[from][lane] = i32::from(list.first) | on_grid;
            let run = Run::new(list, (g, lane), (from, end));
            // No branch waits for the list: it would be foreseen wrongly too often.
            self.runs.push(run, (list.len > 1) & (usize::from(list.len) <= SHORT));
            self.long[long] = run;
            long = long.wrapping_add(usize::from(usize::from(list.len) > SHORT));
        }
        if long > 0 {
            let tables = Tables::new::<S, DIMS>(s, self.row::<DIMS>(g, lane));
            for i in 0..long {
                self.settle_long::<S, DIMS>(s, near, scales, &tables, self.long[i]);
            }
        }
    }

    /// Settles the runs that were listed.
    #[inline(always)]
    fn settle_short<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        scales: &[PerLane<f32>],
    ) {
        self.runs.sort();
        let mut drawn = Drawn::<S>::new(s);
        for at in (0..self.runs.len()).step_by(S::N) {
            let (runs, live) = self.runs.batch::<S>(at);
            let (mut noise, mut high, mut low) =
                ([0.0; MAX_LANES], [0.0; MAX_LANES], [0.0; MAX_LANES]);
            for (i, run) in runs.iter().enumerate().take(S::N) {
                let (g, lane) = run.place();
                noise[i] = self.noise[g][lane];
                high[i] = scales[run.from()][lane];
                low[i] = scales[run.end().wrapping_sub(1)][lane];
            }
            let ends = [s.load(&high), s.load(&low)];
            let noise = s.load(&noise);
            drawn.take::<DIMS>(s, self.rows.as_flattened().as_flattened(), LEN, &runs);
            let [one, other] = drawn.draw::<DIMS>(s, near, &runs, noise, ends);
            let mut codes = [0; MAX_LANES];
            s.store_i(one.code, &mut codes);
            for (run, code) in runs.iter().zip(codes).take(live) {
                let (g, lane) = run.place();
                self.points[g][run.from()][lane] = code;
            }
            let certain = s.and(one.alone, other.alone);
            let same = s.mask_bits(s.and(certain, s.eq_i(one.code, other.code)));
            let full = u32::MAX >> (32 - live);
            let mut open = full & !same;
            if open == 0 {
                continue;
            }
            let turn = drawn.turn::<DIMS>(s, noise, ends, [one.code, other.code], &runs);
            let (mut others, mut guesses) = ([0; MAX_LANES], [0; MAX_LANES]);
            s.store_i(other.code, &mut others);
            s.store_i(turn.guess, &mut guesses);
            let (pairs, certain) = (s.mask_bits(turn.pair), s.mask_bits(certain));
            while open != 0 {
                let i = open.trailing_zeros() as usize;
                open &= open - 1;
                let (run, (g, lane)) = (runs[i], runs[i].place());
                if certain >> i & 1 == 0 || run.end() == run.from() + 1 {
                    self.aside.push(run);
                    continue;
                }
                let guess = (guesses[i].max(0) as usize).clamp(run.from() + 1, run.end() - 1);
                if run.end() == run.from() + 2
                    || pairs >> i & 1 == 1
                        && turn.is_at(i, [scales[guess - 1][lane], scales[guess][lane]])
                {
                    self.points[g][guess][lane] = others[i];
                    self.turns[g][lane] |= 1 << guess;
                } else if self.parts.has_room() {
                    let middle = guess.min(run.end() - 2);
                    self.turns[g][lane] |= 1 << middle;
                    self.parts.push(run.part(run.from(), middle + 1));
                    self.parts.push(run.part(middle, run.end()));
                } else {
                    self.aside.push(run);
                }
            }
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

    /// Finds the points for a run of many points.
    #[inline(always)]
    fn settle_long<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        scales: &[PerLane<f32>],
        tables: &Tables,
        run: Run,
    ) {
        let ((g, lane), from, end) = (run.place(), run.from(), run.end());
        let (codes, noise, lines) = (near.codes(run.start()), self.noise[g][lane], &mut self.lines);
        let at = [scales[from][lane], scales[end - 1][lane]];
        let ends: [Below; 2] = tables.draw_all::<S, DIMS>(s, codes, run.len(), at, noise, lines);
        let places = ends.map(|below| below.place);
        // Heights that are no numbers, which only infinite noise allows, are below nothing.
        if noise < f32::INFINITY && ends[0].is_alone() & ends[1].is_alone() {
            self.points[g][from][lane] = codes[places[0]].into();
            if places[0] == places[1] {
                return;
            }
            // If no other point is nearest between, the one at the last scale is from some scale on.
            if let Some(scale) = lines.crossing(s, places, noise) {
                let turn = turn_at(scale, at, from, end);
                let [before, after] = [scales[turn - 1][lane], scales[turn][lane]];
                if lines.are_apart(places, [before, after], noise) {
                    self.points[g][turn][lane] = codes[places[1]].into();
                    self.turns[g][lane] |= 1 << turn;
                    return;
                }
            }
        }
        self.aside.push(run);
    }

    /// Finds the points for a run: at both ends, and between two scales as long as the points at these
    /// differ.
    #[inline(always)]
    fn settle_each<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        scales: &[PerLane<f32>],
        run: Run,
    ) {
        let (g, lane) = run.place();
        let codes = near.codes(run.start());
        if run.end() == run.from() + 1 {
            // It is here because lines did not tell.
            self.settle_exactly::<S, DIMS>(s, codes, run, run.from(), scales[run.from()][lane]);
            return;
        }
        let tables = Tables::new::<S, DIMS>(s, self.row::<DIMS>(g, lane));
        self.lines.draw::<S, DIMS>(s, &tables, codes, run.len());
        let (first, last) = (run.from(), run.end() - 1);
        // Of candidates whose points are known, and which are no neighbours, the later ones.
        let mut later = [(last, None); CANDIDATES];
        let mut count = 1;
        let mut before = (first, self.settle_at::<S, DIMS>(s, codes, run, first, scales));
        if last > first {
            later[0].1 = self.settle_at::<S, DIMS>(s, codes, run, last, scales);
        }
        while count > 0 {
            let (end, place) = later[count - 1];
            let same = place.is_some() && place == before.1;
            if same || end <= before.0 + 1 {
                before = later[count - 1];
                count -= 1;
                continue;
            }
            let middle = match (before.1, place) {
                (Some(one), Some(other)) => {
                    let at = [scales[before.0][lane], scales[end][lane]];
                    turn_at(self.lines.meeting([one, other]), at, before.0, end + 1).min(end - 1)
                }
                _ => before.0.midpoint(end),
            };
            later[count] = (middle, self.settle_at::<S, DIMS>(s, codes, run, middle, scales));
            count += 1;
        }
    }

    /// Finds the point of a run whose lines are drawn at one scale. Returns its place, unless another point is
    /// as near but for rounding.
    #[inline(always)]
    fn settle_at<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        codes: &[u16],
        run: Run,
        c: usize,
        scales: &[PerLane<f32>],
    ) -> Option<usize> {
        let (g, lane) = run.place();
        let scale = scales[c][lane];
        let noise = self.noise[g][lane];
        let lowest = if noise < f32::INFINITY { self.lines.lowest(s, scale, noise) } else { None };
        match lowest {
            Some(place) => self.points[g][c][lane] = codes[place].into(),
            None => self.settle_exactly::<S, DIMS>(s, codes, run, c, scale),
        }
        self.turns[g][lane] |= 1 << c;
        lowest
    }

    /// Finds the point of a run at one scale as the reference does.
    #[inline(always)]
    fn settle_exactly<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        codes: &[u16],
        run: Run,
        c: usize,
        scale: f32,
    ) {
        let (g, lane) = run.place();
        let row = self.row::<DIMS>(g, lane);
        let x = core::array::from_fn(|i| self.x[g * DIMS + i][lane]);
        let weights = core::array::from_fn(|i| row[DIMS + i]);
        let levels = const { &odd_levels::<DIMS>() };
        let code = Group::<DIMS>::new(x, weights).nearest(s, codes, run.len(), levels, scale);
        self.points[g][c][lane] = code.into();
    }

    /// A group of a lane: twice the products of values and weights, then the weights.
    #[inline(always)]
    fn row<const DIMS: usize>(&self, g: usize, lane: usize) -> &[f32] {
        &self.rows[lane].as_flattened()[2 * DIMS * g..][..2 * DIMS]
    }
}

/// The candidate at which a scale is passed, given those of the first and the last one. The inverses of scales
/// are evenly spaced.
#[inline(always)]
fn turn_at(scale: f32, [high, low]: [f32; 2], from: usize, end: usize) -> usize {
    let part = (high / scale - 1.0) / (high / low - 1.0) * (end - 1 - from) as f32;
    (from + 1 + (part as usize).min(end)).min(end - 1)
}
