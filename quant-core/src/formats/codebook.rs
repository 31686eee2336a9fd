//! What the formats with a codebook share: the way from rows to fitted sub-blocks.

use super::{QK_K, Rows};
use crate::{
    codebook::Codebook,
    lanes::{Lanes, MAX_LANES, Scalar, nearest_clamped},
    search::{FitGrid, MOST_LANES, Room, Settings, Sub},
};

/// What values are weighed by.
#[derive(Clone, Copy)]
pub(super) enum Weighing {
    /// Importance times `√(σ² + x²)`, with σ² this many times the mean square of the super-block;
    /// `x²` where there is no importance.
    Squares(f32),
    /// As `Squares(2.0)`; the mean square by a half and `x²` where there is no importance.
    Mean,
}

impl Weighing {
    /// σ², given the sum of the squares of a super-block. It is multiplied first: where squares are subnormal
    /// or their sum is near overflow, that gives another value than multiplying the mean.
    #[inline(always)]
    fn sigma2<S: Lanes>(self, s: S, sum: S::F32) -> S::F32 {
        let factor = match self {
            Weighing::Squares(factor) => factor,
            Weighing::Mean => 2.0,
        };
        s.div(s.mul(s.splat(factor), sum), s.splat(QK_K as f32))
    }
}

/// The weights of the values of a batch.
#[inline(always)]
pub(super) fn weigh<S: Lanes, const LEN: usize>(
    s: S,
    weighing: Weighing,
    rows: &Rows<'_>,
    columns: &[usize; MAX_LANES],
    x: &[S::F32; LEN],
    sigma2: S::F32,
) -> [S::F32; LEN] {
    match (rows.importance, weighing) {
        (Some(importance), _) => super::batch::weigh(s, x, importance, columns, sigma2),
        (None, _) => {
            let mut weights = *x;
            for w in &mut weights {
                *w = s.mul(*w, *w);
                if let Weighing::Mean = weighing {
                    *w = s.add(s.mul(s.splat(0.25), sigma2), *w);
                }
            }
            weights
        }
    }
}

/// Fits sub-blocks of `LEN` values. A trait, because closures are not compiled with the instructions
/// of the lanes.
pub(super) trait Fit<const LEN: usize> {
    /// A sub-block as it is fitted.
    type Sub: Copy;
    /// What there is before.
    const EMPTY: Self::Sub;

    /// Fits a batch of sub-blocks, one a lane, of which as many are live as `subs` has room for.
    fn fit<S: Lanes>(
        &mut self,
        s: S,
        x: &[S::F32; LEN],
        weights: &[S::F32; LEN],
        subs: &mut [Self::Sub],
    );
}

/// Goes through the sub-blocks of `LEN` values of all super-blocks, as many at a time as there are
/// lanes, and gives those of each super-block to `finish`, with its number and σ², when they are fitted.
#[inline(always)]
pub(super) fn for_sub_blocks<S: Lanes, F: Fit<LEN>, const LEN: usize>(
    s: S,
    rows: Rows<'_>,
    count: usize,
    weighing: Weighing,
    mut fit: F,
    mut finish: impl FnMut(usize, &[F::Sub], f32),
) {
    let subs = QK_K / LEN;
    let sums = Rows { row_len: QK_K, importance: None, ..rows }.sums_of_squares(s);
    // A vector's worth of sub-blocks, or a super-block's.
    let stretch = S::N.div_ceil(subs);
    let mut fitted = [F::EMPTY; MAX_LANES];
    let mut x = [s.splat(0.0); LEN];
    let mut lanes = [0.0; MAX_LANES];
    for first in (0..count).step_by(stretch) {
        let end = (first + stretch).min(count);
        let total = (end - first) * subs;
        for sub in (0..total).step_by(S::N) {
            let batch = rows.batch::<S>(first * subs + sub, end * subs, LEN);
            s.load_columns(rows.values, &batch.starts, &mut x);
            for lane in 0..S::N {
                lanes[lane] = sums[batch.starts[lane] / QK_K];
            }
            let sigma2 = weighing.sigma2(s, s.load(&lanes));
            let weights = weigh(s, weighing, &rows, &batch.columns, &x, sigma2);
            fit.fit(s, &x, &weights, &mut fitted[sub..sub + batch.live]);
        }
        for (i, fitted) in fitted[..total].chunks_exact(subs).enumerate() {
            finish(first + i, fitted, weighing.sigma2(Scalar, sums[first + i]));
        }
    }
}

