//! A sound file made from the input, then a few of its fields overwritten.
#![no_main]
use gguf_io::{Budget, GgufFile, Layout, Limits, Metadata, SourceFile, TensorSpec};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use quant_core::GgmlType;

fn build(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (mut metadata, mut specs) = (Metadata::new(), Vec::new());
    for i in 0..u.int_in_range(0..=5)? {
        match u.arbitrary()? {
            Some(true) => metadata.insert(format!("k{i}"), u.arbitrary::<String>()?),
            Some(false) => metadata.insert(format!("k{i}"), u.arbitrary::<Vec<i32>>()?),
            None => metadata.insert(format!("k{i}"), u.arbitrary::<u32>()?),
        };
    }
    for i in 0..u.int_in_range(0..=4)? {
        let ty = *u.choose(GgmlType::ALL)?;
        let shape = vec![ty.block_len() as u64, u.int_in_range(0..=2)?];
        specs.push(TensorSpec { name: format!("t{i}"), ty, shape });
    }
    let layout = Layout::new(&metadata, &specs).expect("a sound layout");
    let mut bytes = layout.header;
    bytes.resize(layout.total as usize, 0);
    for _ in 0..u.int_in_range(0..=4)? {
        let at = u.choose_index(bytes.len())?;
        let value = *u.choose(&[0, 1, u64::MAX, 1 << 63, 1 << 60, 1 << 32, 13, 9])?;
        let end = (at + 8).min(bytes.len());
        bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
    }
    Ok(bytes)
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(bytes) = build(&mut Unstructured::new(input)) else { return };
    let (mut budget, len) = (Budget::new(&Limits::default()), bytes.len() as u64);
    let file = GgufFile::read_with(SourceFile::from_bytes("f", bytes), &mut budget);
    let _ = file.map(|file| file.check_data().and_then(|()| file.check_padding()));
    assert!(budget.peak() <= 8 * len + (1 << 20));
});
