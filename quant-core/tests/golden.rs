//! Bytes and values equal to ggml's on rows of twenty kinds.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use quant_core::{GgmlType, dequantize, quantize};
use safetensors::SafeTensors;

const TYPES: [GgmlType; 10] = [
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::Q2_K,
    GgmlType::Q3_K,
    GgmlType::Q4_K,
    GgmlType::Q5_K,
    GgmlType::Q6_K,
];

fn golden_file() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/golden/quantize-rows.safetensors");
    std::fs::read(path).unwrap()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

#[test]
fn golden_rows_are_equal() {
    let file = golden_file();
    let golden = SafeTensors::deserialize(&file).unwrap();
    let x = floats(golden.tensor("x").unwrap().data());
    let importance = floats(golden.tensor("importance").unwrap().data());
    let row_len = importance.len();
    let mut problems = Vec::new();
    for ty in TYPES {
        for (kind, importance) in [("plain", None), ("imatrix", Some(&importance[..]))] {
            // Q8_0 has no search: its bytes are the plain ones with importance too.
            let kind = if ty == GgmlType::Q8_0 { "plain" } else { kind };
            let tensor = golden.tensor(&format!("{ty}.{kind}")).unwrap();
            let expected = tensor.data();
            let found = quantize(ty, &x, row_len, importance).unwrap();
            let row_bytes = expected.len() / (x.len() / row_len);
            let rows = found.chunks(row_bytes).zip(expected.chunks(row_bytes));
            for (row, (found, expected)) in rows.enumerate() {
                if found != expected {
                    let at = found.iter().zip(expected).position(|(a, b)| a != b);
                    problems.push(format!("{ty}.{kind} row {row}: first difference at {at:?}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn golden_values_are_restored_exactly() {
    let file = golden_file();
    let golden = SafeTensors::deserialize(&file).unwrap();
    for ty in TYPES {
        let tensor = golden.tensor(&format!("{ty}.plain")).unwrap();
        let expected = golden.tensor(&format!("{ty}.dequantized")).unwrap();
        let expected = floats(expected.data());
        let mut found = vec![0.0; expected.len()];
        dequantize(ty, tensor.data(), &mut found).unwrap();
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{ty} value {i}: {found} instead of {expected}"
            );
        }
    }
}
