//! Products with grouped four-bit integers against double precision, on every instruction set.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its matrices has failed")]

use std::num::NonZeroUsize;

use proptest::prelude::*;
use quant_core::{
    Error, GgmlType,
    grouped::{GroupedType, Job, ScaleType, pack},
};
use quant_kernels::{GroupedInt4, Input, Kernels, MatrixError, Output, PackedMatrix, Pool, Serial};

/// Rounding in single precision, relative to the largest code, scale and activation of a group.
const ROUNDING: f64 = 2e-6;

/// 127 / f32::MAX, rounded up: a group of smaller activations counts as zero.
const TINY: f64 = 3.733e-37;

#[derive(Clone, Debug)]
struct Case {
    group_len: usize,
    experts: usize,
    rows: usize,
    groups: usize,
    n: usize,
    bfloat16: bool,
    zero_points: bool,
    x_scale: f32,
    seed: u64,
}

/// Pseudo-random bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }
    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
    fn unit(&mut self) -> f32 {
        (self.next() & 0xffff) as f32 / 32768.0 - 1.0
    }
}

struct Weights {
    codes: Vec<u8>,
    scales: Vec<u8>,
    zero_points: Vec<u8>,
    /// Scale and zero point of every group, as numbers.
    numbers: Vec<(f64, f64)>,
}

fn weights(case: &Case, random: &mut Random) -> Weights {
    let groups = case.experts * case.rows * case.groups;
    let mut out = Weights {
        codes: (0..groups * case.group_len / 2).map(|_| random.byte()).collect(),
        scales: Vec::new(),
        zero_points: Vec::new(),
        numbers: Vec::new(),
    };
    for _ in 0..groups {
        let scale = random.unit() * 0.05;
        let ty = if case.bfloat16 { GgmlType::BF16 } else { GgmlType::F16 };
        let mut bytes = [0; 2];
        Kernels::best().narrow(ty, &[scale], &mut bytes).unwrap();
        let mut rounded = [0.0];
        Kernels::best().widen(ty, &bytes, &mut rounded).unwrap();
        let zero_point = if case.zero_points { random.byte() & 15 } else { 8 };
        out.scales.extend(bytes);
        out.zero_points.push(zero_point);
        out.numbers.push((rounded[0].into(), zero_point.into()));
    }
    out
}

impl Weights {
    fn of(&self, case: &Case) -> GroupedInt4<'_> {
        GroupedInt4 {
            group_len: case.group_len,
            codes: &self.codes,
            scales: &self.scales,
            scale_type: if case.bfloat16 { ScaleType::Bf16 } else { ScaleType::F16 },
            zero_points: case.zero_points.then_some(&self.zero_points[..]),
        }
    }

    /// The product with row `row` of all rows in double precision, and how far it may be missed.
    fn reference(&self, case: &Case, row: usize, x: &[f32]) -> (f64, f64) {
        let (mut product, mut tolerance) = (0.0, 1e-37);
        for (g, x) in x.chunks(case.group_len).enumerate() {
            let group = row * case.groups + g;
            let (scale, zero_point) = self.numbers[group];
            let largest = x.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
            let step = if largest < TINY { 1.0 } else { 1.001 / 254.0 };
            let codes = &self.codes[group * case.group_len / 2..][..case.group_len / 2];
            for (byte, x) in codes.iter().zip(x.chunks(2)) {
                for (code, x) in [byte & 15, byte >> 4].into_iter().zip(x) {
                    let w = (f64::from(code) - zero_point) * scale;
                    product += w * f64::from(*x);
                    tolerance += w.abs() * largest * step;
                }
            }
            tolerance += ROUNDING * 15.0 * scale.abs() * largest * case.group_len as f64;
        }
        (product, tolerance)
    }
}

