//! What is read is written, and read again the same.
#![no_main]

use gguf_io::{GgufFile, Layout, Limits, SourceFile, TensorSpec};

fn read(bytes: Vec<u8>) -> Option<GgufFile> {
    GgufFile::read(SourceFile::from_bytes("fuzz.gguf", bytes), &Limits::default()).ok()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(first) = read(bytes.to_vec()).filter(|file| file.check_data().is_ok()) else { return };
    let spec = |t: &gguf_io::TensorInfo| TensorSpec {
        name: t.name.clone(),
        ty: t.ty,
        shape: t.shape.clone(),
    };
    let specs: Vec<_> = first.tensors.iter().map(spec).collect();
    // What the writer refuses, it refuses for a reason of its own, such as a key it makes itself.
    let Ok(layout) = Layout::new(&first.metadata, &specs) else { return };
    let mut out = layout.header.clone();
    out.resize(layout.total as usize, 0);
    // A tensor without bytes may begin past the end, where the padding before it is left out.
    for (old, new) in first.tensors.iter().zip(&layout.tensors).filter(|(old, _)| old.bytes > 0) {
        let data = &bytes[old.offset as usize..][..old.bytes as usize];
        out[new.offset as usize..][..data.len()].copy_from_slice(data);
    }
    let second = read(out).expect("what was written is read");
    second.check_data().expect("what was written is in its place");
    second.check_padding().expect("padding is zero");
    // NaNs in metadata are equal as text.
    assert_eq!(format!("{:?}", first.metadata), format!("{:?}", second.metadata));
    assert!(first.tensors.iter().map(spec).eq(second.tensors.iter().map(spec)));
});
