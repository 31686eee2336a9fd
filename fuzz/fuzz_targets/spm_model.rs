//! Any tokenizer.model beside a sound checkpoint.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::open_with("tokenizer.model", bytes);
});