fn check(case: &Case) -> Result<(), String> {
    let mut random = Random(case.seed | 1);
    let weights = weights(case, &mut random);
    let (rows, cols, n) = (case.rows, case.groups * case.group_len, case.n);
    let packed = PackedMatrix::pack_grouped(case.experts, rows, cols, weights.of(case)).unwrap();
    let unpacked = packed.unpack_grouped().unwrap();
    if unpacked.codes != weights.codes || unpacked.scales != weights.scales {
        return Err("does not unpack to what was packed".to_owned());
    }
    let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
    let shared =
        PackedMatrix::pack_grouped_with(&pool, case.experts, rows, cols, weights.of(case)).unwrap();
    if shared.unpack_with(&pool).unwrap() != packed.unpack() {
        return Err("threads pack something else".to_owned());
    }
    if unpacked.zero_points != case.zero_points.then(|| weights.zero_points.clone()) {
        return Err("does not unpack to the zero points that were packed".to_owned());
    }
    let mut x: Vec<f32> = (0..n * cols).map(|_| random.unit() * case.x_scale).collect();
    if let Some(first) = x.first_mut() {
        *first *= 100.0;
    }
    let ids: Vec<u32> = (0..n).map(|_| (random.next() % case.experts as u64) as u32).collect();
    for kernels in Kernels::supported() {
        let mut y = vec![-77.0; n * rows];
        let input = Input { values: &x, n, stride: cols };
        let output = Output { values: &mut y, stride: rows };
        if case.experts == 1 {
            packed.matmul(kernels, &Serial, input, output).unwrap();
        } else {
            packed.matmul_experts(kernels, &Serial, input, &ids, 1, output).unwrap();
        }
        for (i, &found) in y.iter().enumerate() {
            let (column, row) = (i / rows, i % rows);
            let row = ids[column] as usize * rows + row;
            let x = &x[column * cols..][..cols];
            let (product, tolerance) = weights.reference(case, row, x);
            if found.is_nan() || (f64::from(found) - product).abs() > tolerance {
                let isa = kernels.isa().name();
                return Err(format!(
                    "{isa} element {i}: {found}, expected {product} ± {tolerance}"
                ));
            }
        }
    }
    Ok(())
}

fn cases() -> impl Strategy<Value = Case> {
    (
        (prop_oneof![Just(32usize), Just(64), Just(128)], 1usize..4, any::<bool>(), any::<bool>()),
        prop_oneof![Just(1usize), 1usize..70],
        0usize..9,
        prop_oneof![1usize..10, 9usize..26],
        prop_oneof![3 => Just(1.0f32), 1 => Just(1e25f32), 1 => Just(1e-38f32)],
        any::<u32>(),
    )
        .prop_map(
            |((group_len, experts, bfloat16, zero_points), rows, groups, n, x_scale, seed)| {
                let seed = u64::from(seed) << 16;
                Case { group_len, experts, rows, groups, n, bfloat16, zero_points, x_scale, seed }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(100)))]

    #[test]
    fn products_are_near_double_precision(case in cases()) {
        if let Err(message) = check(&case) {
            prop_assert!(false, "{message}");
        }
    }
}

/// Integers below 2²⁴ throughout: nothing is rounded, all instruction sets must agree.
#[test]
fn integer_sums_are_exact_on_every_isa() {
    let (rows, cols) = (35, 384);
    let mut random = Random(77);
    for group_len in [32, 64, 128] {
        for zero_points in [false, true] {
            let codes: Vec<u8> = (0..rows * cols / 2).map(|_| random.byte()).collect();
            let scales = [0x00, 0x3c].repeat(rows * cols / group_len);
            let zero: Vec<u8> = (0..scales.len() / 2).map(|_| random.byte() & 15).collect();
            let packed = PackedMatrix::pack_grouped(
                1,
                rows,
                cols,
                GroupedInt4 {
                    group_len,
                    codes: &codes,
                    scales: &scales,
                    scale_type: ScaleType::F16,
                    zero_points: zero_points.then_some(&zero[..]),
                },
            )
            .unwrap();
            for n in [1, 3, 8, 17] {
                // The extremes make the scale one.
                let mut x: Vec<f32> =
                    (0..n * cols).map(|_| (random.unit() * 127.0).trunc()).collect();
                x.chunks_exact_mut(32).for_each(|x| x[7] = if x[0] < 0.0 { -127.0 } else { 127.0 });
                for kernels in Kernels::supported() {
                    let mut y = vec![0.0; n * rows];
                    let input = Input { values: &x, n, stride: cols };
                    let output = Output { values: &mut y, stride: rows };
                    packed.matmul(kernels, &Serial, input, output).unwrap();
                    for (i, found) in y.iter().enumerate() {
                        let (row, x) = (i % rows, &x[i / rows * cols..][..cols]);
                        let value = |k: usize| {
                            let at = row * cols + k;
                            let code = i64::from(codes[at / 2] >> (at % 2 * 4) & 15);
                            let zero = if zero_points { zero[at / group_len].into() } else { 8 };
                            (code - zero) * x[k] as i64
                        };
                        let expected: i64 = (0..cols).map(value).sum();
                        let isa = kernels.isa().name();
                        assert_eq!(*found as i64, expected, "{isa} {group_len} n {n} element {i}");
                    }
                }
            }
        }
    }
}

