//! Quantizes a matrix to every type and says what each loses.
//!
//! ```sh
//! cargo run -p quant-core --example quantize
//! ```

use quant_core::{GgmlType, Metrics, QTensor, can_quantize};

fn main() -> Result<(), quant_core::Error> {
    let (rows, cols) = (16, 1024);
    let weights: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.731).sin() * 0.05).collect();
    // How much an error in each column matters. Some types of one or two bits need it.
    let importance: Vec<f32> = (0..cols).map(|column| 1.0 + (column % 17) as f32).collect();

    let plain = {
        // The job, 2 lines:
        let tensor = QTensor::quantize(GgmlType::Q4_K, &[rows, cols], &weights)?;
        let restored = tensor.dequantize()?;
        // Done.
        restored
    };
    println!("{} values restored from Q4_K", plain.len());

    println!("{:8} {:>5} {:>8}", "type", "bits", "SNR (dB)");
    for &ty in GgmlType::ALL.iter().filter(|ty| can_quantize(**ty)) {
        let tensor = QTensor::quantize_weighted(ty, &[rows, cols], &weights, &importance)?;
        let mut metrics = Metrics::default();
        metrics.add(&weights, &tensor.dequantize()?)?;
        println!("{ty:8} {:5.2} {:8.1}", ty.bits_per_weight(), metrics.snr_db());
    }
    Ok(())
}
