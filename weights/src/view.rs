//! Which stored values a tensor takes, and in which order: strided views.

use std::ops::Range;

/// A strided view of stored values, outermost axis first.
///
/// The value at indices `i` is the stored one at `start + Σ i[k] * axes[k].stride`. Re-ordering
/// rows, transposing, splitting and slicing are all views; none of them moves a value by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    start: u64,
    axes: Vec<Axis>,
}

/// An axis of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) len: u64,
    pub(crate) stride: u64,
}

/// Stored values that are the same distance apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The number of the first one.
    pub(crate) first: u64,
    /// How many there are, at least one.
    pub(crate) len: u64,
    /// The distance from one to the next.
    pub(crate) stride: u64,
}

impl Run {
    /// One past the last stored value.
    pub(crate) fn end(&self) -> u64 {
        self.first + (self.len - 1) * self.stride + 1
    }

    /// Which of its values are stored within a range.
    pub(crate) fn within(&self, range: &Range<u64>) -> Range<u64> {
        let stride = self.stride.max(1);
        let before = |end: u64| end.saturating_sub(self.first).div_ceil(stride).min(self.len);
        before(range.start)..before(range.end)
    }
}

impl View {
    /// All values of a shape, in the order they are stored. `None` if there are too many.
    pub fn whole(shape: &[u64]) -> Option<Self> {
        let mut stride = 1u64;
        let mut axes = Vec::with_capacity(shape.len());
        for &len in shape.iter().rev() {
            axes.push(Axis { len, stride });
            stride = stride.checked_mul(len)?;
        }
        axes.reverse();
        Some(Self { start: 0, axes })
    }

    /// Cuts an axis into several: those of the lengths given, and one for what is left. `None` if
    /// that leaves a remainder.
    pub fn unfold(mut self, axis: usize, outer: &[u64]) -> Option<Self> {
        let Axis { mut len, stride } = *self.axes.get(axis)?;
        let mut lens = outer.to_vec();
        for &part in outer {
            (len.checked_rem(part)? == 0).then_some(())?;
            len /= part;
        }
        lens.push(len);
        let mut stride = stride;
        let mut parts = Vec::with_capacity(lens.len());
        for &len in lens.iter().rev() {
            parts.push(Axis { len, stride });
            stride = stride.checked_mul(len)?;
        }
        self.axes.splice(axis..=axis, parts.into_iter().rev());
        Some(self)
    }

    /// Keeps `len` entries of an axis from `from` on. `None` if there are not as many.
    pub fn narrow(mut self, axis: usize, from: u64, len: u64) -> Option<Self> {
        let axis = self.axes.get_mut(axis)?;
        (from.checked_add(len)? <= axis.len).then_some(())?;
        axis.len = len;
        self.start = self.start.checked_add(from.checked_mul(axis.stride)?)?;
        Some(self)
    }

    /// Keeps every `step`th entry of an axis, from `first` on. `None` if they are not as many for
    /// each `first`.
    pub fn every(mut self, axis: usize, step: u64, first: u64) -> Option<Self> {
        let axis = self.axes.get_mut(axis)?;
        (first < step && axis.len.checked_rem(step)? == 0).then_some(())?;
        self.start = self.start.checked_add(first.checked_mul(axis.stride)?)?;
        axis.len /= step;
        axis.stride = axis.stride.checked_mul(step)?;
        Some(self)
    }

    /// Exchanges two axes. `None` if there are not as many.
    pub fn swap(mut self, a: usize, b: usize) -> Option<Self> {
        (a.max(b) < self.axes.len()).then(|| self.axes.swap(a, b))?;
        Some(self)
    }

    /// The same counted in units of so many values next to each other. `None` if it takes, or skips,
    /// parts of them.
    pub fn in_units(&self, len: u64) -> Option<Self> {
        let whole = |n: u64| n.checked_rem(len).filter(|rest| *rest == 0).map(|_| n / len);
        let (start, mut axes) = self.simplified();
        let (row, outer) = axes.split_last_mut()?;
        (row.stride == 1).then_some(())?;
        row.len = whole(row.len)?;
        for axis in outer {
            axis.stride = whole(axis.stride)?;
        }
        Some(Self { start: whole(start)?, axes })
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        // Checked when the view was made: no view has more values than what is stored.
        self.axes.iter().map(|axis| axis.len).product()
    }

    /// Lengths of the axes, outermost first.
    pub fn shape(&self) -> Vec<u64> {
        self.axes.iter().map(|axis| axis.len).collect()
    }

    /// The stored values from the first to the last that it takes, with those between that it does not.
    pub(crate) fn span(&self) -> Range<u64> {
        if self.count() == 0 {
            return self.start..self.start;
        }
        let reach = |axis: &Axis| axis.len.saturating_sub(1).saturating_mul(axis.stride);
        let last = self.axes.iter().map(reach).fold(self.start, u64::saturating_add);
        self.start..last.saturating_add(1)
    }

    /// The first stored value and the axes, those that are one in effect taken together.
    pub(crate) fn simplified(&self) -> (u64, Vec<Axis>) {
        let mut axes: Vec<Axis> = Vec::with_capacity(self.axes.len());
        for &axis in self.axes.iter().filter(|axis| axis.len != 1) {
            match axes.last_mut() {
                Some(outer) if Some(outer.stride) == axis.stride.checked_mul(axis.len) => {
                    *outer = Axis { len: outer.len.saturating_mul(axis.len), stride: axis.stride };
                }
                _ => axes.push(axis),
            }
        }
        if axes.is_empty() {
            axes.push(Axis { len: self.count(), stride: 1 });
        }
        (self.start, axes)
    }

