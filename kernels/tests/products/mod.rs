//! Checks of matrix products that need no test harness: the tests run them, and where there is none
//! the module of `examples/wasm.rs`.

#![allow(dead_code, reason = "not every test needs all of them")]

use quant_core::{
    GgmlType,
    formats::{Importance, Rows},
    importance_use,
};
use quant_kernels::{Input, Kernels, Output, PackedMatrix, Parallel, Serial, activation_type};

/// Rounding in single precision, relative to the largest weight and activation of each block.
const ROUNDING: f64 = 2e-6;

/// 127 / f32::MAX, rounded up.
const TINY: f64 = 3.733e-37;

/// The types of weights that can be multiplied: floats and block formats.
pub(crate) fn multipliable() -> impl Iterator<Item = GgmlType> {
    GgmlType::ALL.iter().copied().filter(|ty| activation_type(*ty).is_some())
}

/// Bell-shaped values from a seed.
pub(crate) fn values(seed: u64, len: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..len).map(|_| (uniform() + uniform() + uniform() - 1.5) * scale).collect()
}

pub(crate) fn quantize(ty: GgmlType, values: &[f32], cols: usize) -> Vec<u8> {
    if values.is_empty() {
        return Vec::new();
    }
    // What needs importance gets the same for each column.
    let importance = vec![1.0; cols];
    let needed = importance_use(ty) == Some(Importance::Needed);
    let rows = Rows { values, row_len: cols, importance: needed.then_some(&importance[..]) };
    let mut bytes = vec![0; ty.row_bytes(values.len() as u64).unwrap() as usize];
    Kernels::best().quantize_unchecked(ty, rows, &mut bytes).unwrap();
    bytes
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
pub(crate) struct Case {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) n: usize,
    pub(crate) x_gap: usize,
    pub(crate) y_gap: usize,
    pub(crate) w_scale: f32,
    pub(crate) x_scale: f32,
    pub(crate) seed: u64,
}

/// A product of quantized weights against double precision; what differs, if anything does.
pub(crate) fn check(
    case: &Case,
    ty: GgmlType,
    kernels: Kernels,
    pool: &dyn Parallel,
) -> Result<(), String> {
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

/// Where the half-precision fields of a block are.
fn halves(ty: GgmlType) -> &'static [usize] {
    match ty {
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4_K | GgmlType::Q5_K => &[0, 2],
        GgmlType::Q2_K => &[80, 82],
        GgmlType::Q3_K => &[108],
        GgmlType::Q6_K => &[208],
        GgmlType::TQ1_0 => &[52],
        GgmlType::TQ2_0 => &[64],
        GgmlType::MXFP4 | GgmlType::IQ1_M => &[],
        _ => &[0],
    }
}

/// Makes the half-precision fields of blocks one, or what is like it.
fn set_units(ty: GgmlType, bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        for &at in halves(ty) {
            block[at..][..2].copy_from_slice(&0x3c00u16.to_le_bytes());
        }
        match ty {
            GgmlType::MXFP4 => block[0] = 128,
            // The bits of the scale are the upper nibbles of four words, the lowest first.
            GgmlType::IQ1_M => {
                for (at, nibble) in [(49, 0), (51, 0), (53, 0xc0), (55, 0x30)] {
                    block[at] = block[at] & 15 | nibble;
                }
            }
            _ => {}
        }
    }
}

