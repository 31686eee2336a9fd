//! GGUF files written and read back, and models in several files.
#![allow(clippy::unwrap_used, reason = "helpers of tests too")]

mod common;

use std::path::Path;

use common::{assert_error, small_gguf};
use gguf_io::{
    AnyGguf, Array, GgufFile, GgufString, Layout, Limits, Metadata, OutputOptions, SourceFile,
    TensorSpec, Value,
};
use quant_core::{GgmlType, QTensor};

fn spec(name: &str, ty: GgmlType, shape: &[u64]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), ty, shape: shape.to_vec() }
}

fn every_type() -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("u8", 200u8);
    metadata.insert("i8", -1i8);
    metadata.insert("u16", 60_000u16);
    metadata.insert("i16", -2i16);
    metadata.insert("u32", u32::MAX);
    metadata.insert("i32", i32::MIN);
    metadata.insert("f32", f32::MIN_POSITIVE);
    metadata.insert("bool", true);
    metadata.insert("string", Value::String(GgufString::from(b"\xff\0".to_vec())));
    metadata.insert("u64", u64::MAX);
    metadata.insert("i64", i64::MIN);
    metadata.insert("f64", -0.0f64);
    metadata.insert("u8s", vec![1u8, 2]);
    metadata.insert("i8s", vec![-1i8]);
    metadata.insert("u16s", vec![1u16]);
    metadata.insert("i16s", vec![-1i16]);
    metadata.insert("u32s", vec![1u32]);
    metadata.insert("i32s", vec![-1i32]);
    metadata.insert("f32s", vec![0.5f32; 5]);
    metadata.insert("bools", vec![true, false]);
    metadata.insert("strings", vec![GgufString::from("a"), GgufString::from("")]);
    metadata.insert("u64s", vec![1u64]);
    metadata.insert("i64s", vec![-1i64]);
    metadata.insert("f64s", Value::Array(Array::Float64(Vec::new())));
    metadata
}

fn build(metadata: &Metadata, tensors: &[TensorSpec]) -> (Layout, Vec<u8>) {
    let layout = Layout::new(metadata, tensors).unwrap();
    let mut bytes = layout.header.clone();
    bytes.resize(layout.total as usize, 0);
    (layout, bytes)
}

#[test]
fn what_is_laid_out_is_read_back() {
    for alignment in [None, Some(8u32), Some(64), Some(1 << 20)] {
        let mut metadata = every_type();
        if let Some(alignment) = alignment {
            metadata.insert("general.alignment", alignment);
        }
        let tensors = [
            spec("a", GgmlType::Q4_K, &[512, 3]),
            spec("b", GgmlType::F32, &[]),
            spec("c", GgmlType::F16, &[0, 4]),
            spec("d", GgmlType::I8, &[1, 2, 3, 5]),
        ];
        let (layout, bytes) = build(&metadata, &tensors);
        let file = GgufFile::read(SourceFile::from_bytes("m", bytes), &Limits::default()).unwrap();
        file.check_data().unwrap();
        assert_eq!(file.version, 3);
        assert_eq!(file.alignment, u64::from(alignment.unwrap_or(32)));
        assert_eq!(file.metadata, metadata);
        assert!(file.metadata.iter().eq(metadata.iter()), "the order of the keys");
        assert_eq!(layout.header.len() as u64 % file.alignment, 0);
        assert_eq!(layout.total % file.alignment, 0);
        for ((read, placed), spec) in file.tensors.iter().zip(&layout.tensors).zip(&tensors) {
            assert_eq!(
                (&read.name, read.ty, &read.shape),
                (&placed.name, placed.ty, &placed.shape)
            );
            assert_eq!((read.offset, read.bytes), (placed.offset, placed.bytes));
            assert_eq!((&spec.name, spec.ty), (&read.name, read.ty));
        }
        // Reading does not normalize: laying out what was read gives the same bytes.
        let again: Vec<_> = file.tensors.iter().map(|t| spec(&t.name, t.ty, &t.shape)).collect();
        assert_eq!(Layout::new(&file.metadata, &again).unwrap(), layout);
    }
}

