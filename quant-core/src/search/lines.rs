//! The point of a codebook nearest to a group of values, at many scales.
//!
//! The error of a point at a scale is Σ w·(scale·q − x)² = Σ w·x² + scale·(scale·a − b), where a = Σ w·q² and
//! b = 2·Σ w·x·q do not depend on the scale: points are lines, and the nearest is the lowest at a scale. The
//! reference sums other terms in another order; a point is taken only where no other comes within
//! reach of what rounding does to either.

use super::nearest::{NUMBERS, odd_level};
use crate::{
    codebook::{LONGEST, rise},
    lanes::{Lanes, PerLane},
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
    /// The tables of a group, given twice the products of its weights and values, and then its weights.
    #[inline(always)]
    pub(super) fn new<S: Lanes, const DIMS: usize>(s: S, row: &[f32]) -> Self {
        let (doubled, weights) = row.split_at(DIMS);
        let (low, high) = const { &(levels::<DIMS>(0), levels::<DIMS>(1)) };
        let (low_squares, high_squares) = const { &(squares::<DIMS>(0), squares::<DIMS>(1)) };
        let mut tables = Self { squares: [[0.0; TABLE]; 4], products: [[0.0; TABLE]; 4] };
        for t in 0..4 {
            for at in (0..TABLE).step_by(S::N) {
                // A table of one coordinate comes twice, or half of it is not looked at.
                if DIMS == 4 && at >= TABLE / 2 {
                    continue;
                }
                let (w, p) = (&weights[t * DIMS / 4], &doubled[t * DIMS / 4]);
                let mut square = s.mul(s.load_part(&low_squares[at..]), s.splat(*w));
                let mut product = s.mul(s.load_part(&low[at..]), s.splat(*p));
                if DIMS == 8 {
                    let (w, p) = (&weights[2 * t + 1], &doubled[2 * t + 1]);
                    let (of_square, of_product) = (&high_squares[at..], &high[at..]);
                    square = s.loose_mul_add(s.load_part(of_square), s.splat(*w), square);
                    product = s.loose_mul_add(s.load_part(of_product), s.splat(*p), product);
                }
                s.store_part(square, &mut tables.squares[t][at..]);
                s.store_part(product, &mut tables.products[t][at..]);
            }
        }
        tables
    }

    /// The lines of a vector of points.
    #[inline(always)]
    fn draw<S: Lanes, const DIMS: usize>(&self, s: S, codes: &[u16]) -> (S::F32, S::F32) {
        let mut rest = s.load_u16(codes);
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
        (a, b)
    }

    /// Draws the lines of points, and says which come within `noise` of the lowest at two scales.
    #[inline(always)]
    pub(super) fn draw_all<S: Lanes, const DIMS: usize>(
        &self,
        s: S,
        codes: &[u16],
        len: usize,
        scales: [f32; 2],
        noise: f32,
        lines: &mut Lines,
    ) -> [Below; 2] {
        let scales = [s.splat(scales[0]), s.splat(scales[1])];
        let mut least = [s.splat(f32::INFINITY); 2];
        for at in (0..len).step_by(S::N) {
            let (mut a, b) = self.draw::<S, DIMS>(s, &codes[at..]);
            if len - at < S::N {
                let inside = s.lt(s.load(&NUMBERS), s.splat((len - at) as f32));
                a = s.select(inside, a, s.splat(f32::INFINITY));
            }
            s.store_part(a, &mut lines.a[at..]);
            s.store_part(b, &mut lines.b[at..]);
            for i in 0..2 {
                least[i] = s.min(s.loose_mul_sub(scales[i], a, b), least[i]);
            }
        }
        lines.len = len;
        let mut found = [Below::NONE; 2];
        let limits = [s.lowest(least[0]) + noise, s.lowest(least[1]) + noise];
        for at in (0..len).step_by(S::N) {
            for i in 0..2 {
                found[i].add(at, lines.bits(s, at, scales[i], limits[i]));
            }
        }
        found
    }
}

/// The lines that reach no higher than some height at a scale.
#[derive(Clone, Copy)]
pub(super) struct Below {
    /// The place of one of them, if there are any.
    pub(super) place: usize,
    /// How many vectors have one or more.
    vectors: u32,
    /// Not zero if a vector has two or more, or three or more.
    two: u32,
    three: u32,
}

impl Below {
    pub(super) const NONE: Self = Self { place: 0, vectors: 0, two: 0, three: 0 };

    #[inline(always)]
    fn add(&mut self, at: usize, bits: u32) {
        let others = bits & bits.wrapping_sub(1);
        self.two |= others;
        self.three |= others & others.wrapping_sub(1);
        self.vectors = self.vectors.wrapping_add(u32::from(bits != 0));
        self.place = if bits != 0 { at + bits.trailing_zeros() as usize } else { self.place };
    }

