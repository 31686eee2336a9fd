use std::boxed::Box;

use proptest::prelude::*;

use super::*;
use crate::lanes::Scalar;

/// With a hurdle, and from nothing.
fn check<const LEN: usize, const ENDS: usize, const BY_HALF: bool>(
    x: [f32; LEN],
    weights: [f32; LEN],
) {
    let ranks = rank(Scalar, &x);
    let mut room = Box::new(SplitRoom::EMPTY);
    let sums = sort::<Scalar, LEN, ENDS, BY_HALF>(Scalar, &x, &weights, &ranks, &mut room);
    let found = [false, true].map(|from_nothing| {
        let best = if BY_HALF {
            search(Scalar, &Halves::new(Scalar, &sums), &sums, false, 0.0, from_nothing)
        } else {
            search(Scalar, &Whole::new(Scalar, &sums[0]), &sums, false, 0.0, from_nothing)
        };
        let Taken { scale, ends, way } = best.taken;
        (scale.to_bits(), best.score.to_bits(), ends, way)
    });
    // Where no split is taken the score is the hurdle.
    assert_eq!(found[0], found[1]);
}

/// Values of which some are alike, and so are their weights: many splits score the same, or almost.
fn pairs() -> impl Strategy<Value = [(f32, f32); MOST]> {
    let value = prop_oneof![-1.0f32..1.0, (-4i8..=4).prop_map(|v| f32::from(v) / 4.0)];
    let weight = prop_oneof![0.1f32..10.0, Just(1.0), Just(0.0), Just(1e-7)];
    let sizes = (-25i32..25, -25i32..6);
    (prop::collection::vec((value, weight), MOST), sizes).prop_map(|(pairs, sizes)| {
        core::array::from_fn(|i| {
            (pairs[i].0 * 10f32.powi(sizes.1), pairs[i].1 * 10f32.powi(sizes.0))
        })
    })
}

proptest! {
    #[test]
    fn a_hurdle_changes_nothing(pairs in pairs()) {
        check::<32, 33, false>(pairs.map(|pair| pair.0), pairs.map(|pair| pair.1));
        let half: [_; 16] = core::array::from_fn(|i| pairs[i]);
        check::<16, 17, true>(half.map(|pair| pair.0), half.map(|pair| pair.1));
    }
}
