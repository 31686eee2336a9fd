//! Scales and zero points of groups, and the codes that follow from them: a lane is a group.

use super::GroupedType;
use crate::lanes::{Lanes, MAX_LANES, PerLane, ROUND_MAGIC, nearest_clamped_float};

/// Scales nearer to zero than this are replaced by it, so that groups of zeros have a scale.
const SMALLEST_SCALE: f32 = 1.192_092_9e-7;

/// Columns that are transposed at a time: whole tiles of every instance.
pub(super) const STEP: usize = 16;

/// One group per lane of the values.
pub(super) struct Columns<'a> {
    values: &'a [f32],
    starts: PerLane<usize>,
    len: usize,
}

/// Some elements of one group per lane.
pub(super) type Tile<S> = [<S as Lanes>::F32; STEP];

impl<'a> Columns<'a> {
    /// Groups of `len` values, one from each start.
    #[inline(always)]
    pub(super) fn new(values: &'a [f32], starts: PerLane<usize>, len: usize) -> Self {
        Self { values, starts, len }
    }

    /// Loads the elements from `i` on into the front of `tile`; returns how many, 0 at the end.
    ///
    /// Loops over this instead of passing a closure on: what a closure does is compiled for the
    /// instruction set of its instance only if it is inlined.
    #[inline(always)]
    pub(super) fn load<S: Lanes>(&self, s: S, i: usize, tile: &mut Tile<S>) -> usize {
        let n = STEP.min(self.len - i);
        let mut starts = self.starts;
        for start in &mut starts[..S::N] {
            *start += i;
        }
        if n == STEP {
            s.load_columns(self.values, &starts, tile);
        } else {
            let mut column = [0.0; MAX_LANES];
            for (i, x) in tile[..n].iter_mut().enumerate() {
                for (value, start) in column.iter_mut().zip(&starts).take(S::N) {
                    *value = self.values[start + i];
                }
                *x = s.load(&column);
            }
        }
        n
    }

    /// The smallest value, or `low`, and the largest, or `high`.
    #[inline(always)]
    pub(super) fn limits<S: Lanes>(
        &self,
        s: S,
        (mut low, mut high): (S::F32, S::F32),
    ) -> (S::F32, S::F32) {
        let mut tile = [s.splat(0.0); STEP];
        let mut i = 0;
        while i < self.len {
            let n = self.load(s, i, &mut tile);
            for &x in &tile[..n] {
                low = s.min(x, low);
                high = s.max(x, high);
            }
            i += n;
        }
        (low, high)
    }

    /// Elements of each group.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where a lane's group starts in the values.
    #[inline(always)]
    pub(super) fn start(&self, lane: usize) -> usize {
        self.starts[lane]
    }
}

/// Scale and zero point of one group per lane.
pub(super) struct ScaleFit<S: Lanes> {
    /// The scale the codes are computed with.
    pub(super) scale: S::F32,
    /// The scale that is handed out; the same but after a refinement for a narrower type.
    pub(super) stored: S::F32,
    /// Added before rounding: the zero point of an asymmetric type, else zero.
    pub(super) zero_point: S::F32,
}

impl<S: Lanes> Clone for ScaleFit<S> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Lanes> Copy for ScaleFit<S> {}

/// The codes of a type as NNCF counts them, and what is added to make them unsigned.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) symmetric: bool,
    pub(super) low: f32,
    pub(super) high: f32,
    pub(super) offset: i32,
    mask: i32,
}

impl Range {
    pub(super) fn new(ty: GroupedType) -> Self {
        let (levels, middle) = (f32::from(ty.levels()), f32::from(ty.middle()));
        let symmetric = ty.is_symmetric();
        Self {
            symmetric,
            low: if symmetric { -middle } else { 0.0 },
            high: if symmetric { middle - 1.0 } else { levels },
            offset: if symmetric { i32::from(ty.middle()) } else { 0 },
            mask: i32::from(ty.levels()),
        }
    }

    /// The limits before any value: a symmetric range need not hold zero.
    #[inline(always)]
    pub(super) fn start<S: Lanes>(self, s: S) -> (S::F32, S::F32) {
        if self.symmetric {
            (s.splat(f32::INFINITY), s.splat(f32::NEG_INFINITY))
        } else {
            (s.splat(0.0), s.splat(0.0))
        }
    }

