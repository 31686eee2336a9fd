//! Checkpoints: headers that are refused, each beside one that is not, and folders of files.
#![allow(clippy::unwrap_used, reason = "helpers of tests too")]

mod common;
#[path = "safetensors/folders.rs"]
mod folders;

use std::path::Path;

use common::{assert_error, check_table, row, safetensors, small_safetensors};
use gguf_io::{Checkpoint, Dtype, Error, Limits, SourceFile, safetensors::Preference};
use quant_core::GgmlType;

fn read(bytes: Vec<u8>) -> Result<Checkpoint, Error> {
    Checkpoint::read(vec![SourceFile::from_bytes("m.safetensors", bytes)], &Limits::default())
}

fn tensor(name: &str, dtype: &str, shape: &str, range: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{range}}}"#)
}

fn one(dtype: &str, shape: &str, range: &str) -> Vec<u8> {
    safetensors(&format!("{{{}}}", tensor("t", dtype, shape, range)), 4)
}

/// Two U8 tensors in 8 bytes of data.
fn two(names: [&str; 2], shapes: [&str; 2], ranges: [&str; 2]) -> Vec<u8> {
    let [a, b] = [0, 1].map(|i| tensor(names[i], "U8", shapes[i], ranges[i]));
    safetensors(&format!("{{{a},{b}}}"), 8)
}

