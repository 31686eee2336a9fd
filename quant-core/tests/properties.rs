//! Properties of the quantizers on arbitrary finite rows.

#![allow(clippy::unwrap_used, reason = "a test that cannot quantize its data has failed")]

use proptest::prelude::*;
use quant_core::{
    Error, GgmlType, Metrics, can_dequantize, can_quantize, dequantize,
    formats::{Importance, Rows},
    importance_use,
    lanes::Scalar,
    quantize_unchecked,
};

const FLOATS: [GgmlType; 3] = [GgmlType::F32, GgmlType::F16, GgmlType::BF16];

/// The types whose importance is weighed over the whole row; the others weigh block by block.
const BY_ROW: [GgmlType; 4] = [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q5_0, GgmlType::Q5_1];

fn quantized() -> impl Iterator<Item = GgmlType> {
    GgmlType::ALL.iter().copied().filter(|ty| ty.is_quantized() && can_quantize(*ty))
}

/// The types that llama-quantize makes with importance only, though ggml can do without for some.
const WITH_IMPORTANCE: [GgmlType; 6] = [
    GgmlType::IQ1_S,
    GgmlType::IQ1_M,
    GgmlType::IQ2_XXS,
    GgmlType::IQ2_XS,
    GgmlType::IQ2_S,
    GgmlType::IQ3_XXS,
];