/// Blocks of any bytes with scales of one, and inputs that quantize to themselves: every number
/// is an integer below 2²⁴, or that many eighths, so that nothing is rounded and all instruction sets must
/// agree, in products and in dot products of single rows.
pub(crate) fn check_integer_sums(ty: GgmlType, kernels: Kernels) -> Result<(), String> {
    let (rows, cols) = (37, 512);
    let size = rows * cols / ty.block_len() * ty.block_bytes();
    let mut bytes: Vec<u8> =
        values(3, size, 1.0).iter().map(|v| (v.to_bits() >> 7) as u8).collect();
    set_units(ty, &mut bytes);
    let mut w = vec![0.0; rows * cols];
    quant_core::dequantize(ty, &bytes, &mut w).unwrap();
    let packed = PackedMatrix::pack(ty, rows, cols, &bytes).unwrap();
    if packed.unpack() != bytes {
        return Err(format!("{ty} does not unpack to what was packed"));
    }
    for n in [1, 2, 3, 4, 8, 9, 20] {
        let random = values(n as u64, n * cols, 1.0);
        let mut x = vec![0.0; n * cols];
        for (x, random) in x.chunks_exact_mut(32).zip(random.chunks_exact(32)) {
            x[(random[0].abs() * 21.0) as usize] = (random[1] * 80.0).trunc();
            x[(random[2].abs() * 21.0) as usize] = if random[3] < 0.0 { -127.0 } else { 127.0 };
        }
        let mut y = vec![0.0; n * rows];
        let input = Input { values: &x, n, stride: cols };
        let output = Output { values: &mut y, stride: rows };
        packed.matmul(kernels, &Serial, input, output).unwrap();
        let activation = activation_type(ty).unwrap();
        let size = cols / activation.block_len() * activation.block_bytes();
        let mut activations = vec![0; n * size];
        kernels.quantize_activations(activation, &x, &mut activations).unwrap();
        for (i, &found) in y.iter().enumerate() {
            let w_bytes = &bytes[i % rows * bytes.len() / rows..][..bytes.len() / rows];
            let dot = kernels.dot(ty, cols, w_bytes, &activations[i / rows * size..][..size]);
            if n < 3 && dot != Ok(found) {
                let isa = kernels.isa().name();
                return Err(format!("{isa} {ty} element {i}: {found}, as a dot product {dot:?}"));
            }
            let (w, x) = (&w[i % rows * cols..][..cols], &x[i / rows * cols..][..cols]);
            let products = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
            let expected: f64 = products.sum();
            if f64::from(found) != expected {
                let isa = kernels.isa().name();
                return Err(format!("{isa} {ty} n {n} element {i}: {found}, not {expected}"));
            }
        }
    }
    Ok(())
}

/// The largest codes and factors with the largest inputs, of every sign: sums of 16 bits on the way to those
/// of 32 must have room for them.
pub(crate) fn check_extremes(ty: GgmlType, kernels: Kernels) -> Result<(), String> {
    let (rows, cols, all) = (16, 512, 13);
    let row_bytes = cols / ty.block_len() * ty.block_bytes();
    let fill = [0x00, 0xff, 0x7f, 0x80, 0x0f, 0xf0, 0x55, 0xaa];
    let mut bytes: Vec<u8> =
        (0..rows).flat_map(|r| std::iter::repeat_n(fill[r % fill.len()], row_bytes)).collect();
    set_units(ty, &mut bytes);
    let mut w = vec![0.0; rows * cols];
    quant_core::dequantize(ty, &bytes, &mut w).unwrap();
    // All of one sign, alternating in runs, and as the weights of a row.
    let mut x = vec![0.0; all * cols];
    for (i, x) in x.chunks_exact_mut(cols).enumerate() {
        for (k, x) in x.iter_mut().enumerate() {
            let negative = match i {
                0 => false,
                1 => true,
                2..5 => k >> (i - 2) & 1 == 1,
                _ => w[(i - 5) * cols + k] < 0.0,
            };
            *x = if negative { -127.0 } else { 127.0 };
        }
    }
    let packed = PackedMatrix::pack(ty, rows, cols, &bytes).unwrap();
    for n in [1, 2, all] {
        let x = &x[(all - n) * cols..];
        let mut y = vec![0.0; n * rows];
        let input = Input { values: x, n, stride: cols };
        let output = Output { values: &mut y, stride: rows };
        packed.matmul(kernels, &Serial, input, output).unwrap();
        for (i, &found) in y.iter().enumerate() {
            let (w, x) = (&w[i % rows * cols..][..cols], &x[i / rows * cols..][..cols]);
            let products = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
            let expected: f64 = products.clone().sum();
            let magnitude: f64 = products.map(f64::abs).sum();
            let error = (f64::from(found) - expected).abs();
            if error.is_nan() || error > ROUNDING * magnitude {
                let isa = kernels.isa().name();
                return Err(format!("{isa} {ty} n {n} element {i}: {found}, not {expected}"));
            }
        }
    }
    Ok(())
}