#[test]
fn headers_that_are_refused() {
    let good = small_safetensors();
    let ab = |ranges| two(["a", "b"], ["[4]", "[4]"], ranges);
    let length = |n: u64| [&n.to_le_bytes()[..], &good[8..]].concat();
    let deep = |depth: usize| {
        safetensors(
            &format!(
                r#"{{"t":{{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":{}{}}}}}"#,
                "[".repeat(depth),
                "]".repeat(depth)
            ),
            1,
        )
    };
    let empty = safetensors("{}", 0);
    check_table(
        vec![
            row("empty file", [], "NotAModel", &["m.safetensors", "empty"], good.clone()),
            row(
                "lfs",
                *b"version https://git-lfs.github.com/spec/v1\n",
                "NotAModel",
                &["git lfs pull"],
                good.clone(),
            ),
            row("html", *b"<html><body>", "NotAModel", &["web page"], good.clone()),
            row(
                "gguf",
                common::small_gguf(),
                "NotAModel",
                &["a GGUF file", "a safetensors file"],
                good.clone(),
            ),
            row(
                "pickle",
                *b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j",
                "NotAModel",
                &["runs code"],
                good.clone(),
            ),
            row(
                "header past the end",
                length(good.len() as u64),
                "Truncated",
                &["header at byte 8"],
                good.clone(),
            ),
            row(
                "header over 100 MB",
                length(100_000_001),
                "Malformed",
                &["100000001", "100000000"],
                good.clone(),
            ),
            row(
                "header wraps",
                length(u64::MAX),
                "Malformed",
                &["18446744073709551615"],
                good.clone(),
            ),
            row(
                "not JSON",
                safetensors("{\"a\"", 0),
                "Malformed",
                &["header at byte 8", "column 4"],
                empty.clone(),
            ),
            row(
                "not a map",
                safetensors("[]", 0),
                "Malformed",
                &["a map of tensors"],
                empty.clone(),
            ),
            row(
                "text after",
                safetensors("{}{}", 0),
                "Malformed",
                &["trailing"],
                safetensors(" \n\t{} \n", 0),
            ),
            row(
                "not UTF-8",
                [&[2; 1][..], &[0; 7], b"\xff}"].concat(),
                "Malformed",
                &["UTF-8"],
                empty,
            ),
            row("deep", deep(100_000), "Malformed", &["recursion limit"], deep(100)),
            row(
                "deep metadata",
                safetensors(&format!(r#"{{"__metadata__":{}"#, "[".repeat(1000)), 0),
                "Malformed",
                &["a map of strings"],
                safetensors(r#"{"__metadata__":null}"#, 0),
            ),
            row(
                "duplicate",
                two(["a", "a"], ["[4]", "[4]"], ["[0,4]", "[4,8]"]),
                "Duplicate",
                &["tensor \"a\"", "[0, 4]", "[4, 8]"],
                ab(["[0,4]", "[4,8]"]),
            ),
            row(
                "duplicate, equal offsets",
                safetensors(&format!("{{{0},{0}}}", tensor("a", "U8", "[8]", "[0,8]")), 8),
                "Duplicate",
                &["tensor \"a\""],
                safetensors(&format!("{{{}}}", tensor("a", "U8", "[8]", "[0,8]")), 8),
            ),
            row(
                "duplicate, empty",
                safetensors(&format!("{{{0},{0}}}", tensor("a", "U8", "[0]", "[0,0]")), 0),
                "Duplicate",
                &["tensor \"a\""],
                safetensors(
                    &format!(
                        "{{{},{}}}",
                        tensor("a", "U8", "[0]", "[0,0]"),
                        tensor("b", "U8", "[0]", "[0,0]")
                    ),
                    0,
                ),
            ),
            row(
                "hole",
                two(["a", "b"], ["[3]", "[4]"], ["[0,3]", "[4,8]"]),
                "Malformed",
                &["\"b\"", "a hole", "3"],
                ab(["[4,8]", "[0,4]"]),
            ),
            row(
                "hole in front",
                ab(["[1,5]", "[5,9]"]),
                "Malformed",
                &["\"a\"", "a hole"],
                ab(["[0,4]", "[4,8]"]),
            ),
            row(
                "overlap",
                two(["a", "b"], ["[4]", "[5]"], ["[0,4]", "[3,8]"]),
                "Malformed",
                &["\"b\"", "an overlap"],
                ab(["[0,4]", "[4,8]"]),
            ),
            row(
                "reversed",
                ab(["[4,0]", "[4,8]"]),
                "Malformed",
                &["\"a\"", "[4, 0]"],
                ab(["[0,4]", "[4,8]"]),
            ),
            row(
                "data missing",
                ab(["[0,4]", "[4,8]"])[..].split_last().unwrap().1,
                "Truncated",
                &["\"b\"", "4", "3"],
                ab(["[0,4]", "[4,8]"]),
            ),
            row(
                "data left over",
                [ab(["[0,4]", "[4,8]"]), vec![0]].concat(),
                "Malformed",
                &["1 more bytes"],
                ab(["[0,4]", "[4,8]"]),
            ),
            row(
                "size",
                one("F32", "[2]", "[0,4]"),
                "Malformed",
                &["\"t\"", "[2] of F32", "8 bytes"],
                one("F32", "[1]", "[0,4]"),
            ),
            row(
                "shape wraps",
                one("U8", "[4294967296,4294967296,4]", "[0,4]"),
                "Malformed",
                &["\"t\""],
                one("U8", "[1,4]", "[0,4]"),
            ),
            row(
                "shape wraps to size",
                one("U8", "[9223372036854775810,2]", "[0,4]"),
                "Malformed",
                &["\"t\""],
                one("U8", "[2,2]", "[0,4]"),
            ),
            row(
                "half bytes",
                one("F4", "[7]", "[0,4]"),
                "Malformed",
                &["whole number of bytes"],
                one("F4", "[8]", "[0,4]"),
            ),
            row(
                "unknown dtype",
                one("F7", "[4]", "[0,4]"),
                "Unsupported",
                &["\"t\"", "\"F7\"", "BF16"],
                one("U8", "[4]", "[0,4]"),
            ),
            row(
                "negative",
                one("U8", "[-4]", "[0,4]"),
                "Malformed",
                &["-4"],
                one("I8", "[4]", "[0,4]"),
            ),
            row(
                "fraction",
                one("U8", "[4.5]", "[0,4]"),
                "Malformed",
                &["4.5"],
                one("U8", "[4]", "[0,4]"),
            ),
            row(
                "huge number",
                one("U8", "[1e999]", "[0,4]"),
                "Malformed",
                &["number out of range"],
                one("U8", "[4]", "[0,4]"),
            ),
            row(
                "nine dimensions",
                one("U8", "[1,1,1,1,1,1,1,1,4]", "[0,4]"),
                "Malformed",
                &["at most 8"],
                one("U8", "[1,1,1,1,1,1,1,4]", "[0,4]"),
            ),
            row(
                "three offsets",
                one("U8", "[4]", "[0,4,4]"),
                "Malformed",
                &["at most 2"],
                one("U8", "[4]", "[0,4]"),
            ),
            row(
                "one offset",
                one("U8", "[4]", "[4]"),
                "Malformed",
                &["1 data_offsets"],
                one("U8", "[4]", "[0,4]"),
            ),
            row(
                "no dtype",
                safetensors(r#"{"t":{"shape":[],"data_offsets":[0,0]}}"#, 0),
                "Malformed",
                &["\"t\"", "without dtype"],
                one("U8", "[4]", "[0,4]"),
            ),
            row(
                "field twice",
                safetensors(
                    r#"{"t":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#,
                    1,
                ),
                "Malformed",
                &["`dtype` twice", "\"t\""],
                safetensors(
                    r#"{"t":{"dtype":"U8","other":"I8","shape":[1],"data_offsets":[0,1]}}"#,
                    1,
                ),
            ),
            row(
                "control characters",
                safetensors(
                    r#"{"a\u000a\u001b":{"dtype":"F7","shape":[],"data_offsets":[0,1]}}"#,
                    1,
                ),
                "Unsupported",
                &["\\n\\u{1b}"],
                safetensors(r#"{"a\u000a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}"#, 1),
            ),
        ],
        read,
    );
}

#[test]
fn what_is_read() {
    let checkpoint = read(small_safetensors()).unwrap();
    let (names, tensors): (Vec<_>, Vec<_>) = checkpoint.tensors.iter().unzip();
    let data = small_safetensors().len() as u64 - 16;
    assert_eq!(names, ["a", "b"]);
    assert_eq!(
        (tensors[0].dtype, &*tensors[0].shape, tensors[0].offset, tensors[0].bytes),
        (Dtype::F16, &[2, 3][..], data, 12)
    );
    assert_eq!(
        (tensors[1].dtype, &*tensors[1].shape, tensors[1].offset, tensors[1].bytes),
        (Dtype::F32, &[][..], data + 12, 4)
    );
    // By place in the file, whatever the order in the header.
    let swapped = read(two(["a", "b"], ["[4]", "[4]"], ["[4,8]", "[0,4]"])).unwrap();
    assert_eq!(swapped.tensors.keys().collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn every_dtype_has_the_name_and_size_of_the_reference() {
    for &dtype in Dtype::ALL {
        // 8 elements take whole bytes whatever the type.
        let bytes = dtype.bits();
        let json = format!("{{{}}}", tensor("t", dtype.name(), "[8]", &format!("[0,{bytes}]")));
        let file = safetensors(&json, bytes as usize);
        safetensors_crate(&file).unwrap();
        assert_eq!(read(file).unwrap().tensors["t"].dtype, dtype);
    }
}

fn safetensors_crate(bytes: &[u8]) -> Result<(), safetensors::SafeTensorError> {
    safetensors::SafeTensors::deserialize(bytes).map(drop)
}

#[test]
fn every_truncation_is_noticed() {
    let whole = small_safetensors();
    for len in 0..whole.len() {
        assert!(read(whole[..len].to_vec()).is_err(), "{len} of {}", whole.len());
    }
    read(whole).unwrap();
}

#[test]
fn problems_beyond_a_screenful_are_counted() {
    let names: Vec<_> = (0..100).map(|i| format!("t{i}")).collect();
    let tensors: Vec<_> = names.iter().map(|name| tensor(name, "U8", "[0]", "[0,0]")).collect();
    let bytes = safetensors(&format!("{{{}}}", tensors.join(",")), 0);
    let files = ["a", "b"].map(|name| SourceFile::from_bytes(name, bytes.clone()));
    let result = Checkpoint::read(files.into(), &Limits::default());
    let Err(Error::Set { problems, .. }) = &result else { panic!("{result:?}") };
    assert_eq!((problems.first().len(), problems.count()), (24, 100));
    assert_error(result, "Set", &["tensor \"t0\" is in a and in b", "; and 76 more"]);
}

#[test]
fn tensors_are_read_by_name_and_metadata_is_kept() {
    let json = format!(
        r#"{{"__metadata__":{{"format":"pt","note":"x"}},{},{},{}}}"#,
        tensor("a.weight", "F16", "[2,2]", "[0,8]"),
        tensor("b.weight", "F8_E4M3", "[4]", "[8,12]"),
        tensor("c.scalar", "I32", "[]", "[12,16]")
    );
    let mut bytes = safetensors(&json, 16);
    let data = bytes.len() - 16;
    bytes[data..data + 8].copy_from_slice(&[0, 0x3c, 0, 0x40, 0, 0x42, 0, 0x44]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    std::fs::write(&path, &bytes).unwrap();
    let on_disk = Checkpoint::open_file(&path, &Limits::default()).unwrap();
    let in_memory = read(bytes).unwrap();
    for weights in [&on_disk, &in_memory] {
        assert_eq!(weights.metadata["format"], "pt");
        assert_eq!(weights.metadata.len(), 2);
        let stored = weights.tensor("a.weight").unwrap();
        let a = stored.read().unwrap();
        assert_eq!((a.shape(), a.dequantize().unwrap()), (&[2, 2][..], vec![1.0, 2.0, 3.0, 4.0]));
        assert_eq!((stored.elements(), stored.dims()), (4, vec![2, 2]));
        assert_eq!(weights.tensor("c.scalar").unwrap().read().unwrap().elements(), 1);
        let b = weights.tensor("b.weight").unwrap();
        assert_eq!(b.read_bytes().unwrap().len(), 4);
        let says = ["b.weight", "F8_E4M3", "supported: F64 F32 F16 BF16 I64 I32 I16 I8"];
        assert_error(b.read(), "Unsupported", &says);
        assert_eq!(weights.iter().count(), 3);
    }
    assert!(in_memory.tensor("a.weight").unwrap().as_slice().is_some());
    assert_error(on_disk.tensor("a.weigth").map(|_| ()), "NoTensor", &["\"a.weight\""]);
    assert_eq!(GgmlType::try_from(Dtype::BF16).unwrap(), GgmlType::BF16);
    assert_error(GgmlType::try_from(Dtype::C64), "UnknownName", &["C64", "type of GGUF files"]);
    assert_eq!("F8_E4M3".parse::<Dtype>().unwrap(), Dtype::F8E4M3);
    assert_error("F7".parse::<Dtype>(), "UnknownName", &["\"F7\" is no dtype", "BF16"]);
}

#[test]
fn metadata_is_paid_for() {
    let note = "x".repeat(1000);
    let many: Vec<_> = (0..2000).map(|i| format!(r#""k{i}":"{note}""#)).collect();
    let bytes = safetensors(&format!(r#"{{"__metadata__":{{{}}}}}"#, many.join(",")), 0);
    let file = || vec![SourceFile::from_bytes("m.safetensors", bytes.clone())];
    assert!(Checkpoint::read(file(), &Limits::default()).is_ok());
    let says = ["m.safetensors", "memory"];
    assert_error(Checkpoint::read(file(), &Limits::with_heap(3 << 20)), "LimitsExceeded", &says);
}
