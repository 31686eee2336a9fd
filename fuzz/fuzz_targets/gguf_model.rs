//! A small model of any architecture, with any of its keys and tensors changed.
#![no_main]
use gguf_io::{Metadata, Value, metadata::GgufString};
use gguf_model::{ALL, HyperParameters, Need, check};
use libfuzzer_sys::arbitrary::{Result, Unstructured};

fn value(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=8)? {
        0 => u.arbitrary::<u32>()?.into(),
        1 => u32::from(u.arbitrary::<u8>()?).into(),
        2 => u.arbitrary::<i32>()?.into(),
        3 => u.arbitrary::<u64>()?.into(),
        4 => u.arbitrary::<f32>()?.into(),
        5 => u.arbitrary::<bool>()?.into(),
        6 => u.arbitrary::<String>()?.into(),
        7 => u.arbitrary::<Vec<i32>>()?.into(),
        _ => u.arbitrary::<Vec<u32>>()?.into(),
    })
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let architecture = *u.choose(ALL)?;
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture.name);
    metadata.insert("tokenizer.ggml.model", "llama");
    metadata.insert("tokenizer.ggml.tokens", vec![GgufString::from("a"), GgufString::from("b")]);
    for key in architecture.keys() {
        if u.arbitrary()? {
            metadata.insert(format!("{}.{}", architecture.name, key.name), value(u)?);
        }
    }
    for name in ["model", "tokens", "scores", "token_type", "bos_token_id", "pre"] {
        if u.ratio(1, 8)? {
            metadata.insert(format!("tokenizer.ggml.{name}"), value(u)?);
        }
    }
    let mut tensors = Vec::new();
    if let Ok(parameters) = HyperParameters::read(&metadata, architecture) {
        for expected in architecture.tensors(&parameters).take(200) {
            if expected.slot.need == Need::Required || u.arbitrary()? {
                let shape: Vec<_> = expected.shape.iter().map(|n| n.unwrap_or(1)).collect();
                assert!(expected.fits(&shape));
                tensors.push((expected.name(), shape));
            }
        }
    }
    for _ in 0..u.int_in_range(0..=3)? {
        tensors.push((u.arbitrary()?, u.arbitrary()?));
    }
    let report = check(&metadata, tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())));
    assert!(report.problem_count >= report.problems.len() as u64);
    assert!(report.problems.iter().all(|problem| !problem.message.contains('\n')));
    assert!(report.notes.iter().all(|note| !note.contains('\n')));
    Ok(())
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = run(&mut Unstructured::new(input));
});
