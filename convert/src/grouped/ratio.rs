//! Which layers get the type asked for, and which the backup type.

/// Layers that get the same scheme, with what the choice needs to know of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// Weights of the layers.
    pub elements: u64,
    /// How sensitive the layers are: the least sensitive ones are taken first.
    pub score: f64,
}

/// NNCF's walk: by ascending score, ties in the order given, layers are taken until with the next
/// one their share of all weights would reach `ratio`. With a ratio of 1 all are taken.
///
/// The units are in topological order.
pub fn select(units: &[Unit], ratio: f64) -> Vec<bool> {
    if ratio >= 1.0 {
        return vec![true; units.len()];
    }
    let total: u64 = units.iter().fold(0, |sum, unit| sum.saturating_add(unit.elements));
    let mut order: Vec<usize> = (0..units.len()).collect();
    let score = |i: &usize| units.get(*i).map_or(f64::INFINITY, |unit| unit.score);
    order.sort_by(|a, b| score(a).total_cmp(&score(b)));
    let mut taken = vec![false; units.len()];
    let mut sum = 0u64;
    for i in order {
        let (Some(unit), Some(taken)) = (units.get(i), taken.get_mut(i)) else { continue };
        sum = sum.saturating_add(unit.elements);
        if sum as f64 / total as f64 >= ratio {
            break;
        }
        *taken = true;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(of: &[(u64, f64)]) -> Vec<Unit> {
        of.iter().map(|&(elements, score)| Unit { elements, score }).collect()
    }

    #[test]
    fn the_least_sensitive_come_first() {
        let units = units(&[(10, 3.0), (10, 1.0), (10, 2.0), (10, 1.0)]);
        assert_eq!(select(&units, 0.6), [false, true, false, true]);
        assert_eq!(select(&units, 0.8), [false, true, true, true]);
        assert_eq!(select(&units, 1.0), [true; 4]);
        // Reaching the ratio is too much already, as in NNCF.
        assert_eq!(select(&units, 0.5), [false, true, false, false]);
        assert_eq!(select(&units, 0.0), [false; 4]);
        assert!(select(&[], 0.5).is_empty());
    }

    #[test]
    fn the_walk_ends_at_the_first_layer_that_is_too_large() {
        let units = units(&[(80, 1.0), (10, 2.0)]);
        assert_eq!(select(&units, 0.5), [false, false]);
    }
}