#[test]
fn the_header_is_the_one_in_the_specification() {
    let mut metadata = Metadata::new();
    metadata.insert("k", 7u8);
    let layout = Layout::new(&metadata, &[spec("t", GgmlType::F32, &[2])]).unwrap();
    let mut expected = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    expected.extend(b"\x01\0\0\0\0\0\0\0k\0\0\0\0\x07");
    expected.extend(b"\x01\0\0\0\0\0\0\0t\x01\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    expected.resize(expected.len().next_multiple_of(32), 0);
    assert_eq!(layout.header, expected);
    assert_eq!(layout.tensors[0].offset, 96);
    assert_eq!(layout.total, 128);
}

#[test]
fn layouts_that_readers_would_refuse() {
    let f32 = |name: &str, shape: &[u64]| spec(name, GgmlType::F32, shape);
    let empty = Metadata::new();
    let mut bad_alignment = Metadata::new();
    bad_alignment.insert("general.alignment", 13u32);
    let mut empty_key = Metadata::new();
    empty_key.insert("", 1u8);
    for (metadata, tensors, says) in [
        (&bad_alignment, vec![], "alignment 13"),
        (&empty_key, vec![], "0 bytes"),
        (&empty, vec![f32("t", &[1]), f32("t", &[1])], "twice"),
        (&empty, vec![f32("", &[1])], "0 bytes"),
        (&empty, vec![f32(&"n".repeat(64), &[1])], "64 bytes"),
        (&empty, vec![f32("t", &[1; 5])], "5 dimensions"),
        (&empty, vec![spec("t", GgmlType::Q4_K, &[255])], "multiple of 256"),
        (&empty, vec![f32("t", &[1 << 62])], "2^63"),
        (&empty, vec![f32("t", &[1 << 60]), f32("u", &[1 << 60])], "2^63"),
    ] {
        assert_error(Layout::new(metadata, &tensors), "Layout", &["output", says]);
    }
    Layout::new(&empty, &[f32(&"n".repeat(63), &[1; 4]), f32("u", &[1 << 60])]).unwrap();
}

/// Writes a shard with one tensor, or more.
fn shard(dir: &Path, file: &str, no: u16, count: u16, total: i32, tensors: &[&str]) {
    shard_with(Metadata::new(), dir, file, no, count, total, tensors);
}

fn shard_with(
    mut metadata: Metadata,
    dir: &Path,
    file: &str,
    no: u16,
    count: u16,
    total: i32,
    tensors: &[&str],
) {
    metadata.insert("split.no", no);
    metadata.insert("split.count", count);
    metadata.insert("split.tensors.count", total);
    let specs: Vec<_> = tensors.iter().map(|name| spec(name, GgmlType::F32, &[3])).collect();
    std::fs::write(dir.join(file), build(&metadata, &specs).1).unwrap();
}

fn three(dir: &Path) {
    shard(dir, "m-00001-of-00003.gguf", 0, 3, 3, &[]);
    shard(dir, "m-00002-of-00003.gguf", 1, 3, 3, &["a", "b"]);
    shard(dir, "m-00003-of-00003.gguf", 2, 3, 3, &["c"]);
}

fn open(path: &Path) -> gguf_io::Result<GgufFile> {
    GgufFile::open(path, &Limits::default())
}

#[test]
fn shards_are_one_model() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    let model = open(&dir.path().join("m-00001-of-00003.gguf")).unwrap();
    model.check_data().unwrap();
    let places: Vec<_> = model.tensors.iter().map(|t| (t.name.as_str(), t.file)).collect();
    assert_eq!(places, [("a", 1), ("b", 1), ("c", 2)]);
    assert_eq!(model.files.len(), 3);
    // Damage in any shard is found.
    let last = dir.path().join("m-00003-of-00003.gguf");
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, [bytes, vec![0]].concat()).unwrap();
    let model = open(&dir.path().join("m-00001-of-00003.gguf")).unwrap();
    assert_error(model.check_data(), "Malformed", &["m-00003-of-00003.gguf", "1 more bytes"]);
}

