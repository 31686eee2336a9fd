//! Any bytes, read as an importance matrix: what is accepted is finite and not negative.
#![no_main]

use gguf_io::{Budget, Imatrix, Limits, SourceFile, imatrix::ImatrixSums};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut budget = Budget::new(&Limits::default());
    let file = SourceFile::from_bytes("fuzz.dat", bytes.to_vec());
    if let Ok(matrix) = Imatrix::read_with(file, &mut budget) {
        for entry in matrix.entries.values() {
            assert!(entry.values.iter().all(|v| *v >= 0.0 && v.is_finite()));
        }
        matrix.quantize_keys("fuzz.dat");
    }
    let file = SourceFile::from_bytes("fuzz.gguf", bytes.to_vec());
    if let Ok(sums) = ImatrixSums::read(file, &Limits::default()) {
        for entry in sums.entries.values() {
            assert_eq!(entry.sums.len() % entry.counts.len(), 0);
        }
    }
    assert!(budget.peak() <= 8 * bytes.len() as u64 + (1 << 20));
});
