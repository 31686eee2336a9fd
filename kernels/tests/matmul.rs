//! Matrix products against double precision, on every instruction set and arbitrary shapes.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod common;

use common::TYPES;
use std::num::NonZeroUsize;

use proptest::prelude::*;
use quant_core::GgmlType;
use quant_kernels::{Input, Kernels, MatrixError, Output, PackedMatrix, Parallel, Pool, Serial};

/// Rounding in single precision, relative to the largest weight and activation of each block.
const ROUNDING: f64 = 2e-6;

/// 127 / f32::MAX, rounded up.
const TINY: f64 = 3.733e-37;

/// Bell-shaped values from a seed.
fn values(seed: u64, len: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..len).map(|_| (uniform() + uniform() + uniform() - 1.5) * scale).collect()
}

fn quantize(ty: GgmlType, values: &[f32], cols: usize) -> Vec<u8> {
    if values.is_empty() {
        return Vec::new();
    }
    quant_core::quantize(ty, values, cols, None).unwrap()
}

/// Elements that share a scale in the activations: 1 if they are not quantized.
fn activation_block(ty: GgmlType) -> usize {
    if ty.is_quantized() { ty.block_len() } else { 1 }
}

/// The product in double precision, and how far a result may be from it: half a step of the
/// quantized activations for each weight, and rounding.
fn reference(ty: GgmlType, w: &[f32], x: &[f32]) -> (f64, f64) {
    let block = activation_block(ty);
    let (mut product, mut tolerance) = (0.0, 1e-37);
    for (w, x) in w.chunks(block).zip(x.chunks(block)) {
        let largest = |v: &[f32]| v.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
        let total: f64 = w.iter().map(|w| f64::from(w.abs())).sum();
        if ty.is_quantized() {
            // A block whose inverse scale would overflow counts as zero.
            let step = if largest(x) < TINY { 1.0 } else { 1.001 / 254.0 };
            tolerance += total * largest(x) * step;
        }
        tolerance += ROUNDING * largest(w) * largest(x) * block as f64;
        for (w, x) in w.iter().zip(x) {
            product += f64::from(*w) * f64::from(*x);
        }
    }
    (product, tolerance)
}

#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    cols: usize,
    n: usize,
    x_gap: usize,
    y_gap: usize,
    w_scale: f32,
    x_scale: f32,
    seed: u64,
}

fn check(case: &Case, ty: GgmlType, kernels: Kernels, pool: &dyn Parallel) -> Result<(), String> {
    let Case { rows, n, .. } = *case;
    let cols = case.cols / ty.block_len() * ty.block_len();
    let mut w = values(case.seed, rows * cols, case.w_scale);
    let (x_stride, y_stride) = (cols + case.x_gap, rows + case.y_gap);
    let mut x = values(case.seed + 1, n * x_stride, case.x_scale);
    // A row of zeros on either side, and an outlier.
    if case.seed.is_multiple_of(3) && rows > 1 && n > 1 {
        w[..cols].fill(0.0);
        x[x_stride..][..cols].fill(0.0);
        if let Some(x) = x.get_mut(cols / 2) {
            *x *= 1000.0;
        }
    }
    let bytes = quantize(ty, &w, cols);
    let mut restored = vec![0.0; w.len()];
    quant_core::dequantize(ty, &bytes, &mut restored).unwrap();
    let packed = PackedMatrix::pack(ty, rows, cols, &bytes).unwrap();
    if packed.unpack() != bytes {
        return Err(format!("{ty} does not unpack to what was packed"));
    }
    let mut y = vec![-77.0; n * y_stride];
    let input = Input { values: &x, n, stride: x_stride };
    let output = Output { values: &mut y, stride: y_stride };
    packed.matmul(kernels, pool, input, output).unwrap();
    for i in 0..n {
        for r in 0..rows {
            let found = f64::from(y[i * y_stride + r]);
            let (product, tolerance) =
                reference(ty, &restored[r * cols..][..cols], &x[i * x_stride..][..cols]);
            if found.is_nan() || (found - product).abs() > tolerance {
                return Err(format!(
                    "{} {ty} row {r} column {i}: {found}, expected {product} ± {tolerance}",
                    kernels.isa().name()
                ));
            }
        }
        if y[i * y_stride + rows..][..case.y_gap].iter().any(|&v| v != -77.0) {
            return Err(format!("{ty} wrote between the rows of the output"));
        }
    }
    Ok(())
}

