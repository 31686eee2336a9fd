//! Any bytes, read as a GGUF file: no panic, no more memory than granted. What is whole can be edited,
//! split and merged.
#![no_main]

use gguf_io::{
    AnyGguf, Budget, GgufFile, Limits, SourceFile, Split,
    gguf::{edit::Edit, hash::hash, regroup::Regrouping},
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut budget = Budget::new(&Limits::default());
    let file = SourceFile::from_bytes("fuzz.gguf", bytes.to_vec());
    let typed = GgufFile::read_with(file.clone(), &mut budget);
    if let Ok(model) = &typed {
        let placed = model.check_data().is_ok();
        assert!(model.check_padding().is_ok() || !placed || bytes.iter().any(|b| *b != 0));
    }
    assert!(budget.peak() <= 8 * bytes.len() as u64 + (1 << 20));
    let any = AnyGguf::read_any(file, &Limits::default());
    assert!(any.is_ok() || typed.is_err());
    if let Ok(model) = any {
        let edit = Edit::new(&model, &model.metadata);
        let split = Regrouping::split(&model, "s.gguf".as_ref(), Split::Files(2));
        let merged = Regrouping::merge(&model, "m.gguf".as_ref());
        if model.check_any().is_ok() {
            hash(&model, true, &|_, _| {}).expect("all that is whole can be read");
        } else {
            assert!(edit.is_err() && split.is_err() && merged.is_err());
        }
    }
});
