//! Bytes and values equal to ggml's on rows of twenty kinds.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use quant_core::{GgmlType, dequantize, formats::Importance, importance_use, quantize};
use testkit::{Golden, dequantizable, floats, quantizable};

#[test]
fn golden_rows_are_equal() {
    let golden = Golden::rows();
    let golden = golden.tensors();
    let x = floats(golden.tensor("x").unwrap().data());
    let importance = floats(golden.tensor("importance").unwrap().data());
    let row_len = importance.len();
    let mut problems = Vec::new();
    for ty in quantizable() {
        for (kind, importance) in [("plain", None), ("imatrix", Some(&importance[..]))] {
            let kind = match importance_use(ty).unwrap() {
                Importance::Ignored => "plain",
                Importance::Needed if importance.is_none() => {
                    assert!(quantize(ty, &x, row_len, None).is_err(), "{ty}");
                    continue;
                }
                _ => kind,
            };
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
    let golden = Golden::rows();
    let golden = golden.tensors();
    for ty in dequantizable() {
        // The values are those of the plain rows, where llama-quantize makes such.
        let kind = match ty {
            GgmlType::IQ1_M | GgmlType::IQ2_S | GgmlType::IQ3_XXS => "imatrix",
            _ if importance_use(ty) == Some(Importance::Needed) => "imatrix",
            _ => "plain",
        };
        let tensor = golden.tensor(&format!("{ty}.{kind}")).unwrap();
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
