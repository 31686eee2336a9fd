//! Dot products of single rows in GGUF bytes, from cache, per type and instruction set, beside the
//! int8 peak of the same run. Name types on the command line to measure only those.

use std::{hint::black_box, time::Duration};

use benches::{
    limits,
    matrices::{TYPES, bytes, chosen},
};
use quant_kernels::{Kernels, activation_type};

const COLS: usize = 4096;
const TURNS: usize = 200;

fn main() {
    for kernels in Kernels::supported() {
        let peak = limits::int8_gops(kernels);
        println!("\n{}: int8 peak {peak:.0} GOPS", kernels.isa().name());
        println!("{:<6} {:>8} {:>7} {:>7}", "type", "GFLOPS", "of peak", "GB/s");
        for ty in TYPES.into_iter().filter(|ty| chosen(*ty)) {
            let Some(activation) = activation_type(ty) else { continue };
            let weights = bytes(ty, 1, COLS);
            let x = benches::weights(COLS);
            let mut quantized = vec![0; COLS / activation.block_len() * activation.block_bytes()];
            let result = if activation.is_quantized() {
                kernels.quantize_activations(activation, &x, &mut quantized)
            } else {
                kernels.narrow(activation, &x, &mut quantized)
            };
            if let Err(error) = result {
                panic!("{error}");
            }
            let seconds = limits::best_seconds(Duration::from_millis(100), || {
                for _ in 0..TURNS {
                    let _ = black_box(kernels.dot(ty, COLS, black_box(&weights), &quantized));
                }
            });
            let rate = 2.0 * (COLS * TURNS) as f64 / seconds / 1e9;
            let bandwidth = (weights.len() * TURNS) as f64 / seconds / 1e9;
            let share = 100.0 * rate / peak;
            println!("{:<6} {rate:>8.1} {share:>6.0}% {bandwidth:>7.1}", ty.name());
        }
    }
}
