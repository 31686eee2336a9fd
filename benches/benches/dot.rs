//! Dot products of single rows in GGUF bytes, from cache, per type and instruction set, beside the
//! int8 peak of the same run. Name types and instruction sets on the command line to measure only
//! those.

use std::{hint::black_box, time::Duration};

use benches::{
    limits,
    matrices::{self, Weights, bytes},
};
use quant_kernels::activation_type;

const COLS: usize = 4096;
const TURNS: usize = 200;

fn main() {
    for kernels in matrices::kernels() {
        let int8 = limits::int8_gops(kernels);
        let float = limits::float_gflops(kernels);
        let name = kernels.isa().name();
        println!("\n{name}: int8 {int8:.0} GOPS, float {float:.0} GFLOPS");
        println!("{:<6} {:>7} {:>8} {:>7}", "type", "GFLOPS", "of limit", "GB/s");
        for weights in matrices::chosen() {
            let Weights::Ggml(ty) = weights else { continue };
            let Some(activation) = activation_type(ty) else { continue };
            let w = bytes(ty, 1, COLS);
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
            let seconds = limits::best_own_seconds(Duration::from_millis(100), || {
                for _ in 0..TURNS {
                    let _ = black_box(kernels.dot(ty, COLS, black_box(&w), &quantized));
                }
            });
            let rate = 2.0 * (COLS * TURNS) as f64 / seconds / 1e9;
            let bandwidth = (w.len() * TURNS) as f64 / seconds / 1e9;
            let limit = if ty.is_quantized() { int8 } else { float };
            let share = 100.0 * rate / limit;
            println!("{:<6} {rate:>7.1} {share:>7.0}% {bandwidth:>7.1}", ty.name());
        }
    }
}