    /// NNCF's scale and zero point for the limits of the values.
    #[inline(always)]
    pub(super) fn fit_to<S: Lanes>(self, s: S, (low, high): (S::F32, S::F32)) -> ScaleFit<S> {
        let zero = s.splat(0.0);
        if self.symmetric {
            // The extreme of larger magnitude gets the most negative code, hence the sign.
            let magnitude = s.abs(low);
            let extreme = s.select(s.le(high, magnitude), magnitude, s.sub(zero, high));
            let scale = smallest(s, s.div(extreme, s.splat(-self.low)));
            ScaleFit { scale, stored: scale, zero_point: zero }
        } else {
            self.between(s, low, high)
        }
    }

    /// Scale and zero point of an asymmetric type for values between two limits around zero.
    #[inline(always)]
    pub(super) fn between<S: Lanes>(self, s: S, low: S::F32, high: S::F32) -> ScaleFit<S> {
        let scale = smallest(s, s.div(s.sub(high, low), s.splat(self.high)));
        let zero_point = self.zero_point(s, low, scale);
        ScaleFit { scale, stored: scale, zero_point }
    }

    /// The code of zero when `low` is the least value.
    #[inline(always)]
    pub(super) fn zero_point<S: Lanes>(self, s: S, low: S::F32, scale: S::F32) -> S::F32 {
        let below = nearest_clamped_float(s, s.div(low, scale), -self.high, 0.0);
        s.sub(s.splat(0.0), below)
    }

    /// The value's code as NNCF counts, as a float, limited but not yet rounded.
    #[inline(always)]
    pub(super) fn limited<S: Lanes>(self, s: S, x: S::F32, fit: &ScaleFit<S>) -> S::F32 {
        let code = s.add(s.div(x, fit.scale), fit.zero_point);
        s.max(s.splat(self.low), s.min(s.splat(self.high), code))
    }

    /// Writes the codes of the live lanes.
    #[inline(always)]
    pub(super) fn emit<S: Lanes>(
        self,
        s: S,
        columns: &Columns<'_>,
        fit: ScaleFit<S>,
        live: usize,
        out: &mut [u8],
    ) {
        let mut tile = [s.splat(0.0); STEP];
        let mut lanes = [0; MAX_LANES];
        let mut i = 0;
        while i < columns.len {
            let n = columns.load(s, i, &mut tile);
            let (words, rest) = tile[..n].as_chunks::<4>();
            for &[a, b, c, d] in words {
                let (a, b) = (self.code(s, a, &fit), self.code(s, b, &fit));
                let (c, d) = (self.code(s, c, &fit), self.code(s, d, &fit));
                let low = s.or_i(a, s.shl::<8>(b));
                let high = s.or_i(s.shl::<16>(c), s.shl::<24>(d));
                s.store_i(s.or_i(low, high), &mut lanes);
                for (start, word) in columns.starts.iter().zip(&lanes).take(live) {
                    out[start + i..start + i + 4].copy_from_slice(&word.to_le_bytes());
                }
                i += 4;
            }
            for &x in rest {
                s.store_i(self.code(s, x, &fit), &mut lanes);
                for (start, code) in columns.starts.iter().zip(&lanes).take(live) {
                    out[start + i] = *code as u8;
                }
                i += 1;
            }
        }
    }

    /// The unsigned code. The limits are integers, so that limiting before rounding is the same as
    /// after it.
    #[inline(always)]
    pub(super) fn code<S: Lanes>(self, s: S, x: S::F32, fit: &ScaleFit<S>) -> S::I32 {
        let rounded = s.bits(s.add(self.limited(s, x, fit), s.splat(ROUND_MAGIC)));
        s.and_i(s.add_i(rounded, s.splat_i(self.offset)), s.splat_i(self.mask))
    }
}

/// Keeps a scale away from zero.
#[inline(always)]
pub(super) fn smallest<S: Lanes>(s: S, scale: S::F32) -> S::F32 {
    let floor = s.splat(SMALLEST_SCALE);
    s.select(s.lt(s.abs(scale), floor), floor, scale)
}
