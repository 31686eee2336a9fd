//! The point of a codebook nearest to a group of values, where the group is not a point itself.

use crate::{
    codebook::{Codebook, Near},
    lanes::{Lanes, MAX_LANES, PerLane},
};

/// A group of values that one point stands for, laid out as the table of errors is: for each value as
/// many entries as there are places for its level in the table.
pub(crate) struct Group<const DIMS: usize> {
    x: [f32; TABLE],
    weights: [f32; TABLE],
    /// A bound for the values.
    largest: f32,
    /// The sum of the weights.
    weight: f32,
}

/// Places in the table of errors: eight values of four levels, or four of eight.
const TABLE: usize = 32;

/// What the levels of a table stand for.
pub(crate) type Levels = [f32; TABLE];

/// The levels of the two- and three-bit types: odd numbers.
pub(crate) const fn odd_levels<const DIMS: usize>() -> Levels {
    let mut levels = [0.0; TABLE];
    let mut i = 0;
    while i < TABLE {
        levels[i] = (2 * (i % (TABLE / DIMS)) + 1) as f32;
        i += 1;
    }
    levels
}

/// The point found, and whether every other one in the list is farther by more than rounding can
/// account for.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) code: u16,
    clear: bool,
}

/// Says of a code that its key was a point of the book.
pub(crate) const ON_GRID: i32 = 1 << 16;

impl<const DIMS: usize> Group<DIMS> {
    /// A group of values with a weight each.
    #[inline(always)]
    pub(crate) fn new(x: [f32; DIMS], w: [f32; DIMS]) -> Self {
        let mut group = Self { x: [0.0; TABLE], weights: [0.0; TABLE], largest: 0.0, weight: 0.0 };
        for i in 0..DIMS {
            let places = TABLE / DIMS * i..TABLE / DIMS * (i + 1);
            group.x[places.clone()].fill(x[i]);
            group.weights[places].fill(w[i]);
            group.largest = if x[i].abs() > group.largest { x[i].abs() } else { group.largest };
            group.weight += w[i];
        }
        group
    }

    /// The code of the point in a list with the least Σ w·(scale·level − x)², the first of equals: the
    /// lanes are points, and the errors of a value at each of its levels are looked up.
    #[inline(always)]
    pub(super) fn nearest<S: Lanes>(
        &self,
        s: S,
        codes: &[u16],
        len: usize,
        levels: &Levels,
        scale: f32,
    ) -> Found {
        let mut table = [0.0; TABLE];
        let scales = s.splat(scale);
        for at in (0..TABLE).step_by(S::N) {
            let level = s.load_part(&levels[at..]);
            let difference = s.sub(s.mul(scales, level), s.load_part(&self.x[at..]));
            let weighted = s.mul(s.load_part(&self.weights[at..]), difference);
            s.store_part(s.mul(weighted, difference), &mut table[at..]);
        }
        let infinity = s.splat(f32::INFINITY);
        let (mut best, mut second) = (s.splat(f32::MAX), infinity);
        let mut from = s.splat_i(0);
        for at in (0..len).step_by(S::N) {
            let mut rest = s.load_u16(&codes[at..]);
            let mut error = look_up::<S, DIMS>(s, &table, 0, rest);
            for i in 1..DIMS {
                rest = next_level::<S, DIMS>(s, rest);
                error = s.add(error, look_up::<S, DIMS>(s, &table, i, rest));
            }
            if len - at < S::N {
                let inside = s.lt(s.load(&NUMBERS), s.splat((len - at) as f32));
                error = s.select(inside, error, infinity);
            }
            let better = s.lt(error, best);
            second = s.min(second, s.select(better, best, error));
            best = s.select(better, error, best);
            from = s.select_i(better, s.splat_i(at as i32), from);
        }
        let least = s.lowest(best);
        let near = s.splat(least + self.noise(scale));
        let first = s.mask_bits(s.le(best, s.splat(least)));
        let clear = s.mask_bits(s.le(best, near)).count_ones() == 1 && !s.any(s.le(second, near));
        let mut place = first.trailing_zeros() as usize;
        if len > S::N {
            let mut starts = [0; MAX_LANES];
            s.store_i(from, &mut starts);
            let places = (0..S::N).filter(|lane| first >> lane & 1 == 1);
            place = places.map(|lane| lane + starts[lane] as usize).min().unwrap_or(0);
        }
        // Only where no error is a number there is no first.
        Found { code: codes[place.min(len - 1)], clear }
    }