    /// Whether there is one.
    #[inline(always)]
    pub(super) fn is_alone(self) -> bool {
        (self.vectors == 1) & (self.two == 0)
    }

    /// Whether there are no more than two.
    #[inline(always)]
    pub(super) fn is_pair(self) -> bool {
        (self.three == 0) & ((self.vectors == 1) | (self.vectors == 2) & (self.two == 0))
    }
}

impl Lines {
    pub(super) const NONE: Self = Self { a: [0.0; LONGEST], b: [0.0; LONGEST], len: 0 };

    /// A line's `a` and `b`.
    #[inline(always)]
    fn line(&self, place: usize) -> [f32; 2] {
        [self.a[place], self.b[place]]
    }

    /// The scale at which two lines meet.
    #[inline(always)]
    pub(super) fn meeting(&self, places: [usize; 2]) -> f32 {
        let [one, other] = places.map(|place| self.line(place));
        (one[1] - other[1]) / (one[0] - other[0])
    }

    /// Whether no other line comes within `noise` of two where these meet.
    #[inline(always)]
    pub(super) fn are_alone<S: Lanes>(&self, s: S, places: [usize; 2], noise: f32) -> bool {
        let [one, other] = places.map(|place| self.line(place));
        let scale = self.meeting(places);
        let heights = [scale * one[0] - one[1], scale * other[0] - other[1]];
        let height = noise + if heights[0] > heights[1] { heights[0] } else { heights[1] };
        let mut found = Below::NONE;
        for at in (0..self.len).step_by(S::N) {
            found.add(at, self.bits(s, at, s.splat(scale), height));
        }
        found.is_pair()
    }

    /// Whether the first of two lines is lower at the first of two scales and the second at the
    /// second, by more than `noise`.
    #[inline(always)]
    pub(super) fn are_apart(&self, places: [usize; 2], scales: [f32; 2], noise: f32) -> bool {
        let [one, other] = places.map(|place| self.line(place));
        let above = scales.map(|scale| (scale * other[0] - other[1]) - (scale * one[0] - one[1]));
        above[0] > noise && above[1] < -noise
    }

    #[inline(always)]
    fn at<S: Lanes>(&self, s: S, at: usize, scale: S::F32) -> S::F32 {
        s.loose_mul_sub(scale, s.load_part(&self.a[at..]), s.load_part(&self.b[at..]))
    }

    /// A bit for each line of a vector that reaches no higher.
    #[inline(always)]
    fn bits<S: Lanes>(&self, s: S, at: usize, scale: S::F32, height: f32) -> u32 {
        s.mask_bits(s.le(self.at(s, at, scale), s.splat(height)))
    }
}

/// More than what rounding can do to the difference of two lines, and to that of two errors divided by the
/// scale, at any scale from `high` to `low`, given the weights and values of a group. Infinite where that does
/// not hold because values may be subnormal or overflow, or where scales differ more than twofold.
///
/// A level of a point is at most [`rise`] above that of the key, so that scale·q is at most |x| and some
/// scales. An error of the reference is a sum of up to eight products, each off by no more than six
/// units in the last place of w·(scale·q + |x|)², and as many are lost with the sum; a line times the
/// scale is off by seven. Of two of both that makes 40: here are 64.
#[inline(always)]
pub(super) fn noise<S: Lanes, const DIMS: usize>(
    s: S,
    weights: &[PerLane<f32>],
    x: &[S::F32],
    [high, low]: [S::F32; 2],
) -> S::F32 {
    let (mut weight, mut largest) = (s.splat(0.0), s.splat(0.0));
    let mut noise = s.splat(0.0);
    let rise = s.mul(s.splat((2 * rise::<DIMS>() + 1) as f32), high);
    for (w, &x) in weights.iter().zip(x) {
        let w = s.load(w);
        let reach = s.add(s.mul(s.splat(2.0), s.abs(x)), rise);
        noise = s.add(noise, s.mul(s.mul(w, reach), reach));
        weight = s.add(weight, w);
        largest = s.max(largest, reach);
    }
    let noise = s.mul(noise, s.splat(1.0 / 262_144.0));
    let small = s.and(s.lt(largest, s.splat(1e9)), s.lt(weight, s.splat(1e25)));
    let alike = s.lt(s.mul(s.splat(0.5), high), low);
    let sound = s.and(s.and(s.lt(s.splat(1e-20), noise), small), alike);
    s.select(sound, s.div(noise, low), s.splat(f32::INFINITY))
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
