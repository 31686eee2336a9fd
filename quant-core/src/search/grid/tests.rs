use std::boxed::Box;

use proptest::prelude::*;

use super::*;
use crate::{
    codebook::{IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS},
    lanes::Scalar,
};

/// ggml's search for the point of a group.
fn point<const DIMS: usize>(
    book: &Codebook<DIMS>,
    x: &[f32],
    roots: &[f32],
    inverse: f32,
    scale: f32,
) -> u16 {
    let levels = Codebook::<DIMS>::LEVELS;
    let level = |x: f32| nearest_clamped(Scalar, 0.5 * (inverse * x - 1.0), 0, levels as i32 - 1);
    let key = x.iter().rev().fold(0, |key, x| key * levels + level(*x) as usize);
    let list = book.near().list(key);
    if let Some(code) = list.point() {
        return code;
    }
    let codes = &book.near().codes(list.start())[..list.len()];
    let (mut least, mut found) = (f32::MAX, codes[0]);
    for code in codes {
        let mut error = 0.0;
        for (i, (x, w)) in x.iter().zip(roots).enumerate() {
            let level = code >> (Codebook::<DIMS>::BITS * i as u32);
            let level = level & ((1 << Codebook::<DIMS>::BITS) - 1);
            let difference = scale * f32::from(2 * level + 1) - x;
            error += w * difference * difference;
        }
        if error < least {
            (least, found) = (error, *code);
        }
    }
    found
}

/// All candidates of some values, and a scale between, one by one.
fn check<const DIMS: usize, const LEN: usize, const GROUPS: usize>(
    book: &Codebook<DIMS>,
    x: &[f32; LEN],
    weights: &[f32; LEN],
    between: f32,
) {
    const CANDIDATES: usize = 19;
    let s = Scalar;
    let mut room = Box::new(Room::<LEN, GROUPS>::EMPTY);
    let roots = weights.map(f32::sqrt);
    room.fill(s, x, weights);
    let max = x.iter().fold(0.0, |max, x| if *x > max { *x } else { max });
    let products = core::array::from_fn(|i| x[i] * weights[i]);
    let values = Values::<Scalar, LEN> { x, weights, products: &products, reach: max };
    let top = (2 * Codebook::<DIMS>::LEVELS - 1) as f32;
    let inverses: [f32; CANDIDATES] =
        core::array::from_fn(|c| (top + (c as f32 - 9.0) * 0.02 * top) / max);
    let scales = inverses.map(|inverse| 1.0 / inverse);
    let mut wanted = [true; GROUPS];
    let (near, mut drawn) = (book.near(), Drawn::new(s));
    let far = values.settle::<DIMS, GROUPS>(
        s,
        near,
        [&inverses, &scales],
        &wanted,
        &mut room,
        &mut drawn,
    );
    assert!(!far);
    let expected = |g: usize, inverse: f32, scale: f32| {
        let places = g * DIMS..(g + 1) * DIMS;
        point(book, &x[places.clone()], &roots[places], inverse, scale)
    };
    for g in 0..GROUPS {
        let mut found = 0;
        for c in 0..CANDIDATES {
            if let (point, false) = room.point(s, g, c) {
                found = point as u16;
            }
            assert_eq!(found, expected(g, inverses[c], scales[c]), "{g} {c}");
        }
    }
    let scale = scales[18] + between * (scales[0] - scales[18]);
    let known = room.between(s, &inverses, 1.0 / scale, &mut wanted);
    room.restore(s, &known);
    for g in 0..GROUPS {
        assert!(known[g].1 != wanted[g]);
        if known[g].1 {
            let found = room.point(s, g, 0).0 as u16;
            assert_eq!(found, expected(g, 1.0 / scale, scale), "{g} between");
        }
    }
}

/// Magnitudes of which some are alike, the first the largest; some turned around.
fn magnitudes<const LEN: usize>() -> impl Strategy<Value = [f32; LEN]> {
    let value = prop_oneof![0.0f32..1.0, (0u8..=15).prop_map(|v| f32::from(v) / 15.0)];
    let turned = prop::bool::weighted(0.05);
    (prop::collection::vec((value, turned), LEN), -9i32..6).prop_map(|(values, exponent)| {
        core::array::from_fn(|i| {
            let (value, turned) = values[i];
            let value = if turned { -value } else { value };
            if i == 0 { 10f32.powi(exponent) } else { value * 10f32.powi(exponent) }
        })
    })
}

fn weights<const LEN: usize>() -> impl Strategy<Value = [f32; LEN]> {
    let weight = prop_oneof![(-8.0f32..4.0).prop_map(f32::exp), Just(1.0), Just(0.0)];
    (prop::collection::vec(weight, LEN), -20i32..8)
        .prop_map(|(weights, exponent)| core::array::from_fn(|i| weights[i] * 10f32.powi(exponent)))
}

proptest! {
    #[test]
    fn points_of_eight_values_are_those_of_a_search_at_each_scale(
        x in magnitudes::<16>(), w in weights::<16>(), between in 0.0f32..1.0,
    ) {
        check::<8, 16, 2>(&IQ2_XXS, &x, &w, between);
        check::<8, 16, 2>(&IQ2_XS, &x, &w, between);
        check::<8, 16, 2>(&IQ2_S, &x, &w, between);
    }

    #[test]
    fn points_of_four_values_are_those_of_a_search_at_each_scale(
        x in magnitudes::<32>(), w in weights::<32>(), between in 0.0f32..1.0,
    ) {
        check::<4, 32, 8>(&IQ3_XXS, &x, &w, between);
        check::<4, 32, 8>(&IQ3_S, &x, &w, between);
    }
}
