//! A better scale than the one the extremes give, by search.

use super::fit::{Columns, Range, STEP, ScaleFit, smallest};
use crate::{
    Error,
    lanes::{Lanes, MAX_LANES, ROUND_MAGIC},
};

/// The type a scale is stored in. The search counts errors as they will be after storing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScaleType {
    /// Single precision.
    F32,
    /// Half precision.
    #[default]
    F16,
    /// bfloat16.
    Bf16,
}

impl ScaleType {
    /// The stored scale.
    pub fn round(self, scale: f32) -> f32 {
        match self {
            Self::F32 => scale,
            Self::F16 => half::f16::from_f32(scale).to_f32(),
            Self::Bf16 => half::bf16::from_f32(scale).to_f32(),
        }
    }

    #[inline(always)]
    fn round_lanes<S: Lanes>(self, s: S, scale: S::F32) -> S::F32 {
        match self {
            Self::F32 => scale,
            Self::F16 => s.f16_bits_to_f32(s.to_f16_bits(scale)),
            Self::Bf16 => {
                let mut lanes = [0.0; MAX_LANES];
                s.store(scale, &mut lanes);
                for lane in &mut lanes[..S::N] {
                    *lane = self.round(*lane);
                }
                s.load(&lanes)
            }
        }
    }
}

/// A search for the scale, and zero point, with the least sum of weighted squared errors.
///
/// NNCF's own scale is among the candidates: the error never grows.
#[derive(Clone, Copy, Debug)]
pub struct Refinement<'a> {
    /// How much an error in each column matters; all the same if `None`. One row of them, which
    /// every row of the values has.
    pub importance: Option<&'a [f32]>,
    /// The type the scale is stored in. Scales are handed out as this type will hold them.
    pub stored: ScaleType,
}

/// By how much the limits of a group are moved, as factors of both, least change first: outliers
/// are cut off for a finer step within, or the range widened for a better place of the steps.
const FACTORS: [f32; 12] = [0.98, 0.96, 0.94, 0.92, 0.90, 0.88, 0.85, 0.82, 0.78, 0.72, 1.03, 1.07];

impl Refinement<'_> {
    pub(super) fn check(&self, values: usize, group_len: usize) -> Result<(), Error> {
        match self.importance.map(<[f32]>::len) {
            Some(found)
                if found == 0
                    || !found.is_multiple_of(group_len)
                    || !values.is_multiple_of(found) =>
            {
                Err(Error::Length { what: "the importance", found, expected: values })
            }
            _ => Ok(()),
        }
    }
}

/// The best of `first` and the candidates, lane by lane.
#[inline(always)]
pub(super) fn refine<S: Lanes>(
    s: S,
    range: Range,
    columns: &Columns<'_>,
    how: &Refinement<'_>,
    first: ScaleFit<S>,
) -> ScaleFit<S> {
    let (low, high) = columns.limits(s, (s.splat(0.0), s.splat(0.0)));
    let stored = how.stored.round_lanes(s, first.scale);
    let fit = ScaleFit { stored, ..first };
    let mut best = Best { fit, error: measure(s, range, columns, how, &fit).error };
    best.consider(s, range, columns, how, first);
    for factor in FACTORS {
        let factor = s.splat(factor);
        let fit = if range.symmetric {
            let scale = smallest(s, s.mul(first.scale, factor));
            ScaleFit { scale, stored: scale, zero_point: s.splat(0.0) }
        } else {
            range.between(s, s.mul(low, factor), s.mul(high, factor))
        };
        let scale = best.consider(s, range, columns, how, fit);
        best.consider(s, range, columns, how, ScaleFit { scale, ..fit });
    }
    best.fit
}

/// The best candidate so far.
struct Best<S: Lanes> {
    fit: ScaleFit<S>,
    error: S::F32,
}

impl<S: Lanes> Best<S> {
    /// Takes a candidate where it is better; returns the scale that is best for its codes, by
    /// least squares.
    #[inline(always)]
    fn consider(
        &mut self,
        s: S,
        range: Range,
        columns: &Columns<'_>,
        how: &Refinement<'_>,
        fit: ScaleFit<S>,
    ) -> S::F32 {
        // Codes are those of the scale as stored: what the reader multiplies with.
        let scale = how.stored.round_lanes(s, fit.scale);
        let fit = ScaleFit { scale, stored: scale, ..fit };
        let measured = measure(s, range, columns, how, &fit);
        let better = s.lt(measured.error, self.error);
        self.error = s.select(better, measured.error, self.error);
        self.fit = ScaleFit {
            scale: s.select(better, fit.scale, self.fit.scale),
            stored: s.select(better, fit.stored, self.fit.stored),
            zero_point: s.select(better, fit.zero_point, self.fit.zero_point),
        };
        let usable = s.lt(s.splat(0.0), measured.code_codes);
        let solved = s.div(measured.value_codes, measured.code_codes);
        smallest(s, s.select(usable, solved, fit.scale))
    }
}

/// What one set of codes amounts to.
struct Measured<S: Lanes> {
    /// Σ w (x − x̂)².
    error: S::F32,
    /// Σ w x q.
    value_codes: S::F32,
    /// Σ w q².
    code_codes: S::F32,
}

#[inline(always)]
fn measure<S: Lanes>(
    s: S,
    range: Range,
    columns: &Columns<'_>,
    how: &Refinement<'_>,
    fit: &ScaleFit<S>,
) -> Measured<S> {
    let zero = s.splat(0.0);
    let magic = s.splat(ROUND_MAGIC);
    let mut sums = Measured { error: zero, value_codes: zero, code_codes: zero };
    let mut weights = [0.0; MAX_LANES];
    let mut tile = [zero; STEP];
    let mut i = 0;
    while i < columns.len() {
        let n = columns.load(s, i, &mut tile);
        for &x in &tile[..n] {
            let code = s.sub(s.add(range.limited(s, x, fit), magic), magic);
            let q = s.sub(code, fit.zero_point);
            let difference = s.sub(x, s.mul(q, fit.stored));
            let (mut wx, mut wq, mut we) = (x, q, difference);
            if let Some(importance) = how.importance {
                for (lane, weight) in weights.iter_mut().enumerate().take(S::N) {
                    *weight = importance[(columns.start(lane) + i) % importance.len()];
                }
                let w = s.load(&weights);
                (wx, wq, we) = (s.mul(w, x), s.mul(w, q), s.mul(w, difference));
            }
            sums.error = s.add(sums.error, s.mul(we, difference));
            sums.value_codes = s.add(sums.value_codes, s.mul(wx, q));
            sums.code_codes = s.add(sums.code_codes, s.mul(wq, q));
            i += 1;
        }
    }
    sums
}