fn cases() -> impl Strategy<Value = Case> {
    let scale = || prop_oneof![3 => Just(1.0f32), 1 => Just(1e-3f32), 1 => Just(1e3f32)];
    let wide = prop_oneof![
        4 => Just(1.0f32),
        1 => Just(1e-25f32),
        1 => Just(1e25f32),
        1 => Just(1e-37f32),
        1 => Just(1e-41f32),
    ];
    (
        prop_oneof![Just(1usize), 1usize..80, 120usize..140],
        prop_oneof![1usize..40, 256usize..1400, Just(512usize)],
        prop_oneof![1usize..30, Just(1usize), 40usize..60],
        0usize..3,
        0usize..3,
        (scale(), wide),
        any::<u32>(),
    )
        .prop_map(|(rows, cols, n, x_gap, y_gap, (w_scale, x_scale), seed)| Case {
            rows,
            cols,
            n,
            x_gap,
            y_gap,
            w_scale,
            x_scale,
            seed: u64::from(seed),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn products_are_near_double_precision(case in cases()) {
        let pool = Pool::new(NonZeroUsize::new(3).unwrap()).unwrap();
        for kernels in Kernels::supported() {
            for ty in TYPES {
                if let Err(message) = check(&case, ty, kernels, &pool) {
                    prop_assert!(false, "{message}");
                }
            }
        }
    }
}

#[test]
fn every_number_of_columns() {
    for n in 0..=20 {
        let (rows, cols) = (37, 768);
        let case = Case { rows, cols, n, x_gap: 1, y_gap: 1, w_scale: 1.0, x_scale: 1.0, seed: 5 };
        for kernels in Kernels::supported() {
            for ty in TYPES {
                check(&case, ty, kernels, &Serial).unwrap();
            }
        }
    }
}

/// Where the half-precision fields of a block are.
fn halves(ty: GgmlType) -> &'static [usize] {
    match ty {
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4_K | GgmlType::Q5_K => &[0, 2],
        GgmlType::Q2_K => &[80, 82],
        GgmlType::Q3_K => &[108],
        GgmlType::Q6_K => &[208],
        _ => &[0],
    }
}

/// Blocks of any bytes with scales of one, and inputs that quantize to themselves: every number
/// is an integer below 2²⁴, so that nothing is rounded and all instruction sets must agree.
#[test]
fn integer_sums_are_exact_on_every_isa() {
    let (rows, cols) = (37, 512);
    for ty in TYPES.into_iter().filter(|ty| ty.is_quantized()) {
        let size = rows * cols / ty.block_len() * ty.block_bytes();
        let mut bytes: Vec<u8> =
            values(3, size, 1.0).iter().map(|v| (v.to_bits() >> 7) as u8).collect();
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            for &at in halves(ty) {
                block[at..][..2].copy_from_slice(&0x3c00u16.to_le_bytes());
            }
        }
        let mut w = vec![0.0; rows * cols];
        quant_core::dequantize(ty, &bytes, &mut w).unwrap();
        let packed = PackedMatrix::pack(ty, rows, cols, &bytes).unwrap();
        assert!(packed.unpack() == bytes, "{ty}");
        for n in [1, 2, 3, 4, 8, 9, 20] {
            let random = values(n as u64, n * cols, 1.0);
            let mut x = vec![0.0; n * cols];
            for (x, random) in x.chunks_exact_mut(32).zip(random.chunks_exact(32)) {
                x[(random[0].abs() * 21.0) as usize] = (random[1] * 80.0).trunc();
                x[(random[2].abs() * 21.0) as usize] = if random[3] < 0.0 { -127.0 } else { 127.0 };
            }
            for kernels in Kernels::supported() {
                let mut y = vec![0.0; n * rows];
                let input = Input { values: &x, n, stride: cols };
                let output = Output { values: &mut y, stride: rows };
                packed.matmul(kernels, &Serial, input, output).unwrap();
                for (i, found) in y.iter().enumerate() {
                    let (w, x) = (&w[i % rows * cols..][..cols], &x[i / rows * cols..][..cols]);
                    let products = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let expected: f64 = products.sum();
                    let isa = kernels.isa().name();
                    assert_eq!(f64::from(*found), expected, "{isa} {ty} n {n} element {i}");
                }
            }
        }
    }
}

#[test]
fn threads_do_not_change_the_result() {
    let (rows, cols, n) = (300, 512, 11);
    let bytes = quantize(GgmlType::Q4_K, &values(1, rows * cols, 1.0), cols);
    let packed = PackedMatrix::pack(GgmlType::Q4_K, rows, cols, &bytes).unwrap();
    let x = values(2, n * cols, 1.0);
    let product = |pool: &dyn Parallel| {
        let mut y = vec![0.0; n * rows];
        let x = Input { values: &x, n, stride: cols };
        packed.matmul(Kernels::best(), pool, x, Output { values: &mut y, stride: rows }).unwrap();
        y
    };
    let expected = product(&Serial);
    for threads in [1, 2, 3, 7] {
        let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
        for _ in 0..50 {
            assert!(product(&pool) == expected, "{threads} threads");
        }
    }
}