#[test]
fn shards_that_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let first = dir.join("m-00001-of-00003.gguf");
    three(dir);
    assert_error(
        open(&dir.join("m-00002-of-00003.gguf")),
        "Set",
        &["shard 2 of 3", "m-00001-of-00003.gguf"],
    );

    std::fs::remove_file(dir.join("m-00002-of-00003.gguf")).unwrap();
    std::fs::write(dir.join("m-00003-of-00003.gguf"), b"").unwrap();
    assert_error(
        open(&first),
        "Set",
        &["shard 2 is missing", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf: is an empty file"],
    );

    three(dir);
    shard(dir, "m-00002-of-00003.gguf", 2, 3, 3, &["c"]);
    shard(dir, "m-00003-of-00003.gguf", 1, 4, 3, &["a", "b"]);
    assert_error(open(&first), "Set", &["split.no is 2, expected 1", "split.no is 1, expected 2"]);

    three(dir);
    shard(dir, "m-00003-of-00003.gguf", 2, 4, 3, &["c"]);
    assert_error(open(&first), "Set", &["split.count is 4, expected 3"]);

    three(dir);
    shard(dir, "m-00003-of-00003.gguf", 2, 3, 3, &["a"]);
    assert_error(open(&first), "Set", &["tensor \"a\" is in shard 2 and in shard 3"]);

    three(dir);
    shard(dir, "m-00003-of-00003.gguf", 2, 3, 3, &["c", "d"]);
    assert_error(open(&first), "Set", &["split.tensors.count says 3", "4 tensors"]);

    three(dir);
    std::fs::rename(&first, dir.join("model.gguf")).unwrap();
    assert_error(open(&dir.join("model.gguf")), "Set", &["not named like one", "-00001-of-00003"]);
    std::fs::rename(dir.join("model.gguf"), dir.join("m-00001-of-00004.gguf")).unwrap();
    assert_error(
        open(&dir.join("m-00001-of-00004.gguf")),
        "Set",
        &["says 3 shards, the file name 4"],
    );

    three(dir);
    shard(dir, "m-00001-of-00003.gguf", 1, 3, 3, &[]);
    assert_error(open(&first), "Set", &["shard 1 of 3 by its name", "split.no says 1"]);

    // One shard is a whole model, whatever its name.
    shard(dir, "alone.gguf", 0, 1, 1, &["a"]);
    open(&dir.join("alone.gguf")).unwrap();
}

#[test]
fn shards_of_other_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let keys: [(&str, gguf_io::Value, gguf_io::Value, &str); 6] = [
        (
            "general.architecture",
            "llama".into(),
            "qwen2".into(),
            "is \"qwen2\", in the first shard \"llama\"",
        ),
        ("general.file_type", 15u32.into(), 7u32.into(), "is 7, in the first shard 15"),
        (
            "llama.rope.freq_base",
            1e4f32.into(),
            5e5f32.into(),
            "is 500000, in the first shard 10000",
        ),
        ("llama.use_parallel_residual", true.into(), false.into(), "is false"),
        ("tokenizer.ggml.tokens", ["a", "b"].into(), ["a"].into(), "another list of 1"),
        ("general.name", "\u{1}".into(), 3u8.into(), "is 3, in the first shard \"\\u{1}\""),
    ];
    let first = dir.join("m-00001-of-00002.gguf");
    let write = |key: &str, values: [Option<&gguf_io::Value>; 2]| {
        for (no, value) in (0..).zip(values) {
            let mut metadata = Metadata::new();
            value.into_iter().for_each(|value| _ = metadata.insert(key, value.clone()));
            let name = format!("m-0000{}-of-00002.gguf", no + 1);
            shard_with(metadata, dir, &name, no, 2, 2, &[["a", "b"][no as usize]]);
        }
    };
    for (key, one, other, says) in &keys {
        write(key, [Some(one), Some(other)]);
        assert_error(open(&first), "Set", &["m-00002-of-00002.gguf: key", key, says]);
        // Each shard may have the first's keys, as some programs write them; the others need none.
        for second in [Some(one), None] {
            write(key, [Some(one), second]);
            open(&first).unwrap();
        }
    }
    let widths = [gguf_io::Value::from(7u32), 7u64.into()];
    write("general.file_type", widths.each_ref().map(Some));
    open(&first).unwrap();
    let nan = gguf_io::Value::from(f32::NAN);
    write("a", [Some(&nan), Some(&nan)]);
    open(&first).unwrap();
    write("general.alignment", [None, Some(&64u32.into())]);
    open(&first).unwrap();
}

#[test]
fn only_regular_files_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    assert_error(open(dir.path()), "WrongKind", &["a folder", "a regular file"]);
    assert_error(open(&dir.path().join("none.gguf")), "Io", &["none.gguf", "cannot open"]);
    #[cfg(unix)]
    {
        let pipe = dir.path().join("pipe");
        // rustix has no mkfifo; the tool is everywhere.
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if made.is_ok_and(|status| status.success()) {
            assert_error(open(&pipe), "WrongKind", &["a pipe"]);
        }
        assert_error(open(Path::new("/dev/null")), "WrongKind", &["device"]);
        std::fs::write(dir.path().join("real"), small_gguf()).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        open(&dir.path().join("link")).unwrap();
    }
}

