//! Writes a GGUF file with one tensor.
//!
//! ```sh
//! cargo run -p gguf-io --example write_gguf -- demo.gguf
//! ```

use gguf_io::{Layout, Metadata, OutputOptions, TensorSpec};
use quant_core::{GgmlType, QTensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = std::env::args().nth(1) else { return Err("usage: write_gguf FILE".into()) };
    let values: Vec<f32> = (0..8 * 256).map(|i| (i as f32 * 0.37).sin()).collect();

    // The job, 6 lines:
    let up = QTensor::quantize(GgmlType::Q4_K, &[8, 256], &values)?;
    let metadata = Metadata::from_iter([("general.architecture", "demo")]);
    let layout = Layout::new(&metadata, &[TensorSpec::of("blk.0.ffn_up.weight", &up)])?;
    let writer = layout.create(path, OutputOptions::default())?;
    writer.write("blk.0.ffn_up.weight", up.bytes())?;
    writer.finish()?;
    // Done.

    Ok(())
}
