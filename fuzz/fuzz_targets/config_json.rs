//! Any config.json beside sound weights.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::open_with("config.json", bytes);
});
