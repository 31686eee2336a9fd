//! Any bytes, read as a GGUF file: no panic, no more memory than granted.
#![no_main]

use gguf_io::{Budget, GgufFile, Limits, SourceFile};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut budget = Budget::new(&Limits::default());
    let file = SourceFile::from_bytes("fuzz.gguf", bytes.to_vec());
    if let Ok(model) = GgufFile::read_with(file, &mut budget) {
        let placed = model.check_data().is_ok();
        assert!(model.check_padding().is_ok() || !placed || bytes.iter().any(|b| *b != 0));
    }
    assert!(budget.peak() <= 8 * bytes.len() as u64 + (1 << 20));
});
