//! A small model with any keys and weights is refused, or runs two tokens.
#![no_main]
use gguf_io::{GgufFile, Limits, SourceFile};
use libfuzzer_sys::arbitrary::Unstructured;
use quant_evaluate::{Model, Options, Session};
use quant_weights::Gguf;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut u = Unstructured::new(input);
    let Ok(Some(bytes)) = fuzz::models::model(&mut u) else { return };
    let file = GgufFile::read(SourceFile::from_bytes("fuzz", bytes), &Limits::default());
    let Ok(source) = Gguf::try_from(file.expect("it was just written")) else { return };
    let mut options = Options::default();
    options.memory = Some(16 << 20);
    let Ok(model) = Model::from_source(source, &options) else { return };
    let Ok(mut session) = Session::new(&model, 3) else { return };
    for token in u.arbitrary::<[u8; 2]>().unwrap_or_default() {
        let _ = session.forward(&[u32::from(token % 4)], 0..3, |_, row| assert!(!row.is_empty()));
    }
});
