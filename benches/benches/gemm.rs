//! Products with many columns: m = k = 4096, n = 512, per type and instruction set, beside the
//! int8 peak of the same run. Name types on the command line to measure only those.

use std::{hint::black_box, time::Duration};

use benches::{
    limits,
    matrices::{TYPES, chosen, packed},
};
use quant_kernels::{Input, Isa, Kernels, Output};

const ROWS: usize = 4096;
const COLS: usize = 4096;
const N: usize = 512;

fn main() {
    let x = benches::weights(N * COLS);
    let mut y = vec![0.0; N * ROWS];
    let operations = 2.0 * (ROWS * COLS * N) as f64;
    for threads in [1, 2] {
        let pool = limits::pool(threads);
        for kernels in Kernels::supported().filter(|kernels| kernels.isa() != Isa::Scalar) {
            let name = kernels.isa().name();
            let peak = limits::int8_gops(kernels) * threads as f64;
            println!("\n{name}, {threads} thread(s): int8 peak {peak:.0} GOPS");
            println!("{:<6} {:>8} {:>7}", "type", "GFLOPS", "of peak");
            for ty in TYPES.into_iter().filter(|ty| chosen(*ty)) {
                let weights = packed(ty, ROWS, COLS);
                let seconds = limits::seconds(threads, Duration::from_millis(500), || {
                    let x = Input { values: black_box(&x), n: N, stride: COLS };
                    let y = Output { values: black_box(&mut y), stride: ROWS };
                    if let Err(error) = weights.matmul(kernels, &pool, x, y) {
                        panic!("{error}");
                    }
                });
                let rate = operations / seconds / 1e9;
                println!("{:<6} {rate:>8.1} {:>6.0}%", ty.name(), 100.0 * rate / peak);
            }
        }
    }
}