    /// More than what rounding can do to the difference of two errors at any scale up to twice as far from
    /// zero: an error is a sum of no more than eight products, each off by a few units in the last
    /// place of w·(scale·level + |x|)². Infinite where that does not hold because values may be
    /// subnormal or overflow.
    #[inline(always)]
    fn noise(&self, scale: f32) -> f32 {
        let reach = (2 * Codebook::<DIMS>::LEVELS - 1) as f32 * scale + self.largest;
        let noise = self.weight * reach * reach * (1.0 / 65536.0);
        if noise > 1e-20 && reach < 1e9 { noise } else { f32::INFINITY }
    }

    /// Replaces the keys of a group at several scales, one scale after the other, by the codes of
    /// the points that stand for them.
    ///
    /// Where a key comes at several scales in a row, one point may be nearest at the first and the last
    /// of them. It is at those between, too: the difference of the errors of two points, divided by
    /// the scale, is a linear function of the scale. That is so for exact errors; where others come
    /// within reach of rounding, every scale is looked at.
    #[inline(always)]
    pub(crate) fn settle<S: Lanes>(
        &self,
        s: S,
        near: &Near,
        lane: usize,
        keys: &mut [PerLane<i32>],
        scales: &[PerLane<f32>],
    ) {
        let levels = const { &odd_levels::<DIMS>() };
        let mut first = 0;
        while first < keys.len() {
            let key = keys[first][lane];
            let mut end = first + 1;
            while end < keys.len() && keys[end][lane] == key {
                end += 1;
            }
            let list = near.list(key as usize);
            let codes = near.codes(list.start as usize);
            let len = usize::from(list.len);
            if len == 1 {
                let code = i32::from(codes[0]) | if list.on_grid { ON_GRID } else { 0 };
                keys[first..end].iter_mut().for_each(|k| k[lane] = code);
                first = end;
                continue;
            }
            let ratio = scales[first][lane] / scales[end - 1][lane];
            let comparable = ratio > 0.5 && ratio < 2.0;
            let mut run = Run::new(end - first, comparable);
            // One call, because the compiler copies it to every place that has one.
            while let Some(i) = run.next() {
                run.found[i] = self.nearest(s, codes, len, levels, scales[first + i][lane]);
            }
            for (keys, found) in keys[first..end].iter_mut().zip(&run.found) {
                keys[lane] = found.code.into();
            }
            first = end;
        }
    }
}

/// Scales in a row at which a group has the same key: which to look at next.
struct Run {
    found: [Found; MAX_RUN],
    /// Bits of what has been found.
    known: u64,
    len: usize,
    /// Whether no scale is more than twice as large as another.
    comparable: bool,
}

impl Run {
    #[inline(always)]
    fn new(len: usize, comparable: bool) -> Self {
        Self { found: [Found { code: 0, clear: false }; MAX_RUN], known: 0, len, comparable }
    }

    /// The first, the last, then the middle of two neighbours that do not settle what is between them.
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.known >> (self.len - 1) & 1 == 0 {
            let next = if self.known == 0 { 0 } else { self.len - 1 };
            self.known |= 1 << next;
            return Some(next);
        }
        let mut low = 0;
        while low + 1 < self.len {
            let high = low + 1 + (self.known >> (low + 1)).trailing_zeros() as usize;
            if high - low > 1 {
                let (a, b) = (self.found[low], self.found[high]);
                if !(a.code == b.code && a.clear && b.clear && self.comparable) {
                    let middle = usize::midpoint(low, high);
                    self.known |= 1 << middle;
                    return Some(middle);
                }
                self.found[low..high].fill(a);
                self.known |= (1 << high) - (1 << low);
            }
            low = high;
        }
        None
    }
}

/// The most scales that a group is settled for at a time.
pub(crate) const MAX_RUN: usize = 32;

const NUMBERS: PerLane<f32> = {
    let mut numbers = [0.0; MAX_LANES];
    let mut i = 0;
    while i < MAX_LANES {
        numbers[i] = i as f32;
        i += 1;
    }
    numbers
};

/// The entry of the lowest level of a code in the table of value `i`.
#[inline(always)]
pub(crate) fn look_up<S: Lanes, const DIMS: usize>(
    s: S,
    table: &Levels,
    i: usize,
    code: S::I32,
) -> S::F32 {
    match DIMS {
        8 => s.look_up_4(&table.as_chunks().0[i], code),
        _ => s.look_up_8(&table.as_chunks().0[i], code),
    }
}

/// The code without its lowest level.
#[inline(always)]
pub(crate) fn next_level<S: Lanes, const DIMS: usize>(s: S, code: S::I32) -> S::I32 {
    match DIMS {
        8 => s.shr::<2>(code),
        _ => s.shr::<3>(code),
    }
}
