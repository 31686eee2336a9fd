//! Models that quantwright writes, in candle:
//!
//! ```sh
//! cargo run --manifest-path interop/candle/Cargo.toml
//! ```
//!
//! Converts checkpoints of the fixtures, reads the files with gguf-io, hands the blocks to candle and
//! compares: the values of each type that candle has, bit for bit; the logits with those of transformers
//! and of quant-evaluate. `tensors.rs` is what a program of candle's needs to read our tensors.

mod tensors;
mod transformer;

use std::{error::Error, path::Path};

use candle_core::{Device, safetensors};
use gguf_io::Checkpoint;
use quant_convert::Conversion;
use quant_core::{GgmlType, QTensor};
use quant_evaluate::{CachePrecision, Model, Options, Session};
use transformer::Transformer;

/// Types of files, and how far logits may be from those of quant-evaluate: both quantize activations,
/// but for types that candle does not have, whose weights it gets as values.
const FILES: [(&str, f64); 6] = [
    ("f32", 1e-5),
    ("bf16", 1e-5),
    ("q8_0", 5e-2),
    ("q4_k_m", 5e-2),
    ("q3_k_s", 5e-2),
    ("iq4_xs", 5e-2),
];

fn main() -> Result<(), Box<dyn Error>> {
    same_values()?;
    for checkpoint in ["tiny-llama2", "tiny-llama3", "tiny-qwen2"] {
        same_logits(checkpoint)?;
    }
    Ok(())
}

/// Blocks of each type mean the same to candle.
fn same_values() -> Result<(), Box<dyn Error>> {
    let values: Vec<f32> =
        (0..16 * 1024).map(|i| (i as f32 * 0.7).sin() * (i as f32 * 0.01).cos()).collect();
    let mut types = 0;
    for ty in GgmlType::ALL.iter().copied().filter(|ty| tensors::candle_type(*ty).is_some()) {
        let tensor = QTensor::quantize(ty, &[16, 1024], &values)?;
        let Some(blocks) = tensors::blocks(&tensor)? else { continue };
        let (ours, theirs) = (tensors::values(&tensor)?, blocks.dequantize(&Device::Cpu)?);
        let bits = |t: &candle_core::Tensor| -> candle_core::Result<Vec<u32>> {
            Ok(t.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
        };
        if bits(&ours)? != bits(&theirs)? {
            return Err(format!("{ty}: candle restores other values from the same blocks").into());
        }
        types += 1;
    }
    println!("{types} types: candle restores the same values");
    Ok(())
}

fn same_logits(checkpoint: &str) -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(checkpoint);
    let reference =
        Checkpoint::open_file(folder.join("reference_logits.safetensors"), &Default::default())?;
    let tokens =
        safetensors::load(folder.join("reference_logits.safetensors"), &Device::Cpu)?["input_ids"]
            .to_dtype(candle_core::DType::U32)?
            .to_vec1::<u32>()?;
    let expected = reference.tensor("logits")?.read()?.dequantize()?;

    let scratch = tempfile::tempdir()?;
    for (ty, bound) in FILES {
        let path = scratch.path().join(ty);
        Conversion::new(&folder).file_type(ty.parse()?).plan()?.write(&path)?;
        let found = Transformer::open(&path)?.forward(&tokens)?.flatten_all()?.to_vec1::<f32>()?;
        let (evaluate, transformers) =
            (distance(&evaluated(&path, &tokens)?, &found), distance(&expected, &found));
        println!(
            "{checkpoint} {ty}: {evaluate:.1e} from quant-evaluate, {transformers:.1e} from transformers"
        );
        if evaluate.is_nan() || evaluate > bound {
            return Err(format!(
                "{checkpoint} {ty}: {evaluate:e} from quant-evaluate, at most {bound:e}"
            )
            .into());
        }
        // The reference was made on a GPU, whose products have ten bits.
        if ty == "f32" && !(transformers < 5e-3) {
            return Err(
                format!("{checkpoint}: {transformers:e} from transformers, at most 5e-3").into()
            );
        }
    }
    Ok(())
}

/// The logits of quant-evaluate, one row after the other.
fn evaluated(path: &Path, tokens: &[u32]) -> Result<Vec<f32>, Box<dyn Error>> {
    let mut options = Options::default();
    options.cache = CachePrecision::Single;
    let model = Model::open(path, &options)?;
    let mut logits = Vec::new();
    let mut session = Session::new(&model, tokens.len())?;
    session.forward(tokens, 0..tokens.len(), |_, row| logits.extend_from_slice(row))?;
    Ok(logits)
}

/// The difference, relative to what is expected, as root mean squares.
fn distance(expected: &[f32], found: &[f32]) -> f64 {
    if expected.len() != found.len() {
        return f64::NAN;
    }
    let squares = expected.iter().zip(found);
    let (error, norm) = squares.fold((0.0, 0.0), |(error, norm), (a, b)| {
        (error + f64::from(a - b).powi(2), norm + f64::from(*a).powi(2))
    });
    (error / norm).sqrt()
}
