//! Any bytes as blocks of any type: no panic, and every instruction set restores the same bits.
#![no_main]

use quant_core::{GgmlType, can_dequantize};
use quant_kernels::Kernels;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let ty = GgmlType::ALL[usize::from(choice) % GgmlType::ALL.len()];
    let blocks = (bytes.len() / ty.block_bytes()).min(64);
    let bytes = &bytes[..blocks * ty.block_bytes()];
    let mut expected = vec![0.0f32; blocks * ty.block_len()];
    let known = quant_core::dequantize(ty, bytes, &mut expected).is_ok();
    assert_eq!(known, can_dequantize(ty));
    for kernels in Kernels::supported() {
        let mut found = vec![0.0f32; expected.len()];
        assert_eq!(kernels.dequantize_into(ty, bytes, &mut found).is_ok(), known);
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(expected.iter().zip(&found).all(same), "{ty} on {:?}", kernels.isa());
        let magnitude = kernels.magnitude(&found);
        assert_eq!(magnitude.is_finite(), expected.iter().all(|v| v.is_finite()));
    }
});
