//! Any row, quantized to any type: the same bytes on every instruction set; what is not refused is
//! restored finite, and nothing of moderate size is refused.
#![no_main]

use quant_core::{
    Error, GgmlType, can_quantize,
    formats::{Importance, Rows},
    importance_use,
    lanes::Scalar,
    quantize_unchecked,
};
use quant_kernels::Kernels;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&[choice, weighted], bytes)) = input.split_first_chunk() else { return };
    let types: Vec<_> = GgmlType::ALL.iter().copied().filter(|ty| can_quantize(*ty)).collect();
    let ty = types[usize::from(choice) % types.len()];
    let float = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let tame = |v: f32| if v.is_finite() { v } else { 1.0 };
    let mut values: Vec<_> = bytes.chunks_exact(4).map(float).map(tame).collect();
    let row_len = 256 * (1 + usize::from(weighted / 64));
    values.resize(values.len().min(4096).next_multiple_of(row_len), 0.25);
    let importance: Vec<_> = values.iter().rev().take(row_len).map(|v| v.abs().min(1e30)).collect();
    let needed = importance_use(ty) == Some(Importance::Needed);
    if needed && values.is_empty() {
        return;
    }
    let importance = (needed || weighted % 2 == 1 && !values.is_empty()).then_some(&importance[..]);
    let rows = || Rows { values: &values, row_len, importance };
    let bytes = ty.row_bytes(values.len() as u64).expect("has a size");
    let mut expected = vec![0; usize::try_from(bytes).expect("fits")];
    quantize_unchecked(Scalar, ty, rows(), &mut expected).expect("is quantized");
    for kernels in Kernels::supported() {
        let mut found = vec![0; expected.len()];
        kernels.quantize_unchecked(ty, rows(), &mut found).expect("is quantized");
        assert_eq!(found, expected, "{ty} on {:?}", kernels.isa());
    }
    match quant_core::quantize(ty, &values, row_len, importance) {
        Ok(bytes) => {
            assert_eq!(bytes, expected, "{ty}");
            let mut restored = vec![0.0; values.len()];
            quant_core::dequantize(ty, &bytes, &mut restored).expect("is restored");
            assert!(restored.iter().all(|v| v.is_finite()), "{ty}");
        }
        Err(Error::Overflow { .. }) => {
            let weights = importance.into_iter().flatten();
            assert!(values.iter().chain(weights).any(|v| v.abs() >= 1e4), "{ty}");
        }
        Err(error) => panic!("{ty}: {error}"),
    }
});
