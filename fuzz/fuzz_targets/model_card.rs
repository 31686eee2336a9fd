//! Any README.md, with or without front matter in YAML, beside a sound checkpoint: it is advice, so
//! the checkpoint is a model whatever it says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert!(fuzz::open_with("README.md", bytes));
});
