//! Codes, scales and zero points equal to NNCF's, and properties of grouped integers.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use proptest::prelude::*;
use quant_core::{
    Error,
    grouped::{Fallback, GroupSize, Grouped, GroupedType, Job, Refinement, ScaleType, dequantize},
    grouped::{pack, quantize, quantize_with},
    lanes::Scalar,
};
use safetensors::SafeTensors;

fn numbers<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&b| from(b)).collect()
}

#[test]
fn golden_groups_are_equal() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/golden/nncf-int4.safetensors");
    let file = std::fs::read(path).unwrap();
    let golden = SafeTensors::deserialize(&file).unwrap();
    let weight = golden.tensor("weight").unwrap();
    let row_len = weight.shape()[1];
    let weight = numbers(weight.data(), f32::from_le_bytes);
    let mut seen = 0;
    let mut problems = Vec::new();
    for name in golden.names() {
        let Some((case, "q")) = name.rsplit_once('.') else { continue };
        let (ty, group) = case.split_once(".g").unwrap();
        let ty = GroupedType::from_name(ty).unwrap();
        let group_len = if group == "channel" { row_len } else { group.parse().unwrap() };
        let found = quantize(ty, &weight, group_len).unwrap();
        let part = |part: &str| golden.tensor(&format!("{case}.{part}")).ok().map(|t| t.data());
        let q = numbers(part("q").unwrap(), i16::from_le_bytes);
        let scales = numbers(part("scale_f32").unwrap(), f32::from_le_bytes);
        let middle = if ty.is_symmetric() { i16::from(ty.middle()) } else { 0 };
        if !found.codes.iter().map(|&c| i16::from(c) - middle).eq(q.iter().copied()) {
            problems.push(format!("{case}: codes"));
        }
        let bits = |s: &[f32]| s.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
        if bits(&found.scales) != bits(&scales) {
            problems.push(format!("{case}: scales"));
        }
        let zero_points = part("zero_point").map(|z| numbers(z, i16::from_le_bytes));
        assert_eq!(zero_points.is_none(), ty.is_symmetric(), "{case}");
        let zero_points = zero_points.unwrap_or_else(|| vec![middle; scales.len()]);
        if !found.zero_points.iter().map(|&z| i16::from(z)).eq(zero_points) {
            problems.push(format!("{case}: zero points"));
        }
        seen += 1;
    }
    assert_eq!(seen, 10);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn degenerate_groups_have_defined_results() {
    for &ty in GroupedType::ALL {
        for value in [0.0f32, 1.0, -1.0, 1e-30, f32::MIN_POSITIVE / 4.0, 3e37, -3e37] {
            let values = [value; 8];
            let out = quantize(ty, &values, 8).unwrap();
            let mut restored = [0.0; 8];
            dequantize(out.view(), 8, &mut restored).unwrap();
            // A constant at the wrong end of a symmetric range loses one step; tiny ones vanish.
            let bound = out.scales[0].abs() * 1.01;
            assert!((restored[0] - value).abs() <= bound, "{ty} {value}: {restored:?} {out:?}");
        }
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let error = quantize(GroupedType::Int4Sym, &[0.0, bad], 2).unwrap_err();
        assert!(matches!(error, Error::NonFinite { index: 1, .. }));
    }
    assert!(matches!(
        quantize(GroupedType::Int4Sym, &[0.0; 6], 4),
        Err(Error::GroupLength { row: 6, group: 4 })
    ));
    assert!(quantize(GroupedType::Int4Sym, &[0.0; 6], 0).is_err());
    assert!(GroupSize::from_number(4).unwrap().fit(6, Fallback::Error).is_err());
}

fn squared_error(ty: GroupedType, values: &[f32], group_len: usize) -> f64 {
    let out = quantize(ty, values, group_len).unwrap();
    weighted_error(&out, values, group_len, None)
}

fn weighted_error(out: &Grouped, values: &[f32], group_len: usize, w: Option<&[f32]>) -> f64 {
    let mut restored = vec![0.0; values.len()];
    dequantize(out.view(), group_len, &mut restored).unwrap();
    let terms = values.iter().zip(&restored).enumerate();
    terms
        .map(|(i, (a, b))| {
            let weight = w.map_or(1.0, |w| f64::from(w[i % w.len()]));
            weight * f64::from(a - b).powi(2)
        })
        .sum()
}