/// [`quant_core::quantize`], with the same importance for all where the type is made with importance.
fn quantize(
    ty: GgmlType,
    x: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, Error> {
    let ones = vec![1.0; row_len];
    let weighted = WITH_IMPORTANCE.contains(&ty);
    quant_core::quantize(ty, x, row_len, importance.or(weighted.then_some(&ones)))
}

fn round_trip(ty: GgmlType, x: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let bytes = quantize(ty, x, x.len(), importance).unwrap();
    let mut out = vec![0.0; x.len()];
    dequantize(ty, &bytes, &mut out).unwrap();
    out
}

/// The largest error of a block, as a multiple of its largest magnitude.
///
/// The legacy bounds follow from the format: half a step, or a whole one at the end of the range
/// that a signed scale cannot reach. Those of the K-quants, whose sub-blocks share a scale of
/// scales, were found by search and rounded up.
fn tolerance(ty: GgmlType) -> f32 {
    match ty {
        GgmlType::Q4_0 => 1.0 / 8.0,
        GgmlType::Q4_1 => 2.0 / 15.0 / 2.0,
        GgmlType::Q5_0 => 1.0 / 16.0,
        GgmlType::Q5_1 => 2.0 / 31.0 / 2.0,
        GgmlType::Q8_0 => 1.0 / 127.0 / 2.0,
        GgmlType::Q2_K => 1.0,
        GgmlType::Q3_K => 0.5,
        GgmlType::Q4_K => 0.25,
        GgmlType::Q5_K => 0.13,
        GgmlType::Q6_K => 0.06,
        GgmlType::IQ4_NL => 0.25,
        GgmlType::IQ4_XS => 0.25,
        GgmlType::IQ3_S => 0.5,
        GgmlType::IQ2_S => 1.0,
        // Where the signs of eight values have to be even, one may change.
        GgmlType::IQ3_XXS | GgmlType::IQ2_XXS | GgmlType::IQ2_XS => 1.5,
        GgmlType::IQ1_S | GgmlType::IQ1_M => 1.5,
        // Three values, of which one is the largest magnitude: half of that.
        GgmlType::TQ1_0 | GgmlType::TQ2_0 | GgmlType::Q2_0 => 0.5,
        // A mean for all: the largest may be far above it.
        GgmlType::Q1_0 => 1.0,
        // Six where the magnitude is up to eight, as multiples of the scale.
        GgmlType::MXFP4 => 0.25,
        _ => panic!("{ty} has no bound yet"),
    }
}

/// What rounding scales and minimums to half precision adds: 2⁻¹¹ of the value, or half a step of
/// the subnormals times the largest product of codes.
fn half_precision(ty: GgmlType, magnitude: f32) -> f32 {
    let codes = match ty {
        GgmlType::Q2_K => 15.0 * 4.0,
        GgmlType::Q3_K => 32.0 * 4.0,
        GgmlType::Q4_K => 63.0 * 16.0,
        GgmlType::Q5_K => 63.0 * 32.0,
        GgmlType::Q6_K => 128.0 * 32.0,
        GgmlType::IQ4_XS => 127.0 * 32.0,
        GgmlType::IQ3_XXS | GgmlType::IQ3_S => 31.0 * 15.0,
        GgmlType::IQ2_XXS | GgmlType::IQ2_XS | GgmlType::IQ2_S => 31.0 * 5.4,
        _ => 128.0,
    };
    magnitude * (2.0 / 2048.0) + codes * 2f32.powi(-25)
}

/// Rows of one super-block, of magnitudes whose scales fit half precision.
fn row() -> impl Strategy<Value = Vec<f32>> {
    let spread = prop::collection::vec(-1.0f32..1.0, 256);
    let sparse = prop::collection::vec(prop_oneof![5 => Just(0.0f32), 1 => -1.0f32..1.0], 256);
    let stepped = prop::collection::vec((-8i8..8).prop_map(f32::from), 256);
    let spiked = (prop::collection::vec(-0.01f32..0.01, 256), 0usize..256, -1.0f32..1.0).prop_map(
        |(mut row, at, spike)| {
            row[at] = spike;
            row
        },
    );
    let positive = prop::collection::vec(0.2f32..1.0, 256);
    (prop_oneof![3 => spread, 1 => sparse, 1 => stepped, 1 => spiked, 1 => positive], -12i32..12)
        .prop_map(|(row, exponent)| row.into_iter().map(|v| v * 2f32.powi(exponent)).collect())
}

fn magnitude(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// Σ w·(x − x̂)².
fn weighted_error(x: &[f32], restored: &[f32], weights: &[f32]) -> f64 {
    let squares = x.iter().zip(restored).map(|(a, b)| f64::from(a - b).powi(2));
    squares.zip(weights).map(|(square, w)| square * f64::from(*w)).sum()
}

/// The searches weigh by more than the importance alone, so a single row can lose by it, by a tenth now and then.
/// Rows of bell-shaped weights gain by it together.
#[test]
fn importance_helps_where_it_is_large() {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    // Points of a codebook stand for many values: ggml's searches for them weigh otherwise.
    let by_point = |ty: &GgmlType| WITH_IMPORTANCE.contains(ty) || *ty == GgmlType::IQ3_S;
    let mut errors: Vec<_> =
        quantized().filter(|ty| !by_point(ty)).map(|ty| (ty, 0.0, 0.0)).collect();
    for _ in 0..50 {
        let x: Vec<f32> = (0..512).map(|_| uniform() + uniform() + uniform()).collect();
        let importance: Vec<f32> =
            (0..512).map(|_| [0.01, 1.0, 20.0][((uniform() + 0.5) * 3.0) as usize]).collect();
        for (ty, with, without) in &mut errors {
            let weighted = round_trip(*ty, &x, Some(&importance));
            *with += weighted_error(&x, &weighted, &importance);
            *without += weighted_error(&x, &round_trip(*ty, &x, None), &importance);
        }
    }
    for (ty, with, without) in errors {
        assert!(with <= without, "{ty}: {with} with, {without} without");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(100)))]

    #[test]
    fn errors_are_bounded(x in row()) {
        for ty in quantized() {
            let restored = round_trip(ty, &x, None);
            let blocks = x.chunks(ty.block_len()).zip(restored.chunks(ty.block_len()));
            for (x, restored) in blocks {
                let largest = magnitude(x);
                // ggml misplaces what comes after a sub-block of zeros.
                let misplaced = x.chunks(32).any(|sub| magnitude(sub) == 0.0);
                if ty == GgmlType::IQ3_S && misplaced {
                    continue;
                }
                let bound = tolerance(ty) * largest * 1.0001 + half_precision(ty, largest);
                for (a, b) in x.iter().zip(restored) {
                    prop_assert!((a - b).abs() <= bound, "{ty}: {a} became {b}, bound {bound}");
                }
            }
        }
    }

    #[test]
    fn float_types_round_to_nearest(x in row()) {
        for (ty, bits) in FLOATS.into_iter().zip([f32::INFINITY, 2048.0, 256.0]) {
            for (a, b) in x.iter().zip(round_trip(ty, &x, None)) {
                prop_assert!((a - b).abs() <= a.abs() / bits + 2f32.powi(-25), "{ty}: {a} {b}");
            }
        }
    }

    /// Where a block holds the value that its scale was taken from, quantizing again changes
    /// nothing, unless the scale is a subnormal half. The searches of the K-quants give no such
    /// promise.
    #[test]
    fn quantizing_again_changes_nothing(x in row()) {
        for ty in [GgmlType::Q4_0, GgmlType::Q5_0, GgmlType::Q8_0].into_iter().chain(FLOATS) {
            for x in x.chunks(32).filter(|x| magnitude(x) > 128.0 * 2f32.powi(-14)) {
                let once = quantize(ty, x, 32, None).unwrap();
                let restored = round_trip(ty, x, None);
                prop_assert_eq!(&once, &quantize(ty, &restored, 32, None).unwrap(), "{}", ty);
            }
        }
    }

    #[test]
    fn blocks_do_not_depend_on_their_neighbours(
        rows in prop::collection::vec(row(), 3),
        importance in prop::collection::vec(0.0f32..4.0, 256),
    ) {
        let (a, b, c) = (&rows[0], &rows[1], &rows[2]);
        let joined = [&a[..], b, c].concat();
        let turned = [&c[..], a, b].concat();
        for ty in quantized() {
            let joined = quantize(ty, &joined, 768, None).unwrap();
            let turned = quantize(ty, &turned, 768, None).unwrap();
            let (front, back) = joined.split_at(joined.len() / 3 * 2);
            prop_assert_eq!([back, front].concat(), turned, "{}", ty);
        }
        for ty in quantized().filter(|ty| !BY_ROW.contains(ty)) {
            let weights = importance.repeat(3);
            let joined = quantize(ty, &joined, 768, Some(&weights)).unwrap();
            let turned = quantize(ty, &turned, 768, Some(&weights)).unwrap();
            let (front, back) = joined.split_at(joined.len() / 3 * 2);
            prop_assert_eq!([back, front].concat(), turned, "{} with importance", ty);
        }
    }

    #[test]
    fn what_is_not_finite_is_refused(
        x in row(),
        at in 0usize..256,
        bad in prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
    ) {
        let mut broken = x.clone();
        broken[at] = bad;
        for ty in quantized().chain(FLOATS) {
            let error = quantize(ty, &broken, 256, None).unwrap_err();
            prop_assert!(is_non_finite_at(&error, at), "{}", error);
            let error = quantize(ty, &x, 256, Some(&broken)).unwrap_err();
            prop_assert!(is_non_finite_at(&error, at), "{}", error);
        }
    }

    /// Any bits are finite or not, but never a panic: importance and values of any magnitude.
    #[test]
    fn no_finite_input_panics(
        x in prop::collection::vec(prop::num::f32::ANY, 512),
        importance in prop::collection::vec(prop::num::f32::ANY, 256),
    ) {
        let clean = |v: Vec<f32>| -> Vec<f32> {
            v.into_iter().map(|v| if v.is_finite() { v } else { 0.0 }).collect()
        };
        let (x, importance) = (clean(x), clean(importance));
        for ty in quantized().chain(FLOATS) {
            let mut restored = [0.0; 512];
            let mut bytes = vec![0; usize::try_from(ty.row_bytes(512).unwrap()).unwrap()];
            let rows = Rows { values: &x, row_len: 256, importance: Some(&importance) };
            quantize_unchecked(Scalar, ty, rows, &mut bytes).unwrap();
            dequantize(ty, &bytes, &mut restored).unwrap();
            // What is not refused is finite.
            let importance: Vec<_> = importance.iter().map(|w| w.abs()).collect();
            match quantize(ty, &x, 256, Some(&importance)) {
                Err(Error::Overflow { .. }) => {}
                result => {
                    dequantize(ty, &result.unwrap(), &mut restored).unwrap();
                    prop_assert!(restored.iter().all(|v| v.is_finite()), "{ty}");
                }
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 292)) {
        for &ty in GgmlType::ALL.iter().filter(|ty| can_dequantize(**ty)) {
            let mut out = vec![0.0; ty.block_len()];
            dequantize(ty, &bytes[..ty.block_bytes()], &mut out).unwrap();
        }
    }
}

/// ggml gives no room to sub-blocks of zeros in IQ3_S: what comes after one takes its place, but for the
/// highest bits of indices.
#[test]
fn sub_blocks_after_zeros_move_up_in_iq3_s_as_in_ggml() {
    let mut x: Vec<f32> = (0..256).map(|i| (i as f32 * 0.37).sin()).collect();
    let whole = quantize(GgmlType::IQ3_S, &x, 256, None).unwrap();
    x[64..96].fill(0.0);
    let moved = quantize(GgmlType::IQ3_S, &x, 256, None).unwrap();
    let (points, high, signs) = (2..66, 66..74, 74..106);
    let without = |bytes: &[u8], len: usize| [&bytes[..2 * len], &bytes[3 * len..]].concat();
    assert_eq!(moved[points.clone()][..56], without(&whole[points], 8));
    assert_eq!(moved[signs.clone()][..28], without(&whole[signs], 4));
    assert_eq!(moved[high.clone()][3..], whole[high][3..]);
    assert_eq!(moved[..2], whole[..2]);
}

/// Over many rows importance lessens the weighted error of the codebook types.
#[test]
fn importance_helps_codebooks_on_the_whole() {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let columns = 8192;
    let x: Vec<f32> = (0..columns).map(|_| uniform() + uniform() + uniform() - 1.5).collect();
    let importance: Vec<f32> =
        (0..columns).map(|_| [0.01, 1.0, 20.0][(uniform() * 3.0) as usize]).collect();
    let ones = vec![1.0; columns];
    // IQ2_XXS looks around a scale that was fitted without the codebook, and can lose by that.
    let wins = |ty: &GgmlType| *ty != GgmlType::IQ2_XXS;
    for ty in WITH_IMPORTANCE.into_iter().chain([GgmlType::IQ3_S]).filter(wins) {
        let alike = weighted_error(&x, &round_trip(ty, &x, Some(&ones)), &importance);
        let weighted = weighted_error(&x, &round_trip(ty, &x, Some(&importance)), &importance);
        println!("{ty}: {weighted:.1} with, {alike:.1} without");
        assert!(weighted < alike * 0.95, "{ty}: {weighted} with, {alike} without");
    }
}

#[test]
fn zero_and_subnormal_rows_stay_small() {
    for ty in quantized() {
        assert_eq!(round_trip(ty, &[0.0; 256], None), [0.0; 256], "{ty}");
        assert_eq!(round_trip(ty, &[0.0; 256], Some(&[0.0; 256])), [0.0; 256], "{ty}");
        for tiny in [f32::from_bits(1), f32::MIN_POSITIVE, -1e-30] {
            let restored = round_trip(ty, &[tiny; 256], None);
            assert!(restored.iter().all(|v| v.abs() < 1e-6), "{ty} {tiny}: {}", restored[0]);
        }
    }
}

/// 1e30 was Ok and came back infinite.
#[test]
fn what_overflows_a_type_is_refused() {
    let overflows = |ty: GgmlType, x: &[f32], importance: Option<&[f32]>| match quantize(
        ty, x, 256, importance,
    ) {
        Err(Error::Overflow { what, ty: of, index, value }) if of == ty => {
            Some((what, index, value))
        }
        Ok(_) => None,
        other => panic!("{ty}: {other:?}"),
    };
    for ty in quantized().chain([GgmlType::F16, GgmlType::BF16]) {
        // BF16 has the range of F32, but for what rounds up, and so do powers of two.
        for large in [1e30, -1e30, 3.4e38, f32::MAX] {
            let mut x = [0.5; 512];
            (x[299], x[300]) = (large / 4.0, large);
            let expected = match ty {
                GgmlType::MXFP4 => None,
                GgmlType::BF16 if large.abs() < 3.38e38 => None,
                _ => Some(("the row data", 300, large)),
            };
            assert_eq!(overflows(ty, &x, None), expected, "{ty} {large}");
            assert_eq!(overflows(ty, &x, Some(&[1.0; 256])), expected, "{ty} {large}");
        }
        // The neighbours: large values that fit, and nothing is too large for F32.
        assert_eq!(overflows(ty, &[60_000.0; 256], None), None, "{ty}");
        assert_eq!(overflows(GgmlType::F32, &[f32::MAX; 256], None), None);
    }
    let error = quantize(GgmlType::Q8_0, &[1e30; 32], 32, None).unwrap_err().to_string();
    assert!(error.contains("holds 1e30 at index 0, too large for Q8_0"), "{error}");
}

#[test]
fn importance_is_finite_moderate_and_not_negative() {
    let x: Vec<f32> = (0..512).map(|i| (i as f32 * 0.37).sin()).collect();
    for ty in quantized().chain(FLOATS) {
        let mut importance = [1.0; 256];
        importance[7] = -1.0;
        assert_eq!(
            quantize(ty, &x, 256, Some(&importance)),
            Err(Error::Negative { what: "the importance", index: 7, value: -1.0 }),
            "{ty}"
        );
        importance[7] = f32::NAN;
        let error = quantize(ty, &x, 256, Some(&importance)).unwrap_err();
        assert!(is_non_finite_at(&error, 7), "{ty}: {error}");
        // Zero, whatever its sign, is no importance.
        for zero in [0.0, -0.0] {
            importance[7] = zero;
            assert!(quantize(ty, &x, 256, Some(&importance)).is_ok(), "{ty}");
        }
    }
    // Sums that it makes infinite are its fault, not that of the values.
    let mut importance = [1.0; 256];
    importance[40] = 3e38;
    let mut blamed = 0;
    for ty in quantized() {
        match quantize(ty, &x, 256, Some(&importance)) {
            Ok(bytes) => {
                let mut restored = [0.0; 512];
                dequantize(ty, &bytes, &mut restored).unwrap();
                assert!(restored.iter().all(|v| v.is_finite()), "{ty}");
            }
            Err(error) => {
                let expected =
                    Error::Overflow { what: "the importance", ty, index: 40, value: 3e38 };
                assert_eq!(error, expected);
                blamed += 1;
            }
        }
    }
    println!("{blamed} types are not finite with an importance of 3e38");
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let row = [0.5; 512];
    assert!(matches!(
        quantize(GgmlType::Q4_K, &row, 128, None),
        Err(Error::RowLength { elements: 128, .. })
    ));
    assert!(matches!(quantize(GgmlType::Q4_K, &row[..500], 256, None), Err(Error::Length { .. })));
    assert!(matches!(quantize(GgmlType::Q8_0, &row, 0, None), Err(Error::Length { .. })));
    assert!(matches!(
        quantize(GgmlType::Q4_0, &row, 256, Some(&row)),
        Err(Error::Length { found: 512, expected: 256, .. })
    ));
    assert!(quantize(GgmlType::Q4_0, &row, 256, Some(&row[..256])).is_ok());
    assert!(matches!(
        dequantize(GgmlType::Q6_K, &[0; 209], &mut [0.0; 256]),
        Err(Error::Length { found: 209, expected: 210, .. })
    ));
    assert!(matches!(
        quantize(GgmlType::NVFP4, &row, 256, None),
        Err(Error::Unsupported { ty: GgmlType::NVFP4, .. })
    ));
}

#[test]
fn types_that_need_importance_refuse_without_it() {
    let row: Vec<f32> = (0..256).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut needy = Vec::new();
    for ty in quantized() {
        match quant_core::quantize(ty, &row, 256, None) {
            Err(error) => {
                assert_eq!(error, Error::ImportanceNeeded { ty });
                needy.push(ty.name());
            }
            Ok(_) => assert!(importance_use(ty) != Some(Importance::Needed), "{ty}"),
        }
        assert!(quant_core::quantize(ty, &row, 256, Some(&[1.0; 256])).is_ok(), "{ty}");
    }
    assert_eq!(needy, ["IQ2_XXS", "IQ2_XS", "IQ1_S"]);
}

/// More bits, less error, on every weight matrix of a trained model.
#[test]
fn error_falls_with_bits_per_weight_on_trained_weights() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/tiny-phi2/model.safetensors");
    let file = std::fs::read(path).unwrap();
    let model = safetensors::SafeTensors::deserialize(&file).unwrap();
    let matrices: Vec<_> = model.iter().filter(|(_, t)| t.shape().len() == 2).collect();
    assert!(matrices.len() >= 10);
    let mut table = String::from("type  bits per weight  relative RMSE  SNR dB\n");
    // Q1_0 weighs all alike, the others of two bits or less take the largest for their scale: they are
    // for weights that were trained to fit.
    let family_of = |ty: GgmlType| match (ty.name(), ty) {
        (name, _) if name.ends_with("_K") => 1,
        (name, _) if name.starts_with("IQ") => 2,
        (_, GgmlType::Q1_0) => 3,
        (_, GgmlType::TQ1_0 | GgmlType::TQ2_0 | GgmlType::Q2_0) => 4,
        _ => 0,
    };
    for number in 0..5 {
        let mut family: Vec<_> = quantized().filter(|ty| family_of(*ty) == number).collect();
        family.sort_by(|a, b| a.bits_per_weight().total_cmp(&b.bits_per_weight()));
        let mut last = f64::INFINITY;
        for ty in family {
            let mut metrics = Metrics::default();
            for (_, tensor) in &matrices {
                let mut x = vec![0.0; tensor.data().len() / 2];
                dequantize(GgmlType::F16, tensor.data(), &mut x).unwrap();
                // Codebook types are compared with the same importance for all.
                let ones = vec![1.0; x.len()];
                let importance = (number == 2).then_some(&ones[..]);
                metrics.add(&x, &round_trip(ty, &x, importance)).unwrap();
            }
            let relative = metrics.relative_rmse();
            table += &format!(
                "{ty:5} {:15.4} {relative:14.5} {:7.2}\n",
                ty.bits_per_weight(),
                metrics.snr_db()
            );
            let better = relative < last || number == 4;
            assert!(better, "{ty} is no better than the type before it\n{table}");
            last = relative;
        }
    }
    println!("{table}");
}

fn is_non_finite_at(error: &Error, at: usize) -> bool {
    matches!(error, Error::NonFinite { index, .. } if *index == at)
}