#[test]
fn changes_and_links_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, small_gguf()).unwrap();
    let file = SourceFile::open(&path).unwrap();
    file.check_unchanged().unwrap();
    assert!(file.is_same_file(&path));
    std::fs::hard_link(&path, dir.path().join("hard")).unwrap();
    assert!(file.is_same_file(&dir.path().join("hard")));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&path, dir.path().join("soft")).unwrap();
        assert!(file.is_same_file(&dir.path().join("soft")));
    }
    std::fs::write(dir.path().join("copy"), small_gguf()).unwrap();
    assert!(!file.is_same_file(&dir.path().join("copy")));
    assert!(!file.is_same_file(&dir.path().join("absent")));
    assert!(!SourceFile::from_bytes(&path, vec![]).is_same_file(&path));

    let writer = std::fs::File::options().append(true).open(&path).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(7);
    writer.set_modified(later).unwrap();
    assert_error(file.check_unchanged(), "Changed", &["m.gguf", "modification time"]);
    writer.set_len(10).unwrap();
    assert_error(file.check_unchanged(), "Changed", &["length"]);
    assert_error(file.read_exact_at(&mut [0; 8], 4), "Read", &["m.gguf", "byte 4", "8 bytes"]);
    file.read_exact_at(&mut [0; 6], 4).unwrap();
}

fn demo() -> (Metadata, QTensor<'static>, QTensor<'static>, Layout) {
    let metadata = Metadata::from_iter([("general.architecture", "demo")]);
    let values: Vec<f32> = (0..96).map(|i| i as f32 * 0.25).collect();
    let up = QTensor::quantize(GgmlType::Q8_0, &[3, 32], &values).unwrap();
    let norm = QTensor::quantize(GgmlType::F32, &[5], &values[..5]).unwrap();
    let specs = [
        TensorSpec::of("blk.0.ffn_up.weight", &up),
        TensorSpec::new("none", GgmlType::F32, [0]),
        TensorSpec::of("output_norm.weight", &norm),
    ];
    let layout = Layout::new(&metadata, &specs).unwrap();
    (metadata, up, norm, layout)
}

#[test]
fn a_file_is_written_by_name_and_read_by_name() {
    let (metadata, up, norm, layout) = demo();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.gguf");
    let writer = layout.clone().create(&path, OutputOptions::default()).unwrap();
    // In parts, from two threads, and in another order than the layout's.
    writer.write("output_norm.weight", norm.bytes()).unwrap();
    let (front, back) = up.bytes().split_at(40);
    std::thread::scope(|scope| {
        for (part, offset) in [(front, 0), (back, 40)] {
            let writer = &writer;
            scope.spawn(move || writer.write_at("blk.0.ffn_up.weight", part, offset).unwrap());
        }
    });
    writer.finish().unwrap();

    let file = GgufFile::open(&path, &Limits::default()).unwrap();
    file.check_data().unwrap();
    file.check_padding().unwrap();
    assert_eq!(file.metadata, metadata);
    let stored = file.tensor("blk.0.ffn_up.weight").unwrap();
    assert_eq!((stored.elements(), stored.dims(), stored.ty), (96, vec![3, 32], GgmlType::Q8_0));
    assert_eq!(stored.read().unwrap(), up);
    assert_eq!(stored.as_slice(), None, "the file is not in memory");
    let mut bytes = vec![0; 20];
    file.tensor("output_norm.weight").unwrap().read_into(&mut bytes).unwrap();
    assert_eq!(bytes, norm.bytes());
    assert_error(
        file.tensor("output_norm.weight").unwrap().read_into(&mut bytes[..8]),
        "BufferLength",
        &["output_norm.weight", "8 bytes", "expected 20"],
    );
    assert_error(
        file.tensor("blk.0.ffn_up").map(|_| ()),
        "NoTensor",
        &["demo.gguf", "\"blk.0.ffn_up\"", "most like it is \"blk.0.ffn_up.weight\""],
    );
    assert_eq!(
        file.iter().map(|t| t.read_bytes().unwrap().len()).collect::<Vec<_>>(),
        [102, 0, 20]
    );

    // A stream has the same bytes, and a file in memory lends them.
    let mut stream = layout.clone().write_to(Vec::new()).unwrap();
    for part in up.bytes().chunks(7) {
        stream.append("blk.0.ffn_up.weight", part).unwrap();
    }
    stream.write("output_norm.weight", norm.bytes()).unwrap();
    let bytes = stream.finish().unwrap();
    assert_eq!(bytes, std::fs::read(&path).unwrap());
    let file = SourceFile::from_bytes("demo.gguf", std::sync::Arc::<[u8]>::from(bytes));
    let file = GgufFile::read(file, &Limits::default()).unwrap();
    let stored = file.tensor("blk.0.ffn_up.weight").unwrap();
    assert_eq!(stored.as_slice(), Some(up.bytes()));
    assert!(matches!(stored.read_bytes().unwrap(), std::borrow::Cow::Borrowed(_)));
    assert_eq!(
        AnyGguf::read_any(file.files[0].clone(), &Limits::default())
            .unwrap()
            .any_tensor("output_norm.weight")
            .unwrap()
            .as_slice(),
        Some(norm.bytes())
    );
}

