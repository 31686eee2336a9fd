//! The comparison of instruction sets as a WebAssembly module, where the test harness does not run:
//! `kernels/wasm.mjs` calls it and prints what it returns.

#![allow(clippy::unwrap_used, reason = "a panic is what the caller is to see")]

#[path = "../tests/products/mod.rs"]
mod products;

use quant_core::{GgmlType, formats::Rows, quantize};
use quant_kernels::{Kernels, Serial};

use products::{Case, check, check_integer_sums, multipliable};

const ROW: usize = 512;

/// Blocks compared with the scalar code and found equal; negative at the first that differs.
#[unsafe(no_mangle)]
pub extern "C" fn compare() -> i32 {
    let mut equal = 0;
    for kernels in Kernels::supported() {
        for values in (0..24).map(distribution) {
            let importance: Vec<f32> = values[..ROW].iter().map(|v| v.abs().min(9.0)).collect();
            for importance in [None, Some(&importance[..])] {
                for &ty in GgmlType::ALL {
                    let Ok(expected) = quantize(ty, &values, ROW, importance) else { continue };
                    let mut found = vec![0; expected.len()];
                    let rows = Rows { values: &values, row_len: ROW, importance };
                    if kernels.quantize_unchecked(ty, rows, &mut found) != Ok(())
                        || found != expected
                    {
                        return -1 - ty as i32;
                    }
                    equal += 1;
                }
            }
        }
        if !halves_widen_alike(kernels) {
            return i32::MIN;
        }
    }
    equal
}

/// Matrix products found exact and near double precision; negative at the first that is not.
#[unsafe(no_mangle)]
pub extern "C" fn multiply() -> i32 {
    let mut right = 0;
    for kernels in Kernels::supported() {
        for ty in multipliable() {
            let exact = if ty.is_quantized() { check_integer_sums(ty, kernels) } else { Ok(()) };
            let near = (0..=20).chain([47]).try_for_each(|n| {
                let (rows, cols) = (37 + n, 512 + 256 * (n % 3));
                let seed = n as u64;
                let case =
                    Case { rows, cols, n, x_gap: 1, y_gap: 1, w_scale: 1.0, x_scale: 1.0, seed };
                check(&case, ty, kernels, &Serial)
            });
            if exact.and(near).is_err() {
                return -1 - ty as i32;
            }
            right += 1;
        }
    }
    right
}

/// The number of instruction sets compared.
#[unsafe(no_mangle)]
pub extern "C" fn instruction_sets() -> usize {
    Kernels::supported().count()
}

fn halves_widen_alike(kernels: Kernels) -> bool {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let (mut found, mut expected) = (vec![0.0f32; 1 << 16], vec![0.0f32; 1 << 16]);
    kernels.widen(GgmlType::F16, &bytes, &mut found).is_ok()
        && quant_core::dequantize(GgmlType::F16, &bytes, &mut expected).is_ok()
        && found
            .iter()
            .zip(&expected)
            .all(|(a, b)| a.is_nan() && b.is_nan() || a.to_bits() == b.to_bits())
}

/// Four rows: bell-shaped, with ties, zeros, outliers, tiny or huge values.
fn distribution(kind: u32) -> Vec<f32> {
    let mut state = 0x9e37_79b9u32.wrapping_mul(kind + 1);
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1u32 << 24) as f32
    };
    let scale = [1.0, 1e-3, 1e-30, 1e-41, 1e4, 1e30][kind as usize % 6];
    let value = |i: usize| {
        let v = uniform() + uniform() + uniform() + uniform() - 2.0;
        match kind / 6 {
            0 => v * scale,
            1 => (v * 4.0).round() * scale,
            2 if i.is_multiple_of(97) => v * scale * 100.0,
            2 => v * scale,
            _ if (i / 64).is_multiple_of(2) => 0.0 * v,
            _ => v.abs() * scale,
        }
    };
    (0..4 * ROW).map(value).collect()
}
