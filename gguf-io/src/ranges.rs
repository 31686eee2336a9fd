//! Which bytes of something have been written.

use std::ops::Range;

/// Ranges in order, none of which touch.
#[derive(Debug, Default)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    pub(crate) fn add(&mut self, mut new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        // Those that it touches become one with it.
        let first = self.0.partition_point(|range| range.end < new.start);
        let end = self.0.partition_point(|range| range.start <= new.end);
        for range in self.0.get(first..end).unwrap_or_default() {
            new.start = new.start.min(range.start);
            new.end = new.end.max(range.end);
        }
        self.0.splice(first..end, [new]);
    }

    /// The first of `len` bytes that is in none.
    pub(crate) fn gap(&self, len: u64) -> Option<u64> {
        let end = self.0.first().filter(|range| range.start == 0).map_or(0, |range| range.end);
        (end < len).then_some(end)
    }

    /// Bytes in all of them.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|range| range.end.saturating_sub(range.start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_are_counted_once(ranges in proptest::collection::vec((0u64..40, 0u64..9), 0..20)) {
            let (mut found, mut bytes) = (Ranges::default(), [false; 50]);
            for (start, len) in ranges {
                found.add(start..start + len);
                bytes[start as usize..(start + len) as usize].fill(true);
                prop_assert_eq!(found.total(), bytes.iter().filter(|b| **b).count() as u64);
                for len in [0, 1, 7, 50] {
                    let gap = bytes[..len].iter().position(|b| !b).map(|at| at as u64);
                    prop_assert_eq!(found.gap(len as u64), gap);
                }
                prop_assert!(found.0.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }
    }
}
