//! Products with many columns: m = k = 4096, n = 512, per type and instruction set, beside the
//! limit of the same run: the int8 dot instructions, or fused multiply-adds for float types. Name
//! types, instruction sets and numbers of threads on the command line to measure only those.

use std::{hint::black_box, time::Duration};

use benches::{limits, matrices};
use quant_kernels::{Input, Isa, Output};

const ROWS: usize = 4096;
const COLS: usize = 4096;
const N: usize = 512;

fn main() {
    let x = benches::weights(N * COLS);
    let mut y = vec![0.0; N * ROWS];
    let operations = 2.0 * (ROWS * COLS * N) as f64;
    for threads in matrices::threads() {
        let pool = limits::pool(threads);
        for kernels in matrices::kernels() {
            if kernels.isa() == Isa::Scalar {
                // Seconds for each product.
                continue;
            }
            let name = kernels.isa().name();
            let int8 = limits::int8_gops(kernels) * threads as f64;
            let float = limits::float_gflops(kernels) * threads as f64;
            println!("\n{name}, {threads} thread(s): int8 {int8:.0} GOPS, float {float:.0} GFLOPS");
            println!("{:<13} {:>7} {:>8}", "type", "GFLOPS", "of limit");
            for weights in matrices::chosen() {
                let packed = weights.packed(ROWS, COLS);
                let seconds = limits::seconds(threads, Duration::from_millis(500), || {
                    let x = Input { values: black_box(&x), n: N, stride: COLS };
                    let y = Output { values: black_box(&mut y), stride: ROWS };
                    if let Err(error) = packed.matmul(kernels, &pool, x, y) {
                        panic!("{error}");
                    }
                });
                let rate = operations / seconds / 1e9;
                let limit = if weights.is_quantized() { int8 } else { float };
                println!("{:<13} {rate:>7.1} {:>7.0}%", weights.name(), 100.0 * rate / limit);
            }
        }
    }
}
