//! Activations quantize to ggml's bytes on every instruction set.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use proptest::prelude::*;
use quant_core::{Error, GgmlType};
use quant_kernels::Kernels;
use testkit::{Golden, floats};

const TYPES: [(GgmlType, &str); 3] =
    [(GgmlType::Q8_0, "q8_0"), (GgmlType::Q8_1, "q8_1"), (GgmlType::Q8_K, "q8_K")];

fn quantize(kernels: Kernels, ty: GgmlType, values: &[f32]) -> Vec<u8> {
    let mut out = vec![0xa5; ty.row_bytes(values.len() as u64).unwrap() as usize];
    kernels.quantize_activations(ty, values, &mut out).unwrap();
    out
}

#[test]
fn golden_activations_are_equal_on_every_isa() {
    let golden = Golden::rows();
    let golden = golden.tensors();
    let x = floats(golden.tensor("activations").unwrap().data());
    for kernels in Kernels::supported() {
        for (ty, name) in TYPES {
            let expected = golden.tensor(&format!("activations.{name}")).unwrap();
            let found = quantize(kernels, ty, &x);
            let difference = found.iter().zip(expected.data()).position(|(a, b)| a != b);
            assert_eq!(difference, None, "{} {ty}", kernels.isa().name());
            assert_eq!(found.len(), expected.data().len());
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let kernels = Kernels::best();
    let mut out = vec![0; 292];
    let short = kernels.quantize_activations(GgmlType::Q8_K, &[0.0; 256], &mut out[1..]);
    assert!(matches!(short, Err(Error::Length { .. })));
    let ragged = kernels.quantize_activations(GgmlType::Q8_K, &[0.0; 255], &mut out);
    assert!(matches!(ragged, Err(Error::RowLength { .. })));
    let other = kernels.quantize_activations(GgmlType::Q4_K, &[0.0; 256], &mut out[..144]);
    assert!(matches!(other, Err(Error::Unsupported { .. })));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = [1.0; 256];
        values[77] = bad;
        let found = kernels.quantize_activations(GgmlType::Q8_K, &values, &mut out);
        assert!(matches!(found, Err(Error::NonFinite { index: 77, .. })));
    }
    kernels.quantize_activations(GgmlType::Q8_0, &[], &mut []).unwrap();
}

/// Below 127 / f32::MAX the inverse of the scale is infinite. ggml's conversion of infinity makes
/// the codes −128 in Q8_0 and Q8_1 and 0 in Q8_K; the scale is zero in each.
#[test]
fn tiny_blocks_are_those_of_ggml() {
    for kernels in Kernels::supported() {
        for magnitude in [3.7e-37, 1e-38, 1e-42, f32::from_bits(1)] {
            let mut values = [0.0; 512];
            (values[3], values[200]) = (magnitude, -magnitude);
            // A neighbour that is not tiny.
            values[256..].fill(1.0);
            let q8_0 = quantize(kernels, GgmlType::Q8_0, &values);
            assert_eq!(q8_0[..2], [0; 2]);
            assert_eq!(q8_0[2..34], [0x80; 32]);
            assert_eq!(q8_0[34..68], [0; 34]);
            assert_eq!(q8_0[8 * 34 + 2..][..32], [127; 32]);
            let q8_1 = quantize(kernels, GgmlType::Q8_1, &values);
            assert_eq!(q8_1[..4], [0; 4]);
            assert_eq!(q8_1[4..36], [0x80; 32]);
            let q8_k = quantize(kernels, GgmlType::Q8_K, &values);
            // The sign of zero is that of the inverse.
            assert_eq!(q8_k[..4], (-0.0f32).to_le_bytes());
            assert_eq!(q8_k[4..292], [0; 288]);
            assert_eq!(q8_k[292 + 4..][..256], [0x81; 256]);
        }
    }
}

proptest! {
    #[test]
    fn every_isa_gives_the_scalar_bytes(
        blocks in 1usize..40,
        seed in prop::collection::vec(-1.0f32..1.0, 256),
        exponent in -44i32..38,
        zero in 0usize..40,
    ) {
        let mut values: Vec<f32> = (0..blocks * 256)
            .map(|i| seed[i * 7 % 256] * seed[i / 256] * 10f32.powi(exponent))
            .collect();
        if let Some(block) = values.chunks_mut(256).nth(zero) {
            block.fill(0.0);
        }
        let scalar = Kernels::supported().next().unwrap();
        for (ty, _) in TYPES {
            let expected = quantize(scalar, ty, &values);
            for kernels in Kernels::supported().skip(1) {
                prop_assert!(quantize(kernels, ty, &values) == expected, "{ty}");
            }
        }
    }
}