    /// The stored values behind a range of the view's, as rows of the innermost axis.
    pub(crate) fn runs(&self, range: Range<u64>) -> impl Iterator<Item = Run> + use<> {
        let (start, mut axes) = self.simplified();
        let row = axes.pop().unwrap_or(Axis { len: 1, stride: 1 });
        let mut at = range.start;
        std::iter::from_fn(move || {
            (at < range.end).then(|| {
                let (index, within) = (at / row.len.max(1), at % row.len.max(1));
                let len = (row.len - within).min(range.end - at).max(1);
                let first = start + origin(&axes, index) + within * row.stride;
                at = at.saturating_add(len);
                Run { first, len, stride: row.stride }
            })
        })
    }

    /// Whether the values are in the order they are stored in, without a gap.
    pub fn is_contiguous(&self) -> bool {
        matches!(self.simplified().1[..], [Axis { stride: 1, .. }])
    }

    /// Whether the values of a row are next to each other where they are stored, as they are not in a
    /// transposed matrix.
    pub fn keeps_rows(&self) -> bool {
        self.simplified().1.last().is_none_or(|axis| axis.stride == 1)
    }
}

/// Where entry `index` of the outer axes begins.
pub(crate) fn origin(outer: &[Axis], mut index: u64) -> u64 {
    let mut origin = 0;
    for axis in outer.iter().rev() {
        let len = axis.len.max(1);
        origin += index % len * axis.stride;
        index /= len;
    }
    origin
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored indices in the order of the view.
    fn indices(view: &View) -> Vec<u64> {
        let (start, axes) = view.simplified();
        axes.iter().fold(vec![start], |starts, axis| {
            let along = |start: u64| (0..axis.len).map(move |i| start + i * axis.stride);
            starts.into_iter().flat_map(along).collect()
        })
    }

    fn whole(shape: &[u64]) -> View {
        View::whole(shape).unwrap()
    }

    #[test]
    fn rotary_pairs_come_from_the_two_halves() {
        // Two heads of four rows of two values.
        let view = whole(&[8, 2]).unfold(0, &[2, 2]).unwrap().swap(1, 2).unwrap();
        assert_eq!(view.shape(), [2, 2, 2, 2]);
        assert_eq!(indices(&view), [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
    }

    #[test]
    fn transposes_slices_and_steps() {
        assert_eq!(indices(&whole(&[2, 3]).swap(0, 1).unwrap()), [0, 3, 1, 4, 2, 5]);
        assert_eq!(indices(&whole(&[4, 2]).narrow(0, 1, 2).unwrap()), [2, 3, 4, 5]);
        assert_eq!(indices(&whole(&[4, 2]).every(0, 2, 1).unwrap()), [2, 3, 6, 7]);
        assert_eq!(indices(&whole(&[4]).every(0, 2, 1).unwrap()), [1, 3]);
    }

    #[test]
    fn whole_rows_are_counted_in_units() {
        let pairs = |view: View| view.in_units(2).map(|view| indices(&view));
        assert_eq!(pairs(whole(&[2, 4])), Some(vec![0, 1, 2, 3]));
        let rotary = whole(&[8, 4]).unfold(0, &[2, 2]).unwrap().swap(1, 2).unwrap();
        assert_eq!(pairs(rotary), Some(vec![0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]));
        assert_eq!(pairs(whole(&[2, 4]).narrow(1, 2, 2).unwrap()), Some(vec![1, 3]));
        assert_eq!(pairs(whole(&[2, 4]).narrow(1, 1, 2).unwrap()), None);
        assert_eq!(pairs(whole(&[4, 3]).narrow(1, 0, 2).unwrap()), None);
        assert_eq!(pairs(whole(&[2, 4]).swap(0, 1).unwrap()), None);
    }

    #[test]
    fn what_is_one_range_is_known_as_one() {
        assert!(whole(&[4, 2]).is_contiguous());
        assert!(whole(&[]).is_contiguous());
        assert!(whole(&[1, 1]).is_contiguous());
        assert!(whole(&[4, 2]).narrow(0, 1, 2).unwrap().is_contiguous());
        assert!(whole(&[1, 2]).swap(0, 1).unwrap().is_contiguous());
        assert!(!whole(&[4, 2]).narrow(1, 1, 1).unwrap().is_contiguous());
        assert!(!whole(&[4, 2]).swap(0, 1).unwrap().is_contiguous());
    }

    #[test]
    fn what_does_not_fit_is_no_view() {
        assert!(View::whole(&[1 << 40, 1 << 40]).is_none());
        let view = || whole(&[6, 2]);
        assert!(view().unfold(0, &[4]).is_none());
        assert!(view().unfold(0, &[0]).is_none());
        assert!(view().unfold(2, &[1]).is_none());
        assert!(view().narrow(0, 5, 2).is_none());
        assert!(view().narrow(0, u64::MAX, 2).is_none());
        assert!(view().every(0, 4, 0).is_none());
        assert!(view().every(0, 0, 0).is_none());
        assert!(view().swap(0, 2).is_none());
    }
}
