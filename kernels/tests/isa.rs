//! Every instruction set this CPU has gives the bytes and values of the scalar code.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use proptest::prelude::*;
use quant_core::{
    BlockFloat, Error, GgmlType, QTensor, can_improve,
    formats::{Importance, Rows},
    grouped::{Grouped, GroupedType, Job, Refinement, ScaleType},
    importance_use,
};
use quant_kernels::{Isa, Kernels};
use testkit::{Golden, floats, quantizable};

fn quantize(kernels: Kernels, ty: GgmlType, rows: Rows<'_>) -> Vec<u8> {
    let bytes = ty.row_bytes(rows.values.len() as u64).unwrap();
    let mut out = vec![0xa5; bytes as usize];
    kernels.quantize_unchecked(ty, rows, &mut out).unwrap();
    out
}

/// The place of the first difference, for messages that fit a terminal.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}

#[test]
fn golden_rows_are_equal_on_every_isa() {
    let golden = Golden::rows();
    let golden = golden.tensors();
    let floats = |name: &str| floats(golden.tensor(name).unwrap().data());
    let (x, importance) = (floats("x"), floats("importance"));
    let mut problems = Vec::new();
    for kernels in Kernels::supported() {
        for ty in quantizable() {
            for (kind, importance) in [("plain", None), ("imatrix", Some(&importance[..]))] {
                let kind = match importance_use(ty).unwrap() {
                    Importance::Ignored => "plain",
                    Importance::Needed if importance.is_none() => continue,
                    _ => kind,
                };
                let rows = Rows { values: &x, row_len: 1024, importance };
                let found = quantize(kernels, ty, rows);
                let expected = golden.tensor(&format!("{ty}.{kind}")).unwrap();
                if let Some(at) = first_difference(&found, expected.data()) {
                    problems.push(format!("{} {ty}.{kind}: byte {at}", kernels.isa().name()));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The instruction sets that have lanes of their own, scalar code first. The others add products to those of one
/// of these and run the same code on lanes: that they do is seen from golden rows, which all of them quantize.
fn with_own_lanes() -> impl Iterator<Item = Kernels> {
    let shared = [Isa::AvxVnni, Isa::Avx512Vnni, Isa::NeonDot, Isa::NeonI8mm];
    Kernels::supported().filter(move |kernels| !shared.contains(&kernels.isa()))
}

/// Values of many kinds: ties, zeros, subnormals, huge and tiny magnitudes, outliers.
fn values(len: usize) -> impl Strategy<Value = Vec<f32>> {
    let normal = || prop::collection::vec(-1.0f32..1.0, len);
    prop_oneof![
        4 => normal(),
        1 => prop::collection::vec(prop::num::f32::NORMAL, len),
        1 => prop::collection::vec(prop::num::f32::SUBNORMAL | prop::num::f32::ZERO, len),
        1 => prop::collection::vec((-4i8..=4).prop_map(|v| f32::from(v) / 4.0), len),
        1 => prop::collection::vec(prop::bool::weighted(0.9), len)
            .prop_map(|v| v.into_iter().map(|zero| if zero { 0.0 } else { 1.5 }).collect()),
        1 => (normal(), -38i32..38).prop_map(|(v, exponent)| {
            v.into_iter().map(|v| v * 10f32.powi(exponent)).collect()
        }),
        1 => (normal(), 0..len).prop_map(|(mut v, at)| {
            v[at] = 1e4;
            v
        }),
        1 => (-1.0f32..1.0).prop_map(move |v| vec![v; len]),
        1 => normal().prop_map(|v| v.into_iter().map(|v| v.abs() + 0.5).collect()),
        1 => normal().prop_map(|v| v.into_iter().map(|v| -v.abs()).collect()),
    ]
}

fn rows() -> impl Strategy<Value = (Vec<f32>, usize)> {
    (1usize..=4, 1usize..=9).prop_flat_map(|(superblocks, rows)| {
        let row_len = superblocks * 256;
        let row = values(row_len);
        prop::collection::vec(row, rows).prop_map(move |rows| (rows.concat(), row_len))
    })
}

fn importance(len: usize) -> impl Strategy<Value = Option<Vec<f32>>> {
    prop_oneof![
        1 => Just(None),
        2 => prop::collection::vec(0.0f32..10.0, len).prop_map(Some),
        1 => prop::collection::vec(prop_oneof![Just(0.0f32), 0.0f32..1e-3], len).prop_map(Some),
        1 => prop::collection::vec(0.0f32..1e8, len).prop_map(Some),
    ]
}

/// IEEE 754 leaves open which sign a result has that is no number: x86 and Arm differ. Such scales get none.
fn clear_signs_of_nans(ty: GgmlType, blocks: &mut [u8]) {
    for block in blocks.chunks_exact_mut(ty.block_bytes()) {
        for float in ty.floats() {
            if let BlockFloat::Half(at) = *float
                && float.value(block).is_nan()
            {
                block[at + 1] &= 0x7f;
            }
        }
    }
}

/// Checksums (FNV-1a) of what ggml makes of the rows below with their importance, and the exponents at which
/// it makes nothing but stops, since no error of a point is a number. Signs of NaNs are cleared.
const MAGNITUDES: &[(GgmlType, u64, std::ops::Range<i32>)] = &[
    (GgmlType::Q4_0, 0x2af8_625b_654d_3050, 0..0),
    (GgmlType::Q4_1, 0xd9bd_597c_43d6_a1b3, 0..0),
    (GgmlType::Q5_0, 0xada4_2a39_61f5_1029, 0..0),
    (GgmlType::Q5_1, 0x1d7b_8c04_d17c_f7cb, 0..0),
    (GgmlType::Q8_0, 0x554e_1353_2794_5517, 0..0),
    (GgmlType::Q2_K, 0x1980_704c_0fd4_b73d, 0..0),
    (GgmlType::Q3_K, 0xcc25_63f8_6bad_fba2, 0..0),
    (GgmlType::Q4_K, 0xd8c3_48ac_2767_2089, 0..0),
    (GgmlType::Q5_K, 0x4095_857f_7ada_506a, 0..0),
    (GgmlType::Q6_K, 0x951f_1893_e191_cfd0, 0..0),
    (GgmlType::IQ1_S, 0xf289_52bf_c79e_fa9e, 0..0),
    (GgmlType::IQ1_M, 0x59d9_cf4a_6b92_f8a1, 0..0),
    (GgmlType::IQ2_XXS, 0x3266_5cb8_3d5b_bfe9, 51..60),
    (GgmlType::IQ2_XS, 0x5278_b09b_d8db_571e, 52..128),
    (GgmlType::IQ2_S, 0xd744_ac74_c034_2384, 51..128),
    (GgmlType::IQ3_XXS, 0x5a58_77d9_5deb_6b03, 51..128),
    (GgmlType::IQ3_S, 0x6bf5_9902_8f5e_bda8, 53..128),
    (GgmlType::IQ4_NL, 0xe780_65aa_ad37_6b45, 0..0),
    (GgmlType::IQ4_XS, 0x956e_15a6_4a85_5271, 0..0),
    (GgmlType::TQ1_0, 0x0877_4478_79e2_ba23, 0..0),
    (GgmlType::TQ2_0, 0xfa9b_a7fb_6799_a4a7, 0..0),
    (GgmlType::MXFP4, 0x6b0c_dcf6_0227_9224, 0..0),
    (GgmlType::Q1_0, 0xbf5f_7c4c_6c21_7148, 0..0),
    (GgmlType::Q2_0, 0x80af_ccb3_002a_d59c, 0..0),
];

/// Products of the largest values are infinite and sums of them no numbers, those of the smallest are subnormal
/// or zero: the order of operations shows, and what a search may conclude from either must not depend on
/// how many lanes look at once.
#[test]
fn every_magnitude_gives_ggmls_bytes_on_every_isa() {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let scalar = Kernels::supported().next().unwrap();
    let mut sums: Vec<u64> = quantizable().map(|_| 0xcbf2_9ce4_8422_2325).collect();
    let row = |ty| MAGNITUDES.iter().find(|row| row.0 == ty).unwrap();
    for exponent in -149i32..=127 {
        let unit = 2f64.powi(exponent) as f32;
        let values: Vec<f32> = (0..256).map(|_| (uniform() * 4.0 - 2.0) * unit).collect();
        let importance: Vec<f32> = (0..256).map(|_| (uniform() * 2.0 - 1.0).max(0.0)).collect();
        for importance in [None, Some(&importance[..])] {
            let rows = Rows { values: &values, row_len: 256, importance };
            for (ty, sum) in quantizable().zip(&mut sums) {
                let mut expected = quantize(scalar, ty, rows);
                for kernels in Kernels::supported().skip(1) {
                    let difference = first_difference(&quantize(kernels, ty, rows), &expected);
                    let isa = kernels.isa().name();
                    assert_eq!(difference, None, "{isa} {ty}, values up to 2^({exponent} + 1)");
                }
                if importance.is_some() && !row(ty).2.contains(&exponent) {
                    clear_signs_of_nans(ty, &mut expected);
                    for byte in expected {
                        *sum = (*sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                    }
                }
            }
        }
    }
    for (ty, sum) in quantizable().zip(sums) {
        assert_eq!(sum, row(ty).1, "{ty}: {sum:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(200)))]

    #[test]
    fn every_isa_gives_the_scalar_bytes(
        ((values, row_len), importance) in rows().prop_flat_map(|(values, row_len)| {
            (Just((values, row_len)), importance(row_len))
        })
    ) {
        let scalar = Kernels::supported().next().unwrap();
        let rows = Rows { values: &values, row_len, importance: importance.as_deref() };
        let floats = [GgmlType::F32, GgmlType::F16, GgmlType::BF16];
        for ty in quantizable().chain(floats) {
            let expected = quantize(scalar, ty, rows);
            let mut restored = vec![0.0; values.len()];
            scalar.dequantize_into(ty, &expected, &mut restored).unwrap();
            let improved = can_improve(ty).then(|| {
                let mut blocks = expected.clone();
                quant_core::improve(ty, rows, &mut blocks).unwrap();
                blocks
            });
            for kernels in with_own_lanes().skip(1) {
                let found = quantize(kernels, ty, rows);
                let difference = first_difference(&found, &expected);
                prop_assert_eq!(difference, None, "{} {}", kernels.isa().name(), ty);
                if let Some(improved) = &improved {
                    let mut blocks = expected.clone();
                    kernels.improve(ty, rows, &mut blocks).unwrap();
                    let difference = first_difference(&blocks, improved);
                    prop_assert_eq!(difference, None, "{} {}, improved", kernels.isa().name(), ty);
                }
                let mut found = vec![0.0; values.len()];
                kernels.dequantize_into(ty, &expected, &mut found).unwrap();
                for (i, (a, b)) in found.iter().zip(&restored).enumerate() {
                    // A scale that overflows half precision restores NaNs, whose bits may differ.
                    let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                    prop_assert!(same, "{} {ty} value {i}: {a} {b}", kernels.isa().name());
                }
            }
        }
    }

    #[test]
    fn widening_finds_what_is_not_finite(
        bits in prop::collection::vec(any::<u16>(), 1..100),
        ty in prop_oneof![Just(GgmlType::F16), Just(GgmlType::BF16)],
    ) {
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let mut expected = vec![0.0; bits.len()];
        quant_core::dequantize(ty, &bytes, &mut expected).unwrap();
        for kernels in with_own_lanes() {
            let mut found = vec![0.0; bits.len()];
            let largest = kernels.widen(ty, &bytes, &mut found).unwrap();
            if expected.iter().all(|v| v.is_finite()) {
                let magnitudes = expected.iter().map(|v| v.abs());
                prop_assert_eq!(largest, magnitudes.fold(0.0, f32::max));
            } else {
                prop_assert!(!largest.is_finite());
            }
            for (a, b) in found.iter().zip(&expected) {
                prop_assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
            }
        }
    }
}

fn group_values() -> impl Strategy<Value = (Vec<f32>, usize)> {
    // Long groups go another way.
    let sizes = prop_oneof![3 => (1usize..150, 1usize..40), 1 => (500usize..700, 1usize..4)];
    sizes.prop_flat_map(|(group_len, groups)| {
        let group = values(group_len);
        prop::collection::vec(group, groups).prop_map(move |groups| (groups.concat(), group_len))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(200)))]

    #[test]
    fn every_isa_gives_the_scalar_groups((values, group_len) in group_values(), refine in any::<bool>()) {
        let refinement = refine.then_some(Refinement { importance: None, stored: ScaleType::Bf16 });
        for &ty in GroupedType::ALL {
            let job = Job { ty, values: &values, group_len, refinement };
            let results = with_own_lanes().map(|kernels| {
                let mut out = Grouped::default();
                out.resize(values.len(), group_len);
                kernels.quantize_groups(job, out.view_mut()).unwrap();
                let scales: Vec<_> = out.scales.iter().map(|s| s.to_bits()).collect();
                (kernels.isa(), out.codes, scales, out.zero_points)
            });
            let results: Vec<_> = results.collect();
            for (isa, codes, scales, zero_points) in &results {
                prop_assert!(codes == &results[0].1, "{} {ty}: codes", isa.name());
                prop_assert!(scales == &results[0].2, "{} {ty}: scales", isa.name());
                prop_assert!(zero_points == &results[0].3, "{} {ty}: zero points", isa.name());
            }
        }
    }
}

#[test]
fn tensors_get_the_same_checks_on_every_isa() {
    let values: Vec<f32> = (0..1024).map(|i| (i as f32 * 0.37).sin()).collect();
    let importance = vec![1.5; 256];
    let mut large = values.clone();
    large[700] = 1e30;
    for kernels in Kernels::supported() {
        for ty in quantizable() {
            let name = kernels.isa().name();
            let expected = QTensor::quantize(ty, &[4, 256], &values);
            assert_eq!(kernels.quantize(ty, &[4, 256], &values), expected, "{name} {ty}");
            let tensor = kernels.quantize_weighted(ty, &[4, 256], &values, &importance).unwrap();
            let expected = QTensor::quantize_weighted(ty, &[4, 256], &values, &importance);
            assert_eq!(Ok(&tensor), expected.as_ref(), "{name} {ty}");
            assert_eq!(kernels.dequantize(&tensor), tensor.dequantize(), "{name} {ty}");
            // Its scales are powers of two of any size.
            if ty != GgmlType::MXFP4 {
                let large = kernels.quantize_weighted(ty, &[4, 256], &large, &importance);
                let overflows = matches!(large, Err(Error::Overflow { index: 700, .. }));
                assert!(overflows, "{name} {ty}: {large:?}");
            }
            assert!(kernels.quantize(ty, &[3, 256], &values).is_err(), "{name} {ty}");
        }
    }
}
