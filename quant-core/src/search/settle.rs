//! The points that stand for the groups of a batch of sub-blocks, at many scales.

use super::{
    abreast::{
        Batch, Drawn, FIRST, GROUP, KEY, LAST, MOST_CANDIDATES, MOST_GROUPS, MOST_LANES, Pile, Run,
        SHORT,
    },
    lines::{Below, Lines, Tables, noise},
    nearest::NUMBERS,
};
use crate::{
    codebook::Near,
    lanes::{Lanes, MAX_LANES, PerLane},
};

/// Where no point is noted.
const NONE: i32 = -1;

/// The lengths up to which lists are short enough to be settled side by side.
const fn lengths<const DIMS: usize>() -> [usize; KINDS] {
    if DIMS == 8 { [8, 12, 17, SHORT] } else { [5, 7, 10, SHORT] }
}

/// How many these are.
const KINDS: usize = 4;

/// Where the points of lanes are written that have none: of a candidate that there is not.
const NOWHERE: i32 = (MOST_CANDIDATES as i32 - 1) << FIRST;

/// One value per lane, without room for more lanes.
type Row<T> = [T; MOST_LANES];

/// Room for a batch, to be used again for the next.
pub(crate) struct Room<const LEN: usize, const GROUPS: usize> {
    /// The magnitudes by lane.
    x: [PerLane<f32>; LEN],
    /// By lane, for each group: of each value twice the product of its magnitude and the square root of
    /// its weight, then these roots, which distances are weighed by.
    columns: [[PerLane<f32>; LEN]; 2],
    /// The same of each lane in a row.
    rows: [[[f32; LEN]; 2]; MAX_LANES],
    /// The scales of the candidates.
    scales: [Row<f32>; MOST_CANDIDATES],
    /// The point of each group for each candidate where it may be another than before, else [`NONE`]: in the order
    /// of the numbers of [`Run`]s.
    points: [[Row<i32>; MOST_GROUPS]; MOST_CANDIDATES],
    /// What rounding can do to the lines of each group.
    noise: [Row<f32>; MOST_GROUPS],
    /// For each group what is to be added to keys: nothing where only the rivals among the points near a key may
    /// be the nearest.
    lists: [Row<i32>; MOST_GROUPS],
    lines: Lines,
    /// The runs of a group as they are found.
    found: Pile,
    /// Runs with short lists, by length.
    short: [Pile; KINDS],
    long: Pile,
    /// Runs that need a closer look.
    aside: Pile,
}

impl<const LEN: usize, const GROUPS: usize> Room<LEN, GROUPS> {
    pub(crate) const EMPTY: Self = Self {
        x: [[0.0; MAX_LANES]; LEN],
        columns: [[[0.0; MAX_LANES]; LEN]; 2],
        rows: [[[0.0; LEN]; 2]; MAX_LANES],
        scales: [[0.0; MOST_LANES]; MOST_CANDIDATES],
        points: [[[0; MOST_LANES]; MOST_GROUPS]; MOST_CANDIDATES],
        noise: [[0.0; MOST_LANES]; MOST_GROUPS],
        lists: [[0; MOST_LANES]; MOST_GROUPS],
        lines: Lines::NONE,
        found: Pile::EMPTY,
        short: [Pile::EMPTY; KINDS],
        long: Pile::EMPTY,
        aside: Pile::EMPTY,
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

    /// Takes the scales of the candidates, from large to small.
    #[inline(always)]
    pub(super) fn set_scales<S: Lanes>(&mut self, s: S, scales: &[S::F32]) {
        for (stored, &scale) in self.scales.iter_mut().zip(scales) {
            s.store_part(scale, stored);
        }
    }

    /// Notes what rounding can do to the lines of a group from a high to a low scale, and whether all values are
    /// well inside the cells of their levels.
    #[inline(always)]
    pub(super) fn set_noise<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        g: usize,
        x: &[S::F32],
        ends: [S::F32; 2],
        inside: S::Mask,
    ) -> S::Mask {
        let roots = &self.columns.as_flattened()[(2 * g + 1) * DIMS..][..DIMS];
        let noise = noise::<S, DIMS>(s, roots, x, ends);
        s.store_part(noise, &mut self.noise[g]);
        // Where noise is infinite, scales may be no inverses of their inverses.
        let certain = s.and(inside, s.lt(noise, s.splat(f32::INFINITY)));
        let all = s.splat_i(near.slots() as i32);
        store(s, s.select_i(certain, s.splat_i(0), all), &mut self.lists[g]);
        certain
    }

    /// The point of a group at a candidate, where it may be another than before; and in which lanes it is not.
    #[inline(always)]
    pub(super) fn point<S: Lanes>(&self, s: S, g: usize, c: usize) -> (S::I32, S::Mask) {
        let point = load(s, &self.points[c][g]);
        (point, s.eq_i(point, s.splat_i(NONE)))
    }

