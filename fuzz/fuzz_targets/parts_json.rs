//! Any adapter_config.json beside sound matrices, and any preprocessor_config.json or config.json beside a
//! sound encoder: refused, or a plan.
#![no_main]

use quant_convert::Plan;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((way, bytes)) = input.split_first() else { return };
    let (folder, options) = match way % 3 {
        0 => fuzz::adapter(bytes),
        1 => fuzz::encoder("preprocessor_config.json", bytes),
        _ => fuzz::encoder("config.json", bytes),
    };
    let plan = quant_convert::open(&folder, &options).and_then(|model| Plan::new(model, &options));
    if let Err(error) = plan.and_then(|plan| plan.check()) {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
    }
});
