//! Multiplies activations with weights as they are in a file, y = x · Wᵀ.
//!
//! ```sh
//! cargo run --release -p quant-kernels --features matrix --example matmul
//! ```

use quant_core::GgmlType;
use quant_kernels::{Kernels, PackedMatrix, Serial};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (rows, cols, n) = (64, 512, 3);
    let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.7).sin()).collect();
    let x: Vec<f32> = (0..n * cols).map(|i| (i as f32 * 0.3).cos()).collect();
    let tensor = Kernels::best().quantize(GgmlType::Q4_K, &[rows, cols], &values)?;

    // The job, 3 lines:
    let weights = PackedMatrix::pack(tensor.ty(), rows, cols, tensor.bytes())?;
    let mut y = vec![0.0; n * rows];
    weights.matmul_into(Kernels::best(), &Serial, &x, &mut y)?;
    // Done.

    println!("{} results by {:?}, the first {:?}", y.len(), Kernels::best().isa(), &y[..4]);
    Ok(())
}
