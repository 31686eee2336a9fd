//! Any bytes, read as a safetensors file: what is accepted, the reference accepts.
#![no_main]

use gguf_io::{Budget, Checkpoint, Limits, SourceFile};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut budget = Budget::new(&Limits::default());
    let file = SourceFile::from_bytes("fuzz.safetensors", bytes.to_vec());
    if let Ok(ours) = Checkpoint::read_with(vec![file], &mut budget) {
        let theirs = safetensors::SafeTensors::deserialize(bytes).expect("the reference refuses");
        assert_eq!(ours.tensors.len(), theirs.len());
        for (name, tensor) in &ours.tensors {
            let other = theirs.tensor(name).expect("the reference has it");
            let data = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
            assert_eq!(data, other.data());
        }
    }
    assert!(budget.peak() <= 8 * bytes.len() as u64 + (1 << 20));
});
