//! Any tokenizer.json beside a sound checkpoint.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::open_with("tokenizer.json", bytes);
});