#[test]
fn a_file_that_is_cut_short_lends_and_reads_nothing_beyond_its_end() {
    let (.., layout) = demo();
    let bytes = || layout.header.clone();
    let file = GgufFile::read(SourceFile::from_bytes("cut.gguf", bytes()), &Limits::default());
    let file = file.unwrap();
    let stored = file.tensor("output_norm.weight").unwrap();
    assert_eq!(stored.as_slice(), None);
    let says = ["cut.gguf", "output_norm.weight", "needs 20 bytes, found 0"];
    assert_error(stored.read(), "Truncated", &says);
    assert_error(stored.read_into(&mut [0; 20]), "Read", &["cut.gguf", "20 bytes"]);
    assert_eq!(file.tensor("none").unwrap().read().unwrap().elements(), 0);
}

#[test]
fn a_writer_refuses_what_is_missing_or_does_not_fit() {
    let (_, up, norm, layout) = demo();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.gguf");
    let create = || layout.clone().create(&path, OutputOptions::default()).unwrap();
    let writer = create();
    assert_error(writer.write("norm", &[]), "NoTensor", &["demo.gguf", "\"norm\""]);
    let says = ["output_norm.weight", "19 bytes", "expected 20"];
    assert_error(writer.write("output_norm.weight", &[0; 19]), "BufferLength", &says);
    for offset in [17, u64::MAX] {
        let says = ["output_norm.weight", "4 bytes of data", "none after its 20"];
        assert_error(writer.write_at("output_norm.weight", &[0; 4], offset), "Layout", &says);
    }
    writer.write_at("blk.0.ffn_up.weight", &up.bytes()[..100], 0).unwrap();
    // Twice the same bytes are no others.
    writer.write_at("blk.0.ffn_up.weight", &up.bytes()[..100], 0).unwrap();
    let says = ["demo.gguf", "ffn_up", "100 of its 102 bytes", "another one lacks data"];
    assert_error(writer.finish(), "Unwritten", &says);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");

    let mut stream = layout.clone().write_to(Vec::new()).unwrap();
    let says = ["output_norm.weight", "ffn_up", "which comes first"];
    assert_error(stream.write("output_norm.weight", norm.bytes()), "Layout", &says);
    stream.append("blk.0.ffn_up.weight", &up.bytes()[..100]).unwrap();
    let says = ["3 bytes of data", "the 2 that it lacks"];
    assert_error(stream.append("blk.0.ffn_up.weight", &[0; 3]), "Layout", &says);
    assert_error(stream.finish(), "Unwritten", &["100 of its 102 bytes"]);

    // A stream that fails once is not trusted again.
    let mut full = [0; 300];
    let mut stream = layout.write_to(&mut full[..]).unwrap();
    assert_error(stream.write("blk.0.ffn_up.weight", up.bytes()), "Write", &["the stream"]);
    assert_error(stream.write("blk.0.ffn_up.weight", up.bytes()), "Write", &["has failed before"]);
}

#[test]
fn operating_system_errors_are_sources() {
    let error = GgufFile::open("/nonexistent.gguf", &Limits::default()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.is::<std::io::Error>());
}
