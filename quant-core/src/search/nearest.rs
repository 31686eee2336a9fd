//! The point of a codebook nearest to a group of values, where the group is not a point itself: by the
//! errors themselves, in the order of the reference's sums.

use crate::{
    codebook::LONGEST,
    lanes::{Lanes, MAX_LANES, PerLane},
};

/// A group of values that one point stands for, laid out as the table of errors is: for each value as
/// many entries as there are places for its level in the table.
struct Group<const DIMS: usize> {
    x: [f32; TABLE],
    weights: [f32; TABLE],
}

/// Places in the table of errors: eight values of four levels, or four of eight.
const TABLE: usize = 32;

/// What the levels of a table stand for.
pub(crate) type Levels = [f32; TABLE];

/// What a level of the two- and three-bit types stands for.
pub(super) const fn odd_level(level: usize) -> f32 {
    (2 * level + 1) as f32
}

/// The levels of the two- and three-bit types: odd numbers.
pub(crate) const fn odd_levels<const DIMS: usize>() -> Levels {
    let mut levels = [0.0; TABLE];
    let mut i = 0;
    while i < TABLE {
        levels[i] = odd_level(i % (TABLE / DIMS));
        i += 1;
    }
    levels
}

impl<const DIMS: usize> Group<DIMS> {
    /// A group of values with a weight each.
    #[inline(always)]
    fn new(x: [f32; DIMS], w: [f32; DIMS]) -> Self {
        let mut group = Self { x: [0.0; TABLE], weights: [0.0; TABLE] };
        for i in 0..DIMS {
            let places = TABLE / DIMS * i..TABLE / DIMS * (i + 1);
            group.x[places.clone()].fill(x[i]);
            group.weights[places].fill(w[i]);
        }
        group
    }

    /// The code of the point in a list with the least Σ w·(scale·level − x)², the first of equals: the
    /// lanes are points, and the errors of a value at each of its levels are looked up.
    #[inline(always)]
    fn nearest<S: Lanes>(
        &self,
        s: S,
        codes: &[u16],
        len: usize,
        levels: &Levels,
        scale: f32,
    ) -> u16 {
        let mut table = [0.0; TABLE];
        let scales = s.splat(scale);
        for at in (0..TABLE).step_by(S::N) {
            let level = s.load_part(&levels[at..]);
            let difference = s.sub(s.mul(scales, level), s.load_part(&self.x[at..]));
            let weighted = s.mul(s.load_part(&self.weights[at..]), difference);
            s.store_part(s.mul(weighted, difference), &mut table[at..]);
        }
        let infinity = s.splat(f32::INFINITY);
        let mut best = s.splat(f32::MAX);
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
            best = s.select(better, error, best);
            from = s.select_i(better, s.splat_i(at as i32), from);
        }
        let least = s.lowest(best);
        let first = s.mask_bits(s.le(best, s.splat(least)));
        let mut place = first.trailing_zeros() as usize;
        if len > S::N {
            // The first of equals, which mostly are no more than one.
            let places = s.add(s.to_f32(from), s.load(&NUMBERS));
            let lowest = s.le(best, s.splat(least));
            place = s.lowest(s.select(lowest, places, s.splat(LONGEST as f32))) as usize;
        }
        // Only where no error is a number there is no first.
        codes[place.min(len - 1)]
    }
}

/// The code of the point in a list with the least Σ w·(scale·level − x)², the first of equals, of a group of eight values.
#[inline(always)]
pub(super) fn nearest<S: Lanes>(
    s: S,
    codes: &[u16],
    len: usize,
    [x, weights]: [[f32; 8]; 2],
    levels: &[f32; 4],
    scale: f32,
) -> u16 {
    match nearest_alone(s, codes, len, [&x, &weights], levels, scale) {
        Some(code) => code,
        None => {
            let levels = core::array::from_fn(|i| levels[i % 4]);
            Group::<8>::new(x, weights).nearest(s, codes, len, &levels, scale)
        }
    }
}

/// As [`nearest`], if no other point comes near enough for the order of a sum to matter: with two values in a table.
#[inline(always)]
fn nearest_alone<S: Lanes>(
    s: S,
    codes: &[u16],
    len: usize,
    [x, weights]: [&[f32; 8]; 2],
    levels: &[f32; 4],
    scale: f32,
) -> Option<u16> {
    const PLACES: usize = 16;
    // The terms are those of the reference, and not negative: sums differ by seven roundings at most.
    const APART: f32 = 1.0 + 4e-6;
    const NORMAL: f32 = 1e-30;
    let (infinity, numbers) = (s.splat(f32::INFINITY), s.load(&NUMBERS));
    let mut tables = [[0.0; PLACES]; 4];
    for at in (0..PLACES).step_by(S::N) {
        let place = s.trunc(s.add(numbers, s.splat(at as f32)));
        let pair = [s.look_up_4(levels, place), s.look_up_4(levels, s.shr::<2>(place))];
        let pair = pair.map(|level| s.mul(s.splat(scale), level));
        for (t, table) in tables.iter_mut().enumerate() {
            let mut errors = pair;
            for (i, error) in errors.iter_mut().enumerate() {
                let difference = s.sub(*error, s.splat(x[2 * t + i]));
                *error = s.mul(s.mul(s.splat(weights[2 * t + i]), difference), difference);
            }
            s.store_part(s.add(errors[0], errors[1]), &mut table[at..]);
        }
    }
    let (mut least, mut second, mut found) = (infinity, infinity, s.splat_i(0));
    for at in (0..len).step_by(S::N) {
        let code = s.load_u16(&codes[at..]);
        let mut error = s.look_up(&tables[0], code);
        error = s.add(error, s.look_up(&tables[1], s.shr::<4>(code)));
        let other = s.look_up(&tables[2], s.shr::<8>(code));
        error = s.add(error, s.add(other, s.look_up(&tables[3], s.shr::<12>(code))));
        if len - at < S::N {
            let inside = s.lt(numbers, s.splat((len - at) as f32));
            error = s.select(inside, error, infinity);
        }
        found = s.select_i(s.lt(error, least), code, found);
        second = s.min(second, s.max(least, error));
        least = s.min(least, error);
    }
    let lowest = s.lowest(least);
    let limit = s.splat(lowest * APART);
    let near = s.mask_bits(s.le(least, limit));
    if !(NORMAL < lowest && near.is_power_of_two()) || s.any(s.le(second, limit)) {
        return None;
    }
    let mut lanes = [0; MAX_LANES];
    s.store_i(found, &mut lanes);
    Some(lanes[near.trailing_zeros() as usize % MAX_LANES] as u16)
}

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

/// The numbers of the lanes.
pub(super) const NUMBERS: PerLane<f32> = {
    let mut numbers = [0.0; MAX_LANES];
    let mut i = 0;
    while i < MAX_LANES {
        numbers[i] = i as f32;
        i += 1;
    }
    numbers
};