fn types() -> impl Strategy<Value = GroupedType> {
    prop::sample::select(GroupedType::ALL)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(300)))]

    /// Every value is within half a step of its restoration, but for the ends of the range: a
    /// symmetric type has no code for the positive end (one step), and rounding the zero point
    /// can move the range of an asymmetric one by half a step.
    #[test]
    fn restoration_is_within_half_a_step(
        ty in types(),
        group_len in 1usize..70,
        seed in prop::collection::vec(-1.0f32..1.0, 70 * 3),
        exponent in -5i32..5,
    ) {
        let scale = 10f32.powi(exponent);
        let values: Vec<f32> = seed[..group_len * 3].iter().map(|v| v * scale).collect();
        let out = quantize(ty, &values, group_len).unwrap();
        let mut restored = vec![0.0; values.len()];
        dequantize(out.view(), group_len, &mut restored).unwrap();
        for (i, (v, r)) in values.iter().zip(&restored).enumerate() {
            let step = f64::from(out.scales[i / group_len].abs());
            let clamped = out.codes[i] == 0 || out.codes[i] == ty.levels();
            let steps = if clamped { 1.0 } else { 0.5 };
            let error = f64::from(*v) - f64::from(*r);
            // Division, product and sum round once each, in single precision.
            let rounding = 3.0 * f64::from(ty.levels()) * f64::from(f32::EPSILON) * step;
            prop_assert!(error.abs() <= steps * step + rounding, "{ty} {i}: {v} {r} {step}");
        }
    }

    /// Halving the groups does not raise the total error by more than a tenth: a part of a group
    /// can be unlucky with the place of its steps, many are not.
    #[test]
    fn smaller_groups_have_smaller_errors(
        ty in types(),
        values in prop::collection::vec(-1.0f32..1.0, 2048),
    ) {
        let mut larger = squared_error(ty, &values, 2048);
        for group_len in [512, 128, 32] {
            let smaller = squared_error(ty, &values, group_len);
            prop_assert!(smaller <= 1.1 * larger, "{ty} {group_len}: {smaller} {larger}");
            larger = smaller;
        }
    }

    #[test]
    fn refinement_never_raises_the_weighted_error(
        ty in types(),
        stored in prop::sample::select(vec![ScaleType::F32, ScaleType::F16, ScaleType::Bf16]),
        values in prop::collection::vec(-1.0f32..1.0, 256),
        importance in prop::option::of(prop::collection::vec(0.0f32..10.0, 128)),
    ) {
        let mut plain = quantize(ty, &values, 64).unwrap();
        for scale in &mut plain.scales {
            *scale = stored.round(*scale);
        }
        let refinement = Some(Refinement { importance: importance.as_deref(), stored });
        let job = Job { ty, values: &values, group_len: 64, refinement };
        let mut refined = Grouped::default();
        refined.resize(values.len(), 64);
        quantize_with(Scalar, job, refined.view_mut()).unwrap();
        for scale in &refined.scales {
            prop_assert_eq!(*scale, stored.round(*scale));
        }
        for group in 0..4 {
            let part = |g: &Grouped| Grouped {
                codes: g.codes[group * 64..][..64].to_vec(),
                scales: vec![g.scales[group]],
                zero_points: vec![g.zero_points[group]],
            };
            let weights = importance.as_deref().map(|w| &w[group % 2 * 64..][..64]);
            let values = &values[group * 64..][..64];
            let before = weighted_error(&part(&plain), values, 64, weights);
            let after = weighted_error(&part(&refined), values, 64, weights);
            // The search sums in single precision.
            prop_assert!(after <= before * 1.0001 + 1e-12, "{ty} {after} {before}");
        }
    }

    #[test]
    fn packing_is_undone_by_unpacking(
        bits in 1u32..=8,
        (row_len, codes) in (1usize..40, 0usize..12).prop_flat_map(|(row_len, rows)| {
            (Just(row_len), prop::collection::vec(any::<u8>(), row_len * rows))
        }),
    ) {
        let mask = ((1u32 << bits) - 1) as u8;
        let codes: Vec<u8> = codes.iter().map(|c| c & mask).collect();
        let rows = codes.len() / row_len;
        let per_word = pack::per_word(bits).unwrap();

        let mut words = vec![0xa5; 4 * rows * row_len.div_ceil(per_word)];
        pack::rows(bits, &codes, row_len, &mut words).unwrap_or_else(|e| panic!("{e}"));
        let mut back = vec![0; codes.len()];
        pack::unpack_rows(bits, &words, row_len, &mut back).unwrap();
        prop_assert_eq!(&back, &codes);
        for (i, &code) in codes.iter().enumerate() {
            // The definition, bit by bit.
            let (row, column) = (i / row_len, i % row_len);
            let at = 4 * (row * row_len.div_ceil(per_word) + column / per_word);
            let word = u32::from_le_bytes(words[at..at + 4].try_into().unwrap());
            let shift = bits * (column % per_word) as u32;
            prop_assert_eq!((word >> shift) as u8 & mask, code);
        }

        let mut words = vec![0xa5; 4 * row_len * rows.div_ceil(per_word)];
        pack::columns(bits, &codes, row_len, &mut words).unwrap();
        back.fill(0xff);
        pack::unpack_columns(bits, &words, row_len, &mut back).unwrap();
        prop_assert_eq!(&back, &codes);

        words.push(0);
        prop_assert!(pack::columns(bits, &codes, row_len, &mut words).is_err());
        prop_assert!(pack::rows(bits, &codes, row_len, &mut [0]).is_err());
    }
}

#[test]
fn widths_that_cannot_be_packed_are_refused() {
    for bits in [0, 9, 32, u32::MAX] {
        assert!(matches!(pack::rows(bits, &[], 1, &mut []), Err(Error::BitWidth { .. })));
    }
    assert!(pack::rows(4, &[1], 0, &mut [0; 4]).is_err());
}
