//! Products with few columns from memory, weights far larger than the caches, per type and
//! instruction set, beside the bandwidth of the same run. Name types on the command line to
//! measure only those.

use std::{hint::black_box, time::Duration};

use benches::{
    limits,
    matrices::{TYPES, chosen, packed},
};
use quant_kernels::{Input, Isa, Kernels, Output};

const COLS: usize = 4096;
const BYTES: usize = 160 << 20;
const COLUMNS: [usize; 4] = [1, 2, 4, 8];

fn main() {
    for threads in [1, 2] {
        let pool = limits::pool(threads);
        for kernels in Kernels::supported().filter(|kernels| kernels.isa() != Isa::Scalar) {
            let name = kernels.isa().name();
            let limit = limits::read_gbs(kernels, &pool);
            println!("\n{name}, {threads} thread(s): memory {limit:.1} GB/s");
            println!("{:<6} {:>12} {:>22}", "type", "GB/s, n = 1", "of limit, n = 1 2 4 8");
            for ty in TYPES.into_iter().filter(|ty| chosen(*ty)) {
                let row_bytes = COLS / ty.block_len() * ty.block_bytes();
                let rows = BYTES / row_bytes / 64 * 64;
                let weights = packed(ty, rows, COLS);
                let rates = COLUMNS.map(|n| {
                    let x = benches::weights(n * COLS);
                    let mut y = vec![0.0; n * rows];
                    let seconds = limits::seconds(threads, Duration::from_millis(300), || {
                        let x = Input { values: black_box(&x), n, stride: COLS };
                        let y = Output { values: black_box(&mut y), stride: rows };
                        if let Err(error) = weights.matmul(kernels, &pool, x, y) {
                            panic!("{error}");
                        }
                    });
                    (rows * row_bytes) as f64 / seconds / 1e9
                });
                print!("{:<6} {:>12.1}      ", ty.name(), rates[0]);
                for rate in rates {
                    print!(" {:>3.0}%", 100.0 * rate / limit);
                }
                println!();
            }
        }
    }
}