/// What `Kernels::quantize_groups` makes, multiplied.
#[test]
fn quantized_groups_are_multiplied() {
    let (rows, cols, group_len) = (20, 256, 64);
    let mut random = Random(5);
    let w: Vec<f32> = (0..rows * cols).map(|_| random.unit()).collect();
    let x: Vec<f32> = (0..cols).map(|_| random.unit()).collect();
    for ty in [GroupedType::Int4Sym, GroupedType::Int4Asym] {
        let mut groups = quant_core::grouped::Grouped::default();
        groups.resize(w.len(), group_len);
        let job = Job { ty, values: &w, group_len, refinement: None };
        let kernels = Kernels::best();
        kernels.quantize_groups(job, groups.view_mut()).unwrap();
        let mut codes = vec![0; w.len() / 2];
        pack::rows(4, &groups.codes, cols, &mut codes).unwrap();
        let mut scales = vec![0; groups.scales.len() * 2];
        kernels.narrow(GgmlType::F16, &groups.scales, &mut scales).unwrap();
        let scale_type = ScaleType::F16;
        let zero_points = (ty == GroupedType::Int4Asym).then_some(&groups.zero_points[..]);
        let weights =
            GroupedInt4 { group_len, codes: &codes, scales: &scales, scale_type, zero_points };
        let packed = PackedMatrix::pack_grouped(1, rows, cols, weights).unwrap();
        assert_eq!(packed.ggml_type(), None);
        let mut y = vec![0.0; rows];
        let input = Input { values: &x, n: 1, stride: cols };
        packed.matmul(kernels, &Serial, input, Output { values: &mut y, stride: rows }).unwrap();
        for (r, y) in y.iter().enumerate() {
            let exact: f32 = w[r * cols..][..cols].iter().zip(&x).map(|(w, x)| w * x).sum();
            assert!((y - exact).abs() < 1.5, "{ty} row {r}: {y}, {exact}");
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (codes, scales, zero_points) = ([0; 64], [0; 4], [0; 2]);
    let good = GroupedInt4 {
        group_len: 64,
        codes: &codes,
        scales: &scales,
        scale_type: ScaleType::F16,
        zero_points: Some(&zero_points),
    };
    let pack = |cols, weights| PackedMatrix::pack_grouped(1, 1, cols, weights);
    assert!(pack(128, good).is_ok());
    for group_len in [0, 16, 48, 256] {
        let found = pack(128, GroupedInt4 { group_len, ..good });
        assert!(matches!(found, Err(MatrixError::Groups { .. })));
    }
    let found = pack(128, GroupedInt4 { scale_type: ScaleType::F32, ..good });
    assert!(matches!(found, Err(MatrixError::Groups { .. })));
    let found = pack(96, good);
    assert!(matches!(found, Err(MatrixError::Format(Error::GroupLength { row: 96, group: 64 }))));
    for short in [
        GroupedInt4 { codes: &codes[1..], ..good },
        GroupedInt4 { scales: &scales[1..], ..good },
        GroupedInt4 { zero_points: Some(&zero_points[1..]), ..good },
    ] {
        let found = pack(128, short);
        assert!(matches!(found, Err(MatrixError::Format(Error::Length { .. }))));
    }
    let huge = PackedMatrix::pack_grouped(usize::MAX, usize::MAX, 128, good);
    assert_eq!(huge.unwrap_err(), MatrixError::TooLarge);
    let packed = PackedMatrix::pack(GgmlType::Q8_0, 1, 32, &[0; 34]).unwrap();
    assert_eq!(packed.unpack_grouped(), None);
}