    /// Begins with a group and a candidate: no points are noted.
    #[inline(always)]
    pub(super) fn forget<S: Lanes>(&mut self, s: S, g: usize, c: usize) {
        store(s, s.splat_i(NONE), &mut self.points[c][g]);
    }

    /// Adds those of a mask to the runs of a group, given their keys and the first candidates, as
    /// [`begin`] has them.
    ///
    /// [`begin`]: Self::begin
    #[inline(always)]
    pub(super) fn end<S: Lanes>(
        &mut self,
        s: S,
        ended: S::Mask,
        run: S::I32,
        key: S::I32,
        c: usize,
    ) {
        let run = s.or_i(s.or_i(run, s.splat_i((c as i32) << LAST)), s.shl::<KEY>(key));
        self.found.push_runs(s, ended, run);
    }

    /// The runs of a group that begin with a candidate.
    #[inline(always)]
    pub(super) fn begin<S: Lanes>(s: S, g: usize, c: usize) -> S::I32 {
        let run = (c << FIRST | g << GROUP) as i32;
        s.add_i(s.trunc(s.load(&NUMBERS)), s.splat_i(run))
    }

    /// Notes a point in each lane of a mask, at the place of a run.
    #[inline(always)]
    fn note<S: Lanes>(&mut self, s: S, mask: S::Mask, run: S::I32, point: S::I32) {
        let place = s.and_i(run, s.splat_i((1 << LAST) - 1));
        let (mut places, mut points) = ([0; MAX_LANES], [0; MAX_LANES]);
        s.store_i(s.select_i(mask, place, s.splat_i(NOWHERE)), &mut places);
        s.store_i(point, &mut points);
        let noted = self.points.as_flattened_mut().as_flattened_mut();
        for (place, point) in places.into_iter().zip(points).take(S::N) {
            noted[place as usize & ((1 << LAST) - 1)] = point;
        }
    }

