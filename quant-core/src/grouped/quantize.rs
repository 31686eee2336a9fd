//! The quantizer: a lane is a group.

use alloc::vec::Vec;

use super::{
    GroupedType, Refinement,
    fit::{Columns, Range},
    refine::refine,
};
use crate::{
    Error,
    lanes::{Lanes, MAX_LANES, Scalar},
};

/// Groups from this length on are quantized one by one, a lane per element: columns of groups that
/// far apart compete for the same lines of the cache.
const LONG: usize = 512;

/// What is to be quantized.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The type.
    pub ty: GroupedType,
    /// Values, row-major; a whole number of groups.
    pub values: &'a [f32],
    /// Elements of a group.
    pub group_len: usize,
    /// The search for a better scale, if wanted.
    pub refinement: Option<Refinement<'a>>,
}

/// Codes, scales and zero points of some groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grouped {
    /// A code per value.
    pub codes: Vec<u8>,
    /// A scale per group, in single precision. In the symmetric types it may be negative.
    pub scales: Vec<f32>,
    /// A zero point per group.
    pub zero_points: Vec<u8>,
}

/// A borrowed [`Grouped`].
#[derive(Clone, Copy, Debug)]
pub struct GroupedView<'a> {
    /// A code per value.
    pub codes: &'a [u8],
    /// A scale per group.
    pub scales: &'a [f32],
    /// A zero point per group.
    pub zero_points: &'a [u8],
}

/// Where a [`Grouped`] is written.
#[derive(Debug)]
pub struct GroupedMut<'a> {
    /// A code per value.
    pub codes: &'a mut [u8],
    /// A scale per group.
    pub scales: &'a mut [f32],
    /// A zero point per group.
    pub zero_points: &'a mut [u8],
}

impl Grouped {
    /// Makes room for the result of a job.
    pub fn resize(&mut self, values: usize, group_len: usize) {
        let groups = values.checked_div(group_len).unwrap_or(0);
        self.codes.resize(values, 0);
        self.scales.resize(groups, 0.0);
        self.zero_points.resize(groups, 0);
    }

    /// A view of all groups.
    pub fn view(&self) -> GroupedView<'_> {
        GroupedView { codes: &self.codes, scales: &self.scales, zero_points: &self.zero_points }
    }

    /// All groups, to be written.
    pub fn view_mut(&mut self) -> GroupedMut<'_> {
        GroupedMut {
            codes: &mut self.codes,
            scales: &mut self.scales,
            zero_points: &mut self.zero_points,
        }
    }
}

/// Whether the lengths of values, codes, scales and zero points agree with the groups.
pub(super) fn check(values: usize, group_len: usize, view: &GroupedView<'_>) -> Result<(), Error> {
    if group_len == 0 || !values.is_multiple_of(group_len) {
        return Err(Error::GroupLength { row: values, group: group_len });
    }
    let groups = values / group_len;
    for (what, found, expected) in [
        ("the code buffer", view.codes.len(), values),
        ("the scale buffer", view.scales.len(), groups),
        ("the zero point buffer", view.zero_points.len(), groups),
    ] {
        if found != expected {
            return Err(Error::Length { what, found, expected });
        }
    }
    Ok(())
}

/// Quantizes finite values in groups of `group_len`.
///
/// # Errors
/// [`Error::GroupLength`] if the values are not whole groups, [`Error::NonFinite`] for a NaN or an
/// infinity.
pub fn quantize(ty: GroupedType, values: &[f32], group_len: usize) -> Result<Grouped, Error> {
    if let Some(index) = values.iter().position(|v| !v.is_finite()) {
        return Err(Error::NonFinite { what: "the row data", index, value: values[index] });
    }
    let mut out = Grouped::default();
    out.resize(values.len(), group_len);
    let job = Job { ty, values, group_len, refinement: None };
    quantize_with(Scalar, job, out.view_mut())?;
    Ok(out)
}

