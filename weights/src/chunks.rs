//! How tensors are cut into ranges that are worked on at a time.

use std::ops::Range;

use crate::Tensor;

/// Elements in a chunk, unless a row is longer: its buffers stay within a core's second-level
/// cache, and it fills the lanes of every instruction set many times over.
const CHUNK: u64 = 1 << 16;

/// Elements in a chunk of values that are gathered from many places: what is read from each place
/// should be worth the call.
const GATHERED: u64 = 1 << 19;

/// Elements in which a chunk can be cut where rows do not matter: a multiple of every block length.
const BLOCKS: u64 = 256;

/// How a tensor is cut into ranges. Elements are its values, or whatever else is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Elements of a row or block, none of which is cut; the last may be shorter.
    pub unit: u64,
    /// Elements of a range, unless a unit is longer.
    pub size: u64,
    /// Elements of a matrix of a stack, if no range may reach from one to the next.
    pub section: Option<u64>,
}

impl Cut {
    /// Ranges of whole rows.
    pub fn rows(tensor: &Tensor) -> Self {
        Self { unit: tensor.row_len(), ..Self::blocks(tensor) }
    }

    /// Ranges of whole blocks of any type; of whole rows where values are gathered from many places.
    pub fn blocks(tensor: &Tensor) -> Self {
        let (unit, size) = match tensor.is_gathered() {
            true => (tensor.row_len(), GATHERED),
            false => (BLOCKS, CHUNK),
        };
        Self { unit, size, section: None }
    }

    /// The ranges that so many elements are cut into, in their order.
    pub fn ranges(self, total: u64) -> impl Iterator<Item = Range<u64>> + use<> {
        let unit = self.unit.max(1);
        let step = (self.size / unit).max(1).saturating_mul(unit);
        let section = self.section.unwrap_or(total).max(1);
        let mut start = 0u64;
        std::iter::from_fn(move || {
            let section_end = (start / section).saturating_add(1).saturating_mul(section);
            let end = start.saturating_add(step).min(section_end).min(total);
            let range = start..end;
            start = end;
            (range.start < range.end).then_some(range)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(unit: u64, size: u64, section: Option<u64>, total: u64) -> Vec<Range<u64>> {
        Cut { unit, size, section }.ranges(total).collect()
    }

    #[test]
    fn ranges_are_whole_units_and_stay_within_their_section() {
        assert_eq!(ranges(3, 7, None, 14), [0..6, 6..12, 12..14]);
        assert_eq!(ranges(9, 7, None, 14), [0..9, 9..14]);
        assert_eq!(ranges(3, 7, Some(9), 18), [0..6, 6..9, 9..15, 15..18]);
        assert_eq!(ranges(1, 100, Some(5), 12), [0..5, 5..10, 10..12]);
        assert_eq!(ranges(1, 4, None, 0), []);
        assert_eq!(ranges(0, 0, Some(0), 2), [0..1, 1..2]);
        let all = ranges(1, u64::MAX, None, u64::MAX);
        assert_eq!(all.first(), Some(&(0..u64::MAX)));
        assert_eq!(all.len(), 1);
    }
}
