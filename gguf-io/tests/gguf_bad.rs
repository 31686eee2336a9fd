//! GGUF files that are refused, each beside one that is not.

mod common;

use common::{Gguf, array, check_table, pair, row, small_gguf, tensor, text};
use gguf_io::{Error, GgufFile, Limits, SourceFile};

fn read(bytes: Vec<u8>) -> Result<GgufFile, Error> {
    GgufFile::read(SourceFile::from_bytes("m.gguf", bytes), &Limits::default())
}

fn read_and_check(bytes: Vec<u8>) -> Result<GgufFile, Error> {
    let file = read(bytes)?;
    file.check_data()?;
    Ok(file)
}

fn one_pair(pair: Vec<u8>) -> Vec<u8> {
    Gguf::new().pair(pair).build()
}

fn one_tensor(tensor: Vec<u8>, data: usize) -> Vec<u8> {
    Gguf::new().tensor(tensor).data(data).build()
}

fn version(version: u32) -> Vec<u8> {
    Gguf { version, ..Gguf::new() }.build()
}

fn alignment(n: u32) -> Vec<u8> {
    one_pair(pair("general.alignment", 4, n.to_le_bytes()))
}

#[test]
fn files_that_are_something_else() {
    let empty = Gguf::new().build();
    check_table(
        vec![
            row("empty", [], "NotAModel", &["m.gguf", "an empty file"], empty.clone()),
            row("html", *b"<!DOCTYPE html><html>", "NotAModel", &["web page"], empty.clone()),
            row(
                "lfs",
                *b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                "NotAModel",
                &["Git-LFS pointer", "git lfs pull"],
                empty.clone(),
            ),
            row("pickle", *b"PK\x03\x04\0\0\x08\x08\0\0", "NotAModel", &["pickle"], empty.clone()),
            row("other", *b"GGML\x01\0\0\0", "NotAModel", &["unknown format"], empty.clone()),
            row("CVE-2024-39720", *b"GGUF", "Truncated", &["version", "byte 4"], empty.clone()),
            row(
                "big-endian",
                [b"GGUF".as_slice(), &3u32.to_be_bytes(), &[0; 16]].concat(),
                "Unsupported",
                &["big-endian", "little-endian"],
                empty,
            ),
            row("version 0", version(0), "Unsupported", &["version 0", "2 and 3"], version(2)),
            row("version 1", version(1), "Unsupported", &["version 1", "2 and 3"], version(2)),
            row("version 4", version(4), "Unsupported", &["version 4", "2 and 3"], version(3)),
        ],
        read,
    );
}

#[test]
fn counts_and_lengths() {
    let count = |n_tensors, n_pairs| Gguf { n_tensors, n_pairs, ..Gguf::new() }.build();
    let mut rows = Vec::new();
    for n in [u64::MAX, 1 << 40, 1] {
        rows.push(row(
            "n_tensors",
            count(Some(n), None),
            "Truncated",
            &["number of tensors", "byte 8"],
            count(None, None),
        ));
        rows.push(row(
            "n_kv",
            count(None, Some(n)),
            "Truncated",
            &["key-value", "byte 16"],
            count(None, None),
        ));
    }
    let strings = |n| one_pair(pair("k", 9, array(8, n, text("v"))));
    let numbers = |n| one_pair(pair("k", 9, array(4, n, [0; 4])));
    rows.extend([
        row("CVE-2024-21825 strings", strings((1 << 60) + 1), "Truncated", &["\"k\""], strings(1)),
        row("CVE-2024-21825 u32", numbers((1 << 62) + 1), "Truncated", &["\"k\""], numbers(1)),
        row(
            "CVE-2024-23496",
            one_pair([u64::MAX.to_le_bytes().as_slice(), &[0; 32]].concat()),
            "Malformed",
            &["key at byte 24", "18446744073709551615", "65535"],
            one_pair(pair(vec![b'k'; 65535], 0, [0])),
        ),
        row(
            "key of 65536",
            one_pair(pair(vec![b'k'; 65536], 0, [0])),
            "Malformed",
            &["65536"],
            one_pair(pair("k", 0, [0])),
        ),
        row(
            "#24884 empty key",
            one_pair(pair("", 4, [0; 8])),
            "Malformed",
            &["0 bytes"],
            one_pair(pair("k", 4, [0; 4])),
        ),
        row(
            "value length wraps",
            one_pair(pair("k", 8, u64::MAX.to_le_bytes())),
            "Truncated",
            &["\"k\""],
            one_pair(pair("k", 8, text(""))),
        ),
    ]);
    check_table(rows, read);
}