/// Fits all super-blocks to a codebook and gives the sub-blocks of each to `finish`, with its number.
#[inline(always)]
pub(super) fn fit_all<
    S: Lanes,
    const DIMS: usize,
    const LEN: usize,
    const GROUPS: usize,
    const CANDIDATES: usize,
>(
    s: S,
    rows: Rows<'_>,
    count: usize,
    book: &Codebook<DIMS>,
    weighing: Weighing,
    settings: Settings,
    mut finish: impl FnMut(usize, &[Sub]),
) {
    let fit = ToGrid::<DIMS, LEN, GROUPS, CANDIDATES> { book, settings, room: Room::EMPTY };
    let finish = |number: usize, subs: &[Sub], _| finish(number, subs);
    // Nothing is gained by more lanes than the largest vectors have.
    if S::N > MOST_LANES {
        for_sub_blocks::<Scalar, _, LEN>(Scalar, rows, count, weighing, fit, finish);
    } else {
        for_sub_blocks::<S, _, LEN>(s, rows, count, weighing, fit, finish);
    }
}

struct ToGrid<'a, const DIMS: usize, const LEN: usize, const GROUPS: usize, const CANDIDATES: usize>
{
    book: &'a Codebook<DIMS>,
    settings: Settings,
    room: Room<LEN, GROUPS>,
}

impl<const DIMS: usize, const LEN: usize, const GROUPS: usize, const CANDIDATES: usize> Fit<LEN>
    for ToGrid<'_, DIMS, LEN, GROUPS, CANDIDATES>
{
    type Sub = Sub;
    const EMPTY: Sub = Sub::ZERO;

    #[inline(always)]
    fn fit<S: Lanes>(
        &mut self,
        s: S,
        x: &[S::F32; LEN],
        weights: &[S::F32; LEN],
        subs: &mut [Sub],
    ) {
        let Self { book, settings, room } = self;
        let settings = *settings;
        s.call(FitGrid::<S, DIMS, LEN, GROUPS, CANDIDATES> {
            book,
            settings,
            x,
            weights,
            room,
            subs,
        });
    }
}

/// The scale of the scales of a super-block and their codes from 0 to `highest`, `d·(2·code + 1)` being
/// nearest to the scale; `None` if all are zero.
#[inline(always)]
pub(super) fn scale_codes<const SUBS: usize>(
    scales: impl Fn(usize) -> f32,
    highest: i32,
) -> Option<(f32, [u8; SUBS])> {
    let max = (0..SUBS).map(&scales).fold(0.0, |max, scale| if scale > max { scale } else { max });
    if max == 0.0 {
        return None;
    }
    let d = max / (2 * highest + 1) as f32;
    let inverse = 1.0 / d;
    let code = |i| nearest_clamped(Scalar, 0.5 * (inverse * scales(i) - 1.0), 0, highest) as u8;
    Some((d, core::array::from_fn(code)))
}

/// What a value with this sign bit is multiplied by.
#[inline(always)]
pub(super) fn sign(signs: u8, i: usize) -> f32 {
    if signs >> i & 1 == 1 { -1.0 } else { 1.0 }
}

/// All eight signs from seven: there is an even number of negative ones.
#[inline(always)]
pub(super) fn even_signs(seven: u8) -> u8 {
    let seven = seven & 127;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// What the levels of two-bit grids stand for, in eighths of the scale.
pub(super) const LEVELS_2: [f32; 4] = [8.0, 25.0, 43.0, 0.0];
