//! The point of a codebook nearest to a group of values, at many scales.
//!
//! The error of a point at a scale is Σ w·(scale·q − x)² = Σ w·x² + scale·(scale·a − b), where a = Σ w·q² and
//! b = 2·Σ w·x·q do not depend on the scale: points are lines, and the nearest is the lowest at a scale. The
//! reference sums other terms in another order; a point is taken only where no other comes within
//! reach of what rounding does to either.

use super::nearest::odd_level;
use crate::{
    codebook::{Codebook, LONGEST},
    lanes::{Lanes, MAX_LANES, PerLane},
};

/// Places in a table: two levels in two bits each, or one in three.
const TABLE: usize = 16;

/// What each coordinate adds to the lines of points, by level: of two coordinates of a group of eight in one
/// table.
pub(super) struct Tables {
    squares: [[f32; TABLE]; 4],
    products: [[f32; TABLE]; 4],
}

/// The lines of the points of a list.
pub(super) struct Lines {
    a: [f32; LONGEST],
    b: [f32; LONGEST],
    len: usize,
}

impl Tables {
    /// The tables of a lane's group of values, given their weights and twice the products of weights and
    /// values.
    #[inline(always)]
    pub(super) fn new<S: Lanes, const DIMS: usize>(
        s: S,
        weights: &[PerLane<f32>],
        doubled: &[PerLane<f32>],
        lane: usize,
    ) -> Self {
        let (low, high) = const { &(levels::<DIMS>(0), levels::<DIMS>(1)) };
        let (low_squares, high_squares) = const { &(squares::<DIMS>(0), squares::<DIMS>(1)) };
        let mut tables = Self { squares: [[0.0; TABLE]; 4], products: [[0.0; TABLE]; 4] };
        for t in 0..4 {
            for at in (0..TABLE).step_by(S::N) {
                // A table of one coordinate comes twice, or half of it is not looked at.
                if DIMS == 4 && at >= TABLE / 2 {
                    continue;
                }
                let part = |table: &[f32; TABLE]| s.load_part(&table[at..]);
                let (w, p) = (&weights[t * DIMS / 4][lane], &doubled[t * DIMS / 4][lane]);
                let mut square = s.mul(part(low_squares), s.splat(*w));
                let mut product = s.mul(part(low), s.splat(*p));
                if DIMS == 8 {
                    let (w, p) = (&weights[2 * t + 1][lane], &doubled[2 * t + 1][lane]);
                    square = s.add(square, s.mul(part(high_squares), s.splat(*w)));
                    product = s.add(product, s.mul(part(high), s.splat(*p)));
                }
                s.store_part(square, &mut tables.squares[t][at..]);
                s.store_part(product, &mut tables.products[t][at..]);
            }
        }
        tables
    }

    /// The lines of points.
    #[inline(always)]
    pub(super) fn draw<S: Lanes, const DIMS: usize>(
        &self,
        s: S,
        codes: &[u16],
        len: usize,
        lines: &mut Lines,
    ) {
        lines.len = len;
        for at in (0..len).step_by(S::N) {
            let mut rest = s.load_u16(&codes[at..]);
            let mut a = look_up::<S, DIMS>(s, &self.squares[0], rest);
            let mut b = look_up::<S, DIMS>(s, &self.products[0], rest);
            for t in 1..4 {
                rest = match DIMS {
                    8 => s.shr::<4>(rest),
                    _ => s.shr::<3>(rest),
                };
                a = s.add(a, look_up::<S, DIMS>(s, &self.squares[t], rest));
                b = s.add(b, look_up::<S, DIMS>(s, &self.products[t], rest));
            }
            if len - at < S::N {
                let inside = s.lt(s.load(&NUMBERS), s.splat((len - at) as f32));
                a = s.select(inside, a, s.splat(f32::INFINITY));
            }
            s.store_part(a, &mut lines.a[at..]);
            s.store_part(b, &mut lines.b[at..]);
        }
    }
}