#[test]
fn keys_and_values() {
    let nested = {
        // Arrays of one array, a hundred thousand deep.
        let mut value = Vec::new();
        for _ in 0..100_000 {
            value.extend(array(9, 1, []));
        }
        one_pair(pair("deep", 9, value))
    };
    let twice =
        |second: &str| Gguf::new().pair(pair("k", 0, [1])).pair(pair(second, 0, [2])).build();
    let bools = |b: u8| one_pair(pair("flags", 9, array(7, 2, [0, b])));
    check_table(
        vec![
            row(
                "hf.js#2020",
                nested,
                "Malformed",
                &["\"deep\"", "array of arrays"],
                one_pair(pair("flat", 9, array(0, 1, [0]))),
            ),
            row(
                "duplicate key",
                twice("k"),
                "Duplicate",
                &["key \"k\"", "byte 24", "byte 38"],
                twice("l"),
            ),
            row(
                "not UTF-8",
                one_pair(pair(b"\xffk", 0, [0])),
                "Malformed",
                &["UTF-8", "byte 24"],
                one_pair(pair("ké", 0, [0])),
            ),
            row(
                "control characters",
                one_pair(pair("k\n\x1b", 7, [2])),
                "Malformed",
                &["key \"k\\n\\u{1b}\""],
                one_pair(pair("k\n", 7, [1])),
            ),
            row(
                "bool 2",
                one_pair(pair("b", 7, [2])),
                "Malformed",
                &["\"b\"", "bool 2"],
                one_pair(pair("b", 7, [1])),
            ),
            row("bool array", bools(255), "Malformed", &["bool 255"], bools(1)),
            row(
                "type 13",
                one_pair(pair("k", 13, [0; 8])),
                "Malformed",
                &["value type 13"],
                one_pair(pair("k", 12, [0; 8])),
            ),
            row(
                "element type",
                one_pair(pair("k", 9, array(77, 0, []))),
                "Malformed",
                &["value type 77"],
                one_pair(pair("k", 9, array(0, 0, []))),
            ),
            row(
                "CVE-2025-0317",
                alignment(0),
                "Malformed",
                &["general.alignment", "alignment 0", "power of two"],
                alignment(8),
            ),
            row("alignment 13", alignment(13), "Malformed", &["alignment 13"], alignment(16)),
            row("alignment 4", alignment(4), "Malformed", &["alignment 4"], alignment(8)),
            row(
                "alignment 2 MiB",
                alignment(2 << 20),
                "Malformed",
                &["2097152"],
                alignment(1 << 20),
            ),
            row(
                "alignment type",
                one_pair(pair("general.alignment", 10, 32u64.to_le_bytes())),
                "Malformed",
                &["UINT64", "UINT32"],
                alignment(32),
            ),
        ],
        read,
    );
}

#[test]
fn tensors() {
    let dims = |n: u32| {
        let mut description = text("t");
        description.extend(n.to_le_bytes());
        description.extend([1u64; 5].iter().flat_map(|d| d.to_le_bytes()));
        description.extend([0; 12]);
        one_tensor(description, 32)
    };
    let shape = |shape: &[u64], ty| one_tensor(tensor("t", shape, ty, 0), 32);
    let two = |a: &str, b: &str| {
        Gguf::new().tensor(tensor(a, &[1], 0, 0)).tensor(tensor(b, &[1], 0, 32)).data(64).build()
    };
    let named = |name: &[u8]| one_tensor(tensor(name, &[1], 0, 0), 32);
    let good = shape(&[1], 0);
    check_table(
        vec![
            row(
                "CVE-2024-21802",
                dims(5),
                "Malformed",
                &["\"t\"", "5 dimensions"],
                shape(&[1; 4], 0),
            ),
            row("n_dims", dims(u32::MAX), "Malformed", &["4294967295"], shape(&[], 0)),
            row(
                "CVE-2025-53630",
                shape(&[1 << 60], 27),
                "Malformed",
                &["2^63"],
                shape(&[1 << 50], 27),
            ),
            row(
                "CVE-2026-33298",
                shape(&[0x7FFF_FFFF_FFFF_FFC0], 24),
                "Malformed",
                &["2^63"],
                shape(&[1 << 60], 24),
            ),
            row(
                "CVE-2026-27940",
                shape(&[1 << 31, 1 << 30], 27),
                "Malformed",
                &["2^63"],
                shape(&[1 << 31, 1 << 20], 27),
            ),
            row(
                "elements wrap",
                shape(&[1 << 32, 1 << 32], 24),
                "Malformed",
                &["2^63"],
                shape(&[0, 5], 24),
            ),
            row(
                "negative dimension",
                shape(&[1 << 63, 0], 0),
                "Malformed",
                &["2^63"],
                shape(&[0, 1 << 20], 0),
            ),
            row(
                "llama.cpp#19856",
                shape(&[1], u32::MAX),
                "Unsupported",
                &["\"t\"", "4294967295", "Q4_K", "BF16"],
                shape(&[1], 30),
            ),
            row(
                "removed type",
                shape(&[32], 31),
                "Unsupported",
                &["Q4_0_4_4", "removed"],
                shape(&[32], 2),
            ),
            row(
                "row not divisible",
                shape(&[255], 12),
                "Malformed",
                &["255", "256", "Q4_K"],
                shape(&[256], 12),
            ),
            row(
                "duplicate",
                two("t", "t"),
                "Duplicate",
                &["tensor \"t\"", "byte 24", "byte 57"],
                two("t", "u"),
            ),
            row("empty name", named(b""), "Malformed", &["0 bytes"], good.clone()),
            row(
                "name of 64",
                named(&[b'n'; 64]),
                "Malformed",
                &["64 bytes", "63"],
                named(&[b'n'; 63]),
            ),
            row("name not UTF-8", named(b"\xc3"), "Malformed", &["UTF-8"], named("é".as_bytes())),
            row("escaped", shape(&[1], 99), "Unsupported", &["type 99"], good),
            row(
                "control characters",
                one_tensor(tensor("a\n\x1b[2J", &[1], 99, 0), 32),
                "Unsupported",
                &["\\n", "\\u{1b}"],
                named(b"a\n"),
            ),
            row(
                "offset wraps",
                one_tensor(tensor("t", &[1], 0, u64::MAX - 31), 32),
                "Malformed",
                &["2^63"],
                one_tensor(tensor("t", &[1], 0, 1 << 40), 32),
            ),
        ],
        read,
    );
}

