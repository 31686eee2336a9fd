//! Dot products: against ggml's, and against double precision, on every instruction set.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod products;

use products::multipliable;
use quant_core::{Error, GgmlType};
use quant_kernels::{Kernels, activation_type};
use testkit::{Golden, floats};

#[test]
fn golden_dots_agree_on_every_isa() {
    let golden = Golden::rows();
    let golden = golden.tensors();
    let x = floats(golden.tensor("activations").unwrap().data());
    let mut problems = Vec::new();
    let mut seen = 0;
    for ty in multipliable().filter(|ty| ty.is_quantized()) {
        // The sums of the others are compared with exact ones.
        let Ok(expected) = golden.tensor(&format!("{ty}.dot")) else { continue };
        seen += 1;
        let expected = floats(expected.data());
        let name = match activation_type(ty).unwrap() {
            GgmlType::Q8_0 => "activations.q8_0",
            GgmlType::Q8_1 => "activations.q8_1",
            _ => "activations.q8_K",
        };
        let activations = golden.tensor(name).unwrap();
        let values = floats(golden.tensor(&format!("{ty}.dequantized")).unwrap().data());
        // The rows that were multiplied: of the coarsest types those made with importance.
        let multiplied = ["plain", "imatrix"].map(|kind| golden.tensor(&format!("{ty}.{kind}")));
        let weights = multiplied.into_iter().flatten().find(|weights| {
            let mut restored = vec![0.0; values.len()];
            quant_core::dequantize(ty, weights.data(), &mut restored).is_ok() && restored == values
        });
        let weights = weights.unwrap_or_else(|| panic!("no rows of {ty} are those restored"));
        for kernels in Kernels::supported() {
            for (i, &expected) in expected.iter().enumerate() {
                let (row, column) = (i / 2, i % 2);
                let w =
                    &weights.data()[row * weights.data().len() / 20..][..weights.data().len() / 20];
                let a = &activations.data()[column * activations.data().len() / 2..]
                    [..activations.data().len() / 2];
                let found = kernels.dot(ty, 1024, w, a).unwrap();
                let magnitude: f64 = values[row * 1024..][..1024]
                    .iter()
                    .zip(&x[column * 1024..][..1024])
                    .map(|(w, x)| (f64::from(*w) * f64::from(*x)).abs())
                    .sum();
                let error = (f64::from(found) - f64::from(expected)).abs();
                if error.is_nan() || error > 1e-5 * magnitude {
                    let isa = kernels.isa().name();
                    problems.push(format!("{isa} {ty} {i}: {found}, expected {expected}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(seen >= 24, "{seen}");
}

#[test]
fn every_code_of_q8_0_is_multiplied_exactly() {
    let block = |code: u8| [&[0, 0x3c][..], &[code; 32]].concat();
    for (w, x) in [(-1, -128), (-128, -128), (127, -128), (-128, 127), (-127, 127), (5, -128)] {
        for blocks in [1, 8, 9] {
            let (weights, activations) =
                (block(w as u8).repeat(blocks), block(x as u8).repeat(blocks));
            for kernels in Kernels::supported() {
                let found = kernels.dot(GgmlType::Q8_0, 32 * blocks, &weights, &activations);
                let expected = (w * x * 32 * blocks as i32) as f32;
                assert_eq!(found, Ok(expected), "{} {w} {x}", kernels.isa().name());
            }
        }
    }
}

#[test]
fn floats_multiply() {
    // Whole vectors of every instruction set, and what is left over.
    for len in (0..140).chain([1000, 4096, 4111]) {
        let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin()).collect();
        let w: Vec<f32> = (0..len).map(|i| (i as f32 * 0.11).cos()).collect();
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        for kernels in Kernels::supported() {
            for ty in [GgmlType::F32, GgmlType::F16, GgmlType::BF16] {
                let mut stored = vec![0; len * ty.block_bytes()];
                kernels.narrow(ty, &w, &mut stored).unwrap();
                let mut rounded = vec![0.0; len];
                kernels.widen(ty, &stored, &mut rounded).unwrap();
                let products = x.iter().zip(&rounded).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let expected: f64 = products.clone().sum();
                let magnitude: f64 = products.map(f64::abs).sum();
                let found = f64::from(kernels.dot(ty, len, &stored, &bytes).unwrap());
                let isa = kernels.isa().name();
                let near = (found - expected).abs() <= 1e-6 * magnitude;
                assert!(near, "{isa} {ty} of {len}: {found}, expected {expected}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let kernels = Kernels::best();
    let (w, x) = ([0; 144], [0; 292]);
    assert_eq!(kernels.dot(GgmlType::Q4_K, 256, &w, &x), Ok(0.0));
    assert_eq!(kernels.dot(GgmlType::Q4_K, 0, &[], &[]), Ok(0.0));
    for (w, x) in [(&w[1..], &x[..]), (&w[..], &x[1..])] {
        assert!(matches!(kernels.dot(GgmlType::Q4_K, 256, w, x), Err(Error::Length { .. })));
    }
    let ragged = kernels.dot(GgmlType::Q4_K, 255, &w, &x);
    assert!(matches!(ragged, Err(Error::RowLength { .. })));
    let other = kernels.dot(GgmlType::NVFP4, 64, &[0; 36], &[0; 68]);
    assert!(matches!(other, Err(Error::Unsupported { .. })));
}

#[test]
fn integer_sums_are_exact_on_every_isa() {
    for ty in multipliable().filter(|ty| ty.is_quantized()) {
        for kernels in Kernels::supported() {
            products::check_integer_sums(ty, kernels).unwrap();
        }
    }
}