impl Lines {
    pub(super) const NONE: Self = Self { a: [0.0; LONGEST], b: [0.0; LONGEST], len: 0 };

    /// The lowest line at a scale, if no other is within `noise`.
    #[inline(always)]
    pub(super) fn lowest<S: Lanes>(&self, s: S, scale: f32, noise: f32) -> Option<usize> {
        let mut least = self.at(s, 0, s.splat(scale));
        for at in (S::N..self.len).step_by(S::N) {
            least = s.min(least, self.at(s, at, s.splat(scale)));
        }
        let (count, place) = self.below(s, scale, s.lowest(least) + noise);
        (count == 1).then_some(place)
    }

    /// Whether a line is at a scale still lower than all others, by more than `noise`.
    #[inline(always)]
    pub(super) fn stays<S: Lanes>(&self, s: S, place: usize, scale: f32, noise: f32) -> bool {
        let here = scale * self.a[place] - self.b[place];
        self.below(s, scale, here + noise).0 == 1
    }

    /// How many lines reach no higher at a scale, and which is the last of them.
    #[inline(always)]
    fn below<S: Lanes>(&self, s: S, scale: f32, height: f32) -> (u32, usize) {
        let (mut count, mut place) = (0, 0);
        for at in (0..self.len).step_by(S::N) {
            let bits = s.mask_bits(s.le(self.at(s, at, s.splat(scale)), s.splat(height)));
            count += bits.count_ones();
            if bits != 0 {
                place = at + bits.trailing_zeros() as usize;
            }
        }
        (count, place)
    }

    #[inline(always)]
    fn at<S: Lanes>(&self, s: S, at: usize, scale: S::F32) -> S::F32 {
        s.sub(s.mul(scale, s.load_part(&self.a[at..])), s.load_part(&self.b[at..]))
    }
}

/// More than what rounding can do to the difference of two lines, and to that of two errors divided by the
/// scale, at any scale from `low` to `high`. Infinite where that does not hold because values may be
/// subnormal or overflow, or where scales differ more than twofold.
///
/// An error of the reference is a sum of up to eight products, each off by a few units in the last
/// place of w·(scale·level + |x|)²; so is a line times the scale.
#[inline(always)]
pub(super) fn noise<const DIMS: usize>(weight: f32, largest: f32, [high, low]: [f32; 2]) -> f32 {
    let reach = (2 * Codebook::<DIMS>::LEVELS - 1) as f32 * high + largest;
    let noise = weight * reach * reach * (1.0 / 65536.0);
    let sound = noise > 1e-20 && reach < 1e9 && weight < 1e25 && low > 0.5 * high;
    if sound { noise / low } else { f32::INFINITY }
}

#[inline(always)]
fn look_up<S: Lanes, const DIMS: usize>(s: S, table: &[f32; TABLE], code: S::I32) -> S::F32 {
    if DIMS == 4 && S::N < TABLE {
        s.look_up_8(&table.as_chunks().0[0], code)
    } else {
        s.look_up(table, code)
    }
}

/// What the places of a table stand for, in its first or its second coordinate.
const fn levels<const DIMS: usize>(coordinate: usize) -> [f32; TABLE] {
    let mut levels = [0.0; TABLE];
    let mut place = 0;
    while place < TABLE {
        levels[place] = match DIMS {
            8 => odd_level(place >> (2 * coordinate) & 3),
            _ => odd_level(place & 7),
        };
        place += 1;
    }
    levels
}

const fn squares<const DIMS: usize>(coordinate: usize) -> [f32; TABLE] {
    let mut levels = levels::<DIMS>(coordinate);
    let mut place = 0;
    while place < TABLE {
        levels[place] *= levels[place];
        place += 1;
    }
    levels
}

pub(super) const NUMBERS: PerLane<f32> = {
    let mut numbers = [0.0; MAX_LANES];
    let mut i = 0;
    while i < MAX_LANES {
        numbers[i] = i as f32;
        i += 1;
    }
    numbers
};