#[test]
fn experts_are_gathered() {
    let (experts, rows, cols, n, used) = (5, 20, 256, 13, 2);
    let w = values(1, experts * rows * cols, 1.0);
    let bytes = quantize(GgmlType::Q6_K, &w, cols);
    let packed = PackedMatrix::pack_experts(GgmlType::Q6_K, experts, rows, cols, &bytes).unwrap();
    assert!(packed.unpack() == bytes);
    let x = values(2, n * cols, 1.0);
    // Expert 4 is popular, expert 2 has no input.
    let ids: Vec<u32> = (0..n * used).map(|i| [4, 0, 4, 1, 3, 4][i % 6]).collect();
    for kernels in Kernels::supported() {
        let mut y = vec![0.0; n * used * rows];
        let input = Input { values: &x, n, stride: cols };
        let output = Output { values: &mut y, stride: rows };
        packed.matmul_experts(kernels, &Serial, input, &ids, used, output).unwrap();
        for (i, &id) in ids.iter().enumerate() {
            let one = &bytes[id as usize * bytes.len() / experts..][..bytes.len() / experts];
            let one = PackedMatrix::pack(GgmlType::Q6_K, rows, cols, one).unwrap();
            let mut expected = vec![0.0; rows];
            let input = Input { values: &x[i / used * cols..], n: 1, stride: cols };
            let output = Output { values: &mut expected, stride: rows };
            one.matmul(kernels, &Serial, input, output).unwrap();
            for (found, expected) in y[i * rows..][..rows].iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
        let input = Input { values: &x, n, stride: cols };
        let mut bad = ids.clone();
        bad[7] = 5;
        let output = Output { values: &mut y, stride: rows };
        let error = packed.matmul_experts(kernels, &Serial, input, &bad, used, output);
        assert_eq!(error, Err(MatrixError::Expert { index: 7, expert: 5, experts: 5 }));
        let output = Output { values: &mut y, stride: rows };
        let error = packed.matmul_experts(kernels, &Serial, input, &ids[1..], used, output);
        assert!(matches!(error, Err(MatrixError::Short { what: "ids", .. })));
        let output = Output { values: &mut y, stride: rows };
        let error = packed.matmul(kernels, &Serial, input, output);
        assert_eq!(error, Err(MatrixError::NeedsIds { experts: 5 }));
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let ty = GgmlType::Q4_K;
    let bytes = vec![0; 3 * 144];
    assert!(matches!(PackedMatrix::pack(ty, 3, 255, &bytes), Err(MatrixError::Format(_))));
    assert!(matches!(PackedMatrix::pack(ty, 4, 256, &bytes), Err(MatrixError::Format(_))));
    assert!(matches!(PackedMatrix::pack(ty, 3, 256, &bytes[1..]), Err(MatrixError::Format(_))));
    let huge = PackedMatrix::pack(ty, usize::MAX, usize::MAX & !255, &bytes);
    assert_eq!(huge.unwrap_err(), MatrixError::TooLarge);
    let other = PackedMatrix::pack(GgmlType::I32, 1, 1, &[0; 4]);
    assert!(matches!(other, Err(MatrixError::Format(_))));
    // Any row length fits no rows.
    assert!(PackedMatrix::pack(ty, usize::MAX, 0, &[]).is_ok());

    // No columns: the product is zero.
    for kernels in Kernels::supported() {
        for ty in TYPES {
            let packed = PackedMatrix::pack(ty, 20, 0, &[]).unwrap();
            for n in [1, 12] {
                let mut y = vec![7.0; n * 20];
                let x = Input { values: &[], n, stride: 0 };
                let y_out = Output { values: &mut y, stride: 20 };
                packed.matmul(kernels, &Serial, x, y_out).unwrap();
                assert!(y.iter().all(|&y| y == 0.0));
            }
        }
    }

    let packed = PackedMatrix::pack(ty, 3, 256, &bytes).unwrap();
    let kernels = Kernels::best();
    let mut x = vec![1.0; 512];
    let mut y = vec![5.0; 6];
    let run = |x: &[f32], n: usize, xs: usize, y: &mut [f32], ys: usize| {
        let x = Input { values: x, n, stride: xs };
        packed.matmul(kernels, &Serial, x, Output { values: y, stride: ys })
    };
    assert!(matches!(run(&x, 2, 255, &mut y, 3), Err(MatrixError::Stride { what: "x", .. })));
    assert!(matches!(run(&x, 2, 256, &mut y, 2), Err(MatrixError::Stride { what: "y", .. })));
    assert!(matches!(run(&x[1..], 2, 256, &mut y, 3), Err(MatrixError::Short { what: "x", .. })));
    assert!(matches!(run(&x, 2, 256, &mut y[1..], 3), Err(MatrixError::Short { what: "y", .. })));
    assert_eq!(run(&x, 2, usize::MAX, &mut y, 3), Err(MatrixError::TooLarge));
    x[300] = f32::NAN;
    assert!(matches!(run(&x, 2, 256, &mut y, 3), Err(MatrixError::Format(_))));
    assert_eq!(y, [5.0; 6]);
    assert_eq!(run(&[], 0, 0, &mut [], 0), Ok(()));
}