/// [`quantize`] with the lanes of the caller's choice, into buffers, without looking for values
/// that are not finite: those give unspecified codes.
///
/// # Errors
/// [`Error::GroupLength`] if the values are not whole groups, [`Error::Length`] if the buffers do
/// not fit them, or the importance is not a whole number of groups that divides them.
#[inline(always)]
pub fn quantize_with<S: Lanes>(s: S, job: Job<'_>, out: GroupedMut<'_>) -> Result<(), Error> {
    let Job { ty, values, group_len, refinement } = job;
    let view = GroupedView { codes: out.codes, scales: out.scales, zero_points: out.zero_points };
    check(values.len(), group_len, &view)?;
    if let Some(refinement) = &refinement {
        refinement.check(values.len(), group_len)?;
    }
    let groups = values.len() / group_len;
    let range = Range::new(ty);
    if group_len >= LONG && refinement.is_none() {
        quantize_long(s, range, values, group_len, out);
        return Ok(());
    }
    for first in (0..groups).step_by(S::N) {
        let live = S::N.min(groups - first);
        let mut starts = [0; MAX_LANES];
        for (lane, start) in starts.iter_mut().enumerate().take(S::N) {
            *start = (first + lane.min(live - 1)) * group_len;
        }
        let columns = Columns::new(values, starts, group_len);
        let mut fit = range.fit_to(s, columns.limits(s, range.start(s)));
        if let Some(refinement) = &refinement {
            fit = refine(s, range, &columns, refinement, fit);
        }
        range.emit(s, &columns, fit, live, out.codes);

        let (mut scales, mut zero_points) = ([0.0; MAX_LANES], [0; MAX_LANES]);
        s.store(fit.stored, &mut scales);
        s.store_i(s.trunc(fit.zero_point), &mut zero_points);
        for lane in 0..live {
            out.scales[first + lane] = scales[lane];
            // The offset is the middle of a symmetric type, whose zero point is zero here.
            out.zero_points[first + lane] = (zero_points[lane] + range.offset) as u8;
        }
    }
    Ok(())
}

/// The groups one after the other, the same operations on each value.
#[inline(always)]
fn quantize_long<S: Lanes>(
    s: S,
    range: Range,
    values: &[f32],
    group_len: usize,
    out: GroupedMut<'_>,
) {
    let groups = values.chunks_exact(group_len).zip(out.codes.chunks_exact_mut(group_len));
    let parts = out.scales.iter_mut().zip(out.zero_points);
    for ((group, codes), (scale, zero_point)) in groups.zip(parts) {
        let fit = range.fit_to(s, run_limits(s, group, range.start(s)));
        let (mut floats, mut lanes) = ([0.0; MAX_LANES], [0; MAX_LANES]);
        for i in (0..group_len).step_by(S::N) {
            s.store_i(range.code(s, load_run(s, group, i), &fit), &mut lanes);
            match codes[i..].split_at_mut_checked(S::N) {
                Some((whole, _)) => whole.iter_mut().zip(&lanes).for_each(|(c, l)| *c = *l as u8),
                None => codes[i..].iter_mut().zip(&lanes).for_each(|(c, l)| *c = *l as u8),
            }
        }
        s.store(fit.stored, &mut floats);
        s.store_i(s.trunc(fit.zero_point), &mut lanes);
        *scale = floats[0];
        *zero_point = (lanes[0] + range.offset) as u8;
    }
}

/// Elements of a group from `i` on, a lane each; what lies beyond the end is its first element.
#[inline(always)]
fn load_run<S: Lanes>(s: S, group: &[f32], i: usize) -> S::F32 {
    if let Some(whole) = group[i..].first_chunk() {
        return s.load(whole);
    }
    let mut padded = [group[0]; MAX_LANES];
    padded[..group.len() - i].copy_from_slice(&group[i..]);
    s.load(&padded)
}

/// The limits of one group in every lane.
#[inline(always)]
fn run_limits<S: Lanes>(
    s: S,
    group: &[f32],
    (mut low, mut high): (S::F32, S::F32),
) -> (S::F32, S::F32) {
    for i in (0..group.len()).step_by(S::N) {
        let x = load_run(s, group, i);
        low = s.min(x, low);
        high = s.max(x, high);
    }
    let (mut lows, mut highs) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
    s.store(low, &mut lows);
    s.store(high, &mut highs);
    let (mut least, mut most) = (lows[0], highs[0]);
    for (low, high) in lows.iter().zip(&highs).take(S::N) {
        least = low.min(least);
        most = high.max(most);
    }
    (s.splat(least), s.splat(most))
}
