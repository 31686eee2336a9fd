//! Products with few columns from memory, weights far larger than the caches, per type and
//! instruction set, beside the bandwidth of the same run. Name types, instruction sets and numbers
//! of threads on the command line to measure only those.

use std::{hint::black_box, time::Duration};

use benches::{limits, matrices};
use quant_kernels::{Input, Isa, Output};

const COLS: usize = 4096;
const BYTES: usize = 160 << 20;
const COLUMNS: [usize; 4] = [1, 2, 4, 8];

fn main() {
    for threads in matrices::threads() {
        let pool = limits::pool(threads);
        for kernels in matrices::kernels() {
            if kernels.isa() == Isa::Scalar {
                continue;
            }
            let name = kernels.isa().name();
            let limit = limits::read_gbs(kernels, &pool);
            println!("\n{name}, {threads} thread(s): memory {limit:.1} GB/s");
            println!(
                "{:<13} {:>11} {:>22} {:>21}",
                "type", "GB/s, n = 1", "of limit, n = 1 2 4 8", "GFLOPS, n = 1 2 4 8"
            );
            for weights in matrices::chosen() {
                let row_bytes = weights.row_bytes(COLS);
                let rows = BYTES / row_bytes / 64 * 64;
                let packed = weights.packed(rows, COLS);
                let seconds = COLUMNS.map(|n| {
                    let x = benches::weights(n * COLS);
                    let mut y = vec![0.0; n * rows];
                    limits::seconds(threads, Duration::from_millis(300), || {
                        let x = Input { values: black_box(&x), n, stride: COLS };
                        let y = Output { values: black_box(&mut y), stride: rows };
                        if let Err(error) = packed.matmul(kernels, &pool, x, y) {
                            panic!("{error}");
                        }
                    })
                });
                let rates = seconds.map(|seconds| (rows * row_bytes) as f64 / seconds / 1e9);
                print!("{:<13} {:>11.1}      ", weights.name(), rates[0]);
                for rate in rates {
                    print!(" {:>3.0}%", 100.0 * rate / limit);
                }
                print!("  ");
                for (n, seconds) in COLUMNS.into_iter().zip(seconds) {
                    print!(" {:>4.0}", 2.0 * (n * rows * COLS) as f64 / seconds / 1e9);
                }
                println!();
            }
        }
    }
}
