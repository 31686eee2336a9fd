//! Logits of the fixtures against those that transformers made.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod common;

use std::path::Path;

use common::{
    FIXTURES, convert, distance, fixture, logits, model, of_checkpoint, options, reference,
};
use quant_evaluate::Model;
use safetensors::SafeTensors;

#[test]
fn logits_in_single_precision_are_those_of_transformers() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/logits.safetensors");
    let bytes = std::fs::read(data).unwrap();
    let on_cpu = SafeTensors::deserialize(&bytes).unwrap();
    for checkpoint in FIXTURES {
        let (tokens, on_gpu) = reference(checkpoint);
        let found = logits(&model(checkpoint, "f32"), &tokens);
        // Two rows that transformers made on a CPU, by `interop/fixture_logits.py`.
        let values: Vec<f32> = on_cpu
            .tensor(checkpoint)
            .unwrap()
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let rows: Vec<_> = values.chunks(values.len() / 2).map(<[f32]>::to_vec).collect();
        let near = distance(&rows, &[found[31].clone(), found[63].clone()]);
        // All rows, by a GPU, whose products have ten bits.
        let far = distance(&on_gpu, &found);
        println!("{checkpoint} {near:e} {far:e}");
        assert!(near < 5e-6, "{checkpoint}: {near:e} of the range");
        assert!(far < 2e-3, "{checkpoint}: {far:e} of the range");
    }
}

/// What half precision of keys and values costs.
#[test]
fn a_cache_of_half_precision_moves_logits_by_little() {
    let folder = tempfile::tempdir().unwrap();
    for checkpoint in FIXTURES {
        let (tokens, expected) = reference(checkpoint);
        let path = folder.path().join(checkpoint);
        convert(&fixture(checkpoint), "f32", &path);
        let model = Model::open(&path, &options(2)).unwrap();
        let distance = distance(&expected, &logits(&model, &tokens));
        println!("{checkpoint} {distance:e}");
        assert!(distance < 3e-3, "{checkpoint}: {distance:e} of the range");
    }
}

#[test]
fn the_error_falls_with_the_bits() {
    for checkpoint in FIXTURES {
        let (tokens, expected) = reference(checkpoint);
        let error = |file_type| {
            let found = logits(&model(checkpoint, file_type), &tokens);
            let squares = expected.iter().flatten().zip(found.iter().flatten());
            let (sum, norm) = squares.fold((0.0f64, 0.0f64), |(sum, norm), (a, b)| {
                (sum + f64::from(a - b).powi(2), norm + f64::from(*a).powi(2))
            });
            (sum / norm).sqrt()
        };
        // Relative errors; llama.cpp's are within two per cent of these.
        let bounds = [
            ("q2_k", 0.42),
            ("q3_k_m", 0.22),
            ("q4_k_m", 0.14),
            ("q5_k_m", 0.08),
            ("q6_k", 0.05),
            ("q8_0", 0.02),
            ("f16", 0.0015),
        ];
        let errors: Vec<_> = bounds.map(|(file_type, _)| error(file_type)).into();
        println!("{checkpoint} {errors:.4?}");
        assert!(errors.is_sorted_by(|a, b| a > b), "{checkpoint}: {errors:?}");
        for ((file_type, bound), error) in bounds.iter().zip(&errors) {
            assert!(error < bound, "{checkpoint} {file_type}: {error}");
        }
    }
}

/// A checkpoint is run as it is stored: as the file of its own precision.
#[test]
fn checkpoints_run_without_a_file_in_between() {
    for checkpoint in FIXTURES {
        let (tokens, _) = reference(checkpoint);
        let found = logits(&of_checkpoint(checkpoint), &tokens);
        let precision = match checkpoint {
            "tiny-llama2" | "tiny-phi2" => "f16",
            _ => "bf16",
        };
        let distance = distance(&logits(&model(checkpoint, precision), &tokens), &found);
        println!("{checkpoint} {distance:e}");
        assert!(distance < 1e-6, "{checkpoint}: {distance:e} of the range");
    }
}
