//! Models of the fixtures, and what the tests compare.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use quant_convert::{Control, Options as ConvertOptions, Plan, open, recipe::Request};
use quant_evaluate::{CachePrecision, Model, Options, Session};
use quant_kernels::Pool;
use safetensors::SafeTensors;

pub(crate) const FIXTURES: [&str; 5] =
    ["tiny-llama2", "tiny-llama3", "tiny-qwen2", "tiny-phi2", "tiny-mixtral"];

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

/// A file of a type, made of a checkpoint.
pub(crate) fn convert(checkpoint: &Path, file_type: &str, output: &Path) {
    let options = ConvertOptions {
        request: Request::new(file_type.parse().unwrap()),
        no_sync: true,
        threads: 2,
        ..ConvertOptions::default()
    };
    let plan = Plan::new(open(checkpoint, &options).unwrap(), &options).unwrap();
    plan.run(output, Control::default()).unwrap();
}

pub(crate) fn options(threads: usize) -> Options {
    let mut options = Options::default();
    options.threads = Arc::new(Pool::new(threads.try_into().unwrap()).unwrap());
    options
}

/// A fixture in a type, with keys and values in single precision. Its weights are in memory: the file is gone.
pub(crate) fn model(checkpoint: &str, file_type: &str) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    convert(&fixture(checkpoint), file_type, &path);
    let mut options = options(2);
    options.cache = CachePrecision::Single;
    Model::open(&path, &options).unwrap()
}

/// A checkpoint as it is, with keys and values in single precision.
pub(crate) fn of_checkpoint(checkpoint: &str) -> Model {
    let source = open(&fixture(checkpoint), &ConvertOptions::default()).unwrap();
    let mut options = options(2);
    options.cache = CachePrecision::Single;
    Model::from_source(source, &options).unwrap()
}

/// The tokens of `reference_logits.safetensors` and a row of logits for each.
pub(crate) fn reference(checkpoint: &str) -> (Vec<u32>, Vec<Vec<f32>>) {
    let bytes = std::fs::read(fixture(checkpoint).join("reference_logits.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| -> Vec<[u8; 4]> {
        tensors.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec()
    };
    let tokens: Vec<u32> = words("input_ids").into_iter().map(u32::from_le_bytes).collect();
    let logits: Vec<f32> = words("logits").into_iter().map(f32::from_le_bytes).collect();
    let rows = logits.chunks(logits.len() / tokens.len()).map(<[f32]>::to_vec).collect();
    (tokens, rows)
}

/// The logits after each token.
pub(crate) fn logits(model: &Model, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut session = Session::new(model, tokens.len()).unwrap();
    let mut rows = Vec::new();
    session
        .forward(tokens, 0..tokens.len(), |position, row| {
            assert_eq!(position, rows.len());
            rows.push(row.to_vec());
        })
        .unwrap();
    rows
}

/// The largest difference as a part of the range of the first.
pub(crate) fn distance(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let values = || a.iter().flatten().copied();
    let range = values().fold(f32::MIN, f32::max) - values().fold(f32::MAX, f32::min);
    let differences = a.iter().zip(b).flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs())
    });
    // Not `f32::max`, which would hide a value that is no number.
    differences.fold(0.0, |most, d| if d <= most { most } else { d }) / range
}