    /// Finds the points of the runs that were listed, or has them wait for others of their kind; of the `last` group
    /// they need not wait.
    ///
    /// Where a key comes at several scales in a row, one point may be nearest at the first and the last
    /// of them by more than rounding can do. It is at those between, too, since points are lines.
    #[inline(always)]
    pub(super) fn settle<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        drawn: &mut Drawn<S>,
        last: bool,
    ) {
        const { assert!(GROUPS <= MOST_GROUPS) }
        const LONGEST: usize = KINDS - 1;
        loop {
            while self.aside.has_room() {
                let Some(run) = self.long.pop() else { break };
                self.settle_long::<S, DIMS>(s, near, run);
            }
            for length in 0..KINDS {
                let enough = if last && length == LONGEST { 1 } else { S::N };
                while self.short[length].len() >= enough && self.aside.has_room() {
                    self.settle_short::<S, DIMS>(s, near, drawn, length, last);
                }
                // What is left of one length makes up vectors with the next.
                if last && length < LONGEST && self.short[length].len() < enough {
                    let (batch, live) = self.short[length].take(s);
                    self.short[length + 1].push(s, live, &batch);
                }
            }
            let enough = if last { 1 } else { S::N };
            if self.aside.len() < enough {
                break;
            }
            while self.aside.len() >= enough && self.short[LONGEST].has_room() {
                let (batch, live) = self.aside.take(s);
                let rest = self.settle_ends::<S, DIMS>(s, near, drawn, &batch, live);
                let short = s.le(batch.lens(s), s.splat(SHORT as f32));
                let parts = batch.inner(s);
                self.short[LONGEST].push(s, s.and(rest, short), &parts);
                self.long.push(s, s.and(rest, s.not(short)), &parts);
            }
        }
    }

    /// Finds the lists of the runs that were found, and puts these to those of a kind. A key that is a point needs
    /// no more. `certain` says that only rivals may be the nearest in all of them. What does not make up a vector
    /// waits for the next group, if this is not the `last`.
    #[inline(always)]
    pub(super) fn list_runs<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        certain: bool,
        last: bool,
    ) {
        let (none, empty) = (s.splat_i(0), s.splat(0.0));
        let enough = if last { 1 } else { S::N };
        while self.found.len() >= enough {
            let (batch, live) = self.found.take(s);
            let runs = s.select_i(live, batch.runs, none);
            let batch = Batch::<S> { runs, lists: none };
            let mut keys = s.shr::<KEY>(runs);
            if !certain {
                let all = gather(s, self.lists.as_flattened(), batch.places(s));
                keys = s.add_i(keys, all);
            }
            let lists = gather(s, near.lists(), keys);
            let batch = Batch { runs, lists };
            let lens = batch.lens(s);
            self.note(s, s.and(live, s.eq(lens, empty)), runs, lists);
            let mut longer = s.and(live, s.lt(empty, lens));
            for (pile, length) in self.short.iter_mut().zip(const { lengths::<DIMS>() }) {
                let inside = s.le(lens, s.splat(length as f32));
                pile.push(s, s.and(longer, inside), &batch);
                longer = s.and(longer, s.not(inside));
            }
            if s.any(longer) {
                self.long.push(s, longer, &batch);
            }
        }
    }

    /// Settles a vector of runs of a length. `mixed` says that some may be shorter.
    #[inline(always)]
    fn settle_short<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        drawn: &mut Drawn<S>,
        length: usize,
        mixed: bool,
    ) {
        let (batch, live) = self.short[length].take(s);
        // How often a loop runs is better known before.
        let lens = if mixed || DIMS == 8 || length + 1 == KINDS {
            [0, batch.longest(s).min(SHORT)]
        } else {
            let lengths = const { lengths::<DIMS>() };
            [if length == 0 { 1 } else { lengths[length - 1] }, lengths[length]]
        };
        let (first, last, places) = (batch.first(s), batch.last(s), batch.places(s));
        let noise = pick(s, self.noise.as_flattened(), places);
        let ends = [self.scale(s, &batch, first), self.scale(s, &batch, last)];
        drawn.take::<DIMS, LEN>(s, self.rows.as_flattened().as_flattened(), &batch);
        let [one, other] = drawn.draw::<DIMS>(s, near, &batch, lens, noise, ends);
        self.note(s, live, batch.runs, one.code);
        let certain = s.and(one.alone, other.alone);
        let same = s.and(certain, s.eq_i(one.code, other.code));
        let open = s.and(live, s.not(same));
        if !s.any(open) {
            return;
        }
        let certain = s.and(certain, s.not(s.eq_i(first, last)));
        self.aside.push(s, s.and(open, s.not(certain)), &batch);
        let open = s.and(open, certain);
        let turn = drawn.turn::<DIMS>(s, noise, ends, [one.code, other.code], [first, last]);
        let unit = s.splat_i(1);
        let before = self.scale(s, &batch, s.sub_i(turn.guess, unit));
        let is_there = turn.is_at(s, [before, self.scale(s, &batch, turn.guess)]);
        let alone = s.and(turn.pair, is_there);
        let two = s.eq_i(s.add_i(first, unit), last);
        let parted = s.and(open, s.not(s.and(s.not(two), s.not(alone))));
        self.note(s, parted, batch.part(s, turn.guess, last).runs, other.code);
        let open = s.and(open, s.not(parted));
        if s.any(open) {
            let middle = s.min_i(turn.guess, s.sub_i(last, unit));
            let pile = &mut self.short[length];
            if pile.has_room() {
                pile.push(s, open, &batch.part(s, first, middle));
                pile.push(s, open, &batch.part(s, middle, last));
            } else {
                self.aside.push(s, open, &batch);
            }
        }
    }

    /// Finds the points of runs at their first and their last candidate as the reference does, where lines do not
    /// tell. Says which have candidates between.
    #[inline(always)]
    fn settle_ends<S: Lanes, const DIMS: usize>(
        &mut self,
        s: S,
        near: &Near,
        drawn: &mut Drawn<S>,
        batch: &Batch<S>,
        live: S::Mask,
    ) -> S::Mask {
        let (first, last, places) = (batch.first(s), batch.last(s), batch.places(s));
        let ends = [self.scale(s, batch, first), self.scale(s, batch, last)];
        drawn.take::<DIMS, LEN>(s, self.rows.as_flattened().as_flattened(), batch);
        let mut x = [s.splat(0.0); 8];
        // The values of a group come in `DIMS` rows.
        let lane = s.and_i(places, s.splat_i(MOST_LANES as i32 - 1));
        let group = s.shr::<GROUP>(places);
        let row = if DIMS == 8 { s.shl::<3>(group) } else { s.shl::<2>(group) };
        let place = s.or_i(s.shl::<5>(row), lane);
        for (i, x) in x.iter_mut().enumerate().take(DIMS) {
            let at = s.add_i(place, s.splat_i((i * MAX_LANES) as i32));
            *x = pick(s, self.x.as_flattened(), at);
        }
        let [one, other] = drawn.nearest::<DIMS>(s, near, batch, &x, ends);
        self.note(s, live, batch.part(s, first, last).runs, one);
        self.note(s, live, batch.part(s, last, last).runs, other);
        let between = s.sub_i(s.sub_i(last, first), s.splat_i(1));
        s.and(live, s.lt(s.splat(0.0), s.to_f32(between)))
    }

    /// The scales of candidates.
    #[inline(always)]
    fn scale<S: Lanes>(&self, s: S, batch: &Batch<S>, c: S::I32) -> S::F32 {
        let lane = s.and_i(batch.runs, s.splat_i(15));
        pick(s, self.scales.as_flattened(), s.or_i(lane, s.shl::<GROUP>(c)))
    }

    /// Finds the points at another scale, where they are those of both candidates it is between: neither
    /// the key nor the point changes there. Takes the lanes of which they are known out of those
    /// that are wanted, and says which these are.
    #[inline(always)]
    pub(super) fn between<S: Lanes, const CANDIDATES: usize>(
        &self,
        s: S,
        inverses: &[S::F32; CANDIDATES],
        inverse: S::F32,
        wanted: &mut [S::Mask; GROUPS],
    ) -> [(S::I32, S::Mask); GROUPS] {
        let nothing = s.lt(inverse, inverse);
        let mut known = [(s.splat_i(0), nothing); GROUPS];
        for (g, (known, wanted)) in known.iter_mut().zip(wanted).enumerate() {
            let (mut code, mut stays) = (s.splat_i(NONE), s.splat_i(0));
            let mut passed = nothing;
            for (c, &candidate) in inverses.iter().enumerate() {
                let (point, same) = self.point(s, g, c);
                let below = s.le(candidate, inverse);
                code = s.select_i(s.and(below, s.not(same)), point, code);
                // The candidate after the scale.
                let next = s.and(passed, s.not(below));
                stays = s.select_i(s.and(next, same), s.splat_i(1), stays);
                passed = below;
            }
            let found = s.and(s.eq_i(stays, s.splat_i(1)), s.not(s.eq_i(code, s.splat_i(NONE))));
            *known = (code, s.and(*wanted, found));
            *wanted = s.and(*wanted, s.not(found));
        }
        known
    }

    /// Puts what [`between`](Self::between) has found where points are looked for.
    #[inline(always)]
    pub(super) fn restore<S: Lanes>(&mut self, s: S, known: &[(S::I32, S::Mask); GROUPS]) {
        for (point, &(code, known)) in self.points[0].iter_mut().zip(known) {
            store(s, s.select_i(known, code, load(s, point)), point);
        }
    }

    /// Finds the points for a run of many points.
    #[inline(always)]
    fn settle_long<S: Lanes, const DIMS: usize>(&mut self, s: S, near: &Near, run: Run) {
        let ((g, lane), first, last) = (run.place(), run.first(), run.last());
        let tables = Tables::new::<S, DIMS>(s, self.row::<DIMS>(g, lane));
        let (codes, noise, lines) = (near.codes(run.start()), self.noise[g][lane], &mut self.lines);
        let at = [self.scales[first][lane], self.scales[last][lane]];
        let ends: [Below; 2] = tables.draw_all::<S, DIMS>(s, codes, run.len(), at, noise, lines);
        let places = ends.map(|below| below.place);
        // Heights that are no numbers, which only infinite noise allows, are below nothing.
        if !(noise < f32::INFINITY && ends[0].is_alone() & ends[1].is_alone()) {
            self.aside.put(run);
            return;
        }
        self.points[first][g][lane] = codes[places[0]].into();
        if places[0] == places[1] {
            return;
        }
        // If no other point is nearest between, the one at the last scale is from some scale on.
        let turn = turn_at(lines.meeting(places), at, first, last + 1);
        let [before, after] = [self.scales[turn - 1][lane], self.scales[turn][lane]];
        let is_there = last == first + 1
            || lines.are_alone(s, places, noise) && lines.are_apart(places, [before, after], noise);
        if is_there {
            self.points[turn][g][lane] = codes[places[1]].into();
        } else {
            let middle = turn.min(last - 1);
            self.long.put(run.part(first, middle));
            self.long.put(run.part(middle, last));
        }
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

#[inline(always)]
fn load<S: Lanes>(s: S, row: &Row<i32>) -> S::I32 {
    s.bits(s.load_part(bytemuck::cast_slice(row)))
}

#[inline(always)]
fn store<S: Lanes>(s: S, v: S::I32, row: &mut Row<i32>) {
    s.store_part(s.bits_to_f32(v), bytemuck::cast_slice_mut(row));
}

/// The entries of a table of integers; see [`Lanes::gather`].
#[inline(always)]
fn gather<S: Lanes>(s: S, table: &[i32], index: S::I32) -> S::I32 {
    s.bits(s.gather(bytemuck::cast_slice(table), index))
}

/// The entries of a table.
#[inline(always)]
fn pick<S: Lanes>(s: S, table: &[f32], index: S::I32) -> S::F32 {
    s.gather(table, index)
}