#[test]
fn data_out_of_place() {
    let two = |offset, data| {
        Gguf::new()
            .tensor(tensor("a", &[8], 0, 0))
            .tensor(tensor("b", &[9], 0, offset))
            .data(data)
            .build()
    };
    let good = two(32, 96);
    check_table(
        vec![
            row(
                "CVE-2026-7482",
                one_tensor(tensor("w", &[1024, 1024], 0, 0), 32),
                "Truncated",
                &["\"w\"", "4194304", "32"],
                one_tensor(tensor("w", &[1024, 1024], 0, 0), 4 << 20),
            ),
            row("overlap", two(0, 96), "Malformed", &["\"b\"", "overlaps"], good.clone()),
            row("gap", two(64, 128), "Malformed", &["\"b\"", "gap"], good.clone()),
            row(
                "unaligned",
                two(33, 96),
                "Malformed",
                &["\"b\"", "not aligned to 32"],
                good.clone(),
            ),
            row(
                "disorder",
                Gguf::new()
                    .tensor(tensor("a", &[8], 0, 32))
                    .tensor(tensor("b", &[8], 0, 0))
                    .data(64)
                    .build(),
                "Malformed",
                &["\"a\"", "gap"],
                Gguf::new()
                    .tensor(tensor("a", &[8], 0, 0))
                    .tensor(tensor("b", &[8], 0, 32))
                    .data(64)
                    .build(),
            ),
            row("trailing", two(32, 97), "Malformed", &["1 more bytes"], good.clone()),
            row("cut", two(32, 67), "Truncated", &["\"b\"", "36", "35"], two(32, 68)),
            row(
                "trailing without tensors",
                Gguf::new().data(1).build(),
                "Malformed",
                &["1 more bytes"],
                Gguf::new().build(),
            ),
        ],
        read_and_check,
    );
    // All of them have sound headers.
    for bytes in [two(0, 96), two(64, 128), two(32, 97), two(32, 5)] {
        read(bytes).unwrap();
    }
}

#[test]
fn empty_tensors_and_scalars_are_fine() {
    let file = read_and_check(
        Gguf::new()
            .tensor(tensor("none", &[0, 7], 0, 0))
            .tensor(tensor("blocks", &[0], 12, 0))
            .tensor(tensor("scalar", &[], 0, 0))
            .data(4)
            .build(),
    )
    .unwrap();
    let sizes: Vec<_> = file.tensors.iter().map(|t| (t.bytes, t.shape.clone())).collect();
    assert_eq!(sizes, [(0, vec![0, 7]), (0, vec![0]), (4, vec![1])]);

    // The padding at the end may be missing, also before what needs no bytes.
    for name in ["a", "ab", "abc"] {
        read_and_check(Gguf::new().tensor(tensor(name, &[0], 0, 0)).build()).unwrap();
    }
    let mut tensors = Gguf::new().tensor(tensor("scalar", &[], 0, 0));
    tensors = tensors.tensor(tensor("none", &[0], 0, 32)).data(4);
    read_and_check(tensors.build()).unwrap();
}

#[test]
fn every_truncation_is_noticed() {
    let whole = small_gguf();
    let file = read_and_check(whole.clone()).unwrap();
    let last = file.tensors.last().unwrap();
    let needed = (last.offset + last.bytes) as usize;
    for len in 0..whole.len() {
        let result = read_and_check(whole[..len].to_vec());
        // The padding at the end may be missing, nothing else.
        assert_eq!(result.is_ok(), len >= needed, "{len} of {}: {result:?}", whole.len());
    }
}

#[test]
fn a_file_may_not_claim_more_memory_than_granted() {
    let strings = one_pair(pair("k", 9, array(8, 200_000, vec![0; 1_600_000])));
    let file = || SourceFile::from_bytes("m.gguf", strings.clone());
    GgufFile::read(file(), &Limits::default()).unwrap();
    common::assert_error(
        GgufFile::read(file(), &Limits::with_heap(1 << 20)),
        "LimitsExceeded",
        &["m.gguf", "\"k\"", "1048576"],
    );
}
