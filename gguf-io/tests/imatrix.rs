//! Importance matrices in both formats.

mod common;

use common::{
    Gguf, array, check_table, imatrix_header, legacy_text, pair, row, small_imatrix, small_legacy,
    tensor, text,
};
use gguf_io::{
    Error, GgufString, Imatrix, Limits, SourceFile, Value,
    imatrix::{ImatrixSums, TensorSums},
};

fn read(bytes: Vec<u8>) -> Result<Imatrix, Error> {
    Imatrix::read(SourceFile::from_bytes("i", bytes), &Limits::default())
}

fn lenient(bytes: Vec<u8>) -> Result<Imatrix, Error> {
    Imatrix::read_lenient(SourceFile::from_bytes("i", bytes), &Limits::default())
}

/// An entry that nobody asks for must not spoil the others; one that is used is refused by name.
#[test]
fn a_broken_entry_leaves_the_others_usable_llama_cpp_7816() {
    let header = |v_type: u32| {
        let mut header = imatrix_header();
        header.tensors.push(tensor("v.in_sum2", &[2], v_type, 64));
        header.tensors.push(tensor("v.counts", &[1], 0, 96));
        header.tensors.push(tensor("x.counts", &[1], 0, 128));
        header.data(160).build()
    };
    let mut nan = header(0);
    let start = nan.len() - 160;
    nan[start + 64..start + 68].copy_from_slice(&f32::NAN.to_le_bytes());
    nan[start + 96..start + 100].copy_from_slice(&1f32.to_le_bytes());
    for (bytes, says) in [(nan, "NaN as value 0"), (header(1), "type F16")] {
        let imatrix = lenient(bytes.clone()).unwrap();
        assert_eq!(imatrix.entries.keys().collect::<Vec<_>>(), ["w"]);
        assert_eq!(imatrix.broken.keys().collect::<Vec<_>>(), ["v", "x"]);
        let errors: Vec<_> = imatrix.broken.values().map(|b| b.error().to_string()).collect();
        assert!(errors[0].contains(says) && errors[0].contains("v"), "{errors:?}");
        assert!(errors[1].contains("x.in_sum2"), "{errors:?}");
        // Three were asked for, as llama-quantize counts.
        assert!(imatrix.quantize_keys("f").iter().any(|(_, v)| *v == Value::Uint32(3)));
        assert_eq!(read(bytes).unwrap_err().to_string(), errors[0]);
    }
    // The older format.
    let mut bytes = small_legacy();
    bytes[4 + 4 + 1 + 8..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let imatrix = lenient(bytes.clone()).unwrap();
    assert_eq!(imatrix.entries.len() + imatrix.broken.len(), 2);
    assert_eq!(imatrix.broken.len(), 1);
    assert!(read(bytes).is_err());
}

/// What a count of zero makes one of is not looked at, whatever it is.
#[test]
fn sums_of_a_matrix_that_was_never_used_do_not_matter() {
    let imatrix = read(small_imatrix([1.0, 2.0, f32::NAN, -1.0], [1.0, 0.0])).unwrap();
    assert_eq!(imatrix.entries["w"].values, [1.0, 2.0, 1.0, 1.0]);
    assert!(read(small_imatrix([1.0, 2.0, f32::NAN, -1.0], [1.0, 1.0])).is_err());
}

#[test]
fn sums_are_divided_as_llama_quantize_does() {
    let imatrix = read(small_imatrix([10.0, 0.1, 3.0, 4.0], [3.0, 0.0])).unwrap();
    let entry = &imatrix.entries["w"];
    // In single precision; a matrix that was never used gets ones.
    assert_eq!(entry.values, [10.0f32 / 3.0, 0.1f32 / 3.0, 1.0, 1.0]);
    assert_eq!(entry.matrices, 2);
    assert_eq!((imatrix.datasets, imatrix.chunk_count), (vec!["wiki.txt".to_owned()], Some(7)));
    // Counts go through `lround`.
    let entry = |counts| read(small_imatrix([8.0; 4], counts)).unwrap().entries["w"].values.clone();
    assert_eq!(entry([2.5, 0.4]), [8.0 / 3.0, 8.0 / 3.0, 1.0, 1.0]);
    assert_eq!(entry([0.5, 1.49]), [8.0; 4]);
}

#[test]
fn legacy_sums_are_divided_by_calls() {
    let imatrix = read(small_legacy()).unwrap();
    let entries: Vec<_> =
        imatrix.entries.iter().map(|(n, e)| (n.as_str(), e.values.clone(), e.matrices)).collect();
    assert_eq!(entries, [("a", vec![5.0, 6.0], 1), ("b", vec![0.5, 0.75], 1)]);
    assert_eq!((imatrix.datasets, imatrix.chunk_count), (vec!["data.txt".to_owned()], Some(9)));
}

#[test]
fn the_keys_llama_quantize_writes() {
    let mut imatrix = read(small_legacy()).unwrap();
    let name = |s: &str| Value::String(GgufString::from(s));
    assert_eq!(
        imatrix.quantize_keys("dir/i.dat"),
        [
            ("quantize.imatrix.file", name("dir/i.dat")),
            ("quantize.imatrix.dataset", name("data.txt")),
            ("quantize.imatrix.entries_count", Value::Uint32(2)),
            ("quantize.imatrix.chunks_count", Value::Uint32(9)),
        ]
    );
    // Texts are cut to 127 bytes, even within a character.
    imatrix.datasets = vec!["é".repeat(64)];
    imatrix.chunk_count = None;
    let keys = imatrix.quantize_keys(&"f".repeat(200));
    assert_eq!(keys.len(), 3);
    assert_eq!(keys[0].1, name(&"f".repeat(127)));
    assert_eq!(keys[1].1, Value::String("é".repeat(64).as_bytes()[..127].to_vec().into()));
    imatrix.entries.clear();
    assert_eq!(imatrix.quantize_keys("f"), []);
}

fn gguf(header: Gguf, data: usize) -> Vec<u8> {
    header.data(data).build()
}

fn without_key(key: &str) -> Vec<u8> {
    let mut header = imatrix_header();
    header.pairs.retain(|p| !p[8..].starts_with(key.as_bytes()));
    assert_eq!(header.pairs.len(), 3);
    gguf(header, 64)
}

fn with_tensors(tensors: [Vec<u8>; 2], data: usize) -> Vec<u8> {
    let mut header = imatrix_header();
    header.tensors = tensors.to_vec();
    gguf(header, data)
}

#[test]
fn matrices_in_gguf_files_that_are_refused() {
    let good = small_imatrix([1.0; 4], [1.0; 2]);
    let value = |v: f32| small_imatrix([1.0, v, 1.0, 1.0], [1.0; 2]);
    let count = |v: f32| small_imatrix([1.0; 4], [1.0, v]);
    let chunks = |ty: u32, bytes: &[u8]| {
        let mut header = imatrix_header();
        header.pairs[2] = pair("imatrix.chunk_count", ty, bytes);
        gguf(header, 64)
    };
    let datasets = |value: Vec<u8>| {
        let mut header = imatrix_header();
        header.pairs[1] = pair("imatrix.datasets", 9, value);
        gguf(header, 64)
    };
    let sums = |shape: &[u64]| tensor("w.in_sum2", shape, 0, 0);
    let counts = |shape: &[u64]| tensor("w.counts", shape, 0, 32);
    let pair_of = |s: &[u64], c: &[u64]| with_tensors([sums(s), counts(c)], 64);
    check_table(
        vec![
            row("NaN", value(f32::NAN), "Malformed", &["\"w\"", "NaN as value 1"], value(0.0)),
            row("infinite", value(f32::INFINITY), "Malformed", &["\"w\"", "inf"], value(f32::MAX)),
            row("negative", value(-1.0), "Malformed", &["\"w\"", "-1"], value(-0.0)),
            row("count NaN", count(f32::NAN), "Malformed", &["NaN"], count(0.0)),
            row("count negative", count(-3.0), "Malformed", &["-3"], count(3.0)),
            row(
                "wrong length",
                pair_of(&[5], &[1, 2]),
                "Malformed",
                &["5 sums for 2 counts"],
                pair_of(&[6], &[1, 2]),
            ),
            row(
                "no sums",
                with_tensors([sums(&[0]), tensor("w.counts", &[1], 0, 0)], 4),
                "Malformed",
                &["0 sums for 1 counts"],
                good.clone(),
            ),
            row(
                "no counts",
                with_tensors([sums(&[8]), counts(&[0])], 32),
                "Malformed",
                &["8 sums for 0 counts"],
                pair_of(&[8], &[1]),
            ),
            row(
                "no such tensor",
                with_tensors([sums(&[2]), tensor("v.counts", &[1], 0, 32)], 64),
                "Malformed",
                &["no tensor", "v.in_sum2"],
                pair_of(&[2], &[1]),
            ),
            row(
                "not F32",
                with_tensors([tensor("w.in_sum2", &[2], 1, 0), counts(&[1])], 64),
                "Malformed",
                &["type F16", "F32"],
                pair_of(&[2], &[1]),
            ),
            row(
                "no entries",
                with_tensors([tensor("a", &[8], 0, 0), tensor("b", &[8], 0, 32)], 64),
                "Malformed",
                &["no entries"],
                good.clone(),
            ),
            row(
                "no datasets",
                without_key("imatrix.datasets"),
                "Malformed",
                &["imatrix.datasets"],
                good.clone(),
            ),
            row(
                "no chunk_count",
                without_key("imatrix.chunk_count"),
                "Malformed",
                &["imatrix.chunk_count"],
                good.clone(),
            ),
            row(
                "no chunk_size",
                without_key("imatrix.chunk_size"),
                "Malformed",
                &["imatrix.chunk_size"],
                good.clone(),
            ),
            row(
                "chunk_count type",
                chunks(10, &[0; 8]),
                "Malformed",
                &["UINT64", "UINT32"],
                chunks(4, &[0; 4]),
            ),
            row(
                "datasets type",
                datasets(array(4, 1, [0; 4])),
                "Malformed",
                &["imatrix.datasets"],
                datasets(array(8, 2, [text("a"), text("b")].concat())),
            ),
            row(
                "data cut",
                good[..good.len() - 25].to_vec(),
                "Truncated",
                &["w.counts"],
                good.clone(),
            ),
            row(
                "lfs",
                *b"version https://git-lfs.github.com/spec/v1\n",
                "NotAModel",
                &["git lfs pull"],
                good.clone(),
            ),
            row("empty", [], "NotAModel", &["empty"], good),
        ],
        read,
    );
    assert_eq!(read(chunks(4, &[0; 4])).unwrap().chunk_count, None);
    assert_eq!(read(chunks(4, &[0xFF; 4])).unwrap().chunk_count, None);
}

#[test]
fn legacy_matrices_that_are_refused() {
    let good = small_legacy();
    let entry = |name: &str, calls: i32, count: i32, values: &[f32]| {
        let mut out = 1i32.to_le_bytes().to_vec();
        out.extend(legacy_text(name));
        out.extend(calls.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        out
    };
    let one = |v: f32| entry("w", 1, 1, &[v]);
    let head = |n: i32| [&n.to_le_bytes()[..], &good[4..]].concat();
    let mut twice = good.clone();
    // The names are "b" at byte 8 and "a" after an entry of 21 bytes.
    twice[8 + 21] = b'b';
    check_table(
        vec![
            row("no entries", head(0), "Malformed", &["number of entries"], head(2)),
            row("negative entries", head(-1), "Malformed", &["-1"], head(2)),
            row("entries", head(i32::MAX), "Truncated", &["number of entries"], head(2)),
            row("empty name", entry("", 1, 1, &[1.0, 1.0]), "Malformed", &["entry name"], one(1.0)),
            row(
                "no values",
                entry("w", 1, 0, &[1.0]),
                "Malformed",
                &["\"w\"", "positive"],
                one(1.0),
            ),
            row("too few values", entry("w", 1, 2, &[1.0]), "Truncated", &["\"w\""], one(1.0)),
            row(
                "too many values",
                entry("w", 1, 1, &[1.0, 1.0, 0.0, 1.0]),
                "Malformed",
                &["more bytes"],
                one(1.0),
            ),
            row("NaN", one(f32::NAN), "Malformed", &["\"w\"", "NaN"], one(0.0)),
            row("negative", one(-0.5), "Malformed", &["-0.5"], one(0.5)),
            row("duplicate", twice, "Duplicate", &["entry \"b\""], good.clone()),
            row(
                "text",
                *b"hello world, this is text",
                "Truncated",
                &["number of entries"],
                good.clone(),
            ),
        ],
        read,
    );
}

#[test]
fn truncations_are_noticed_or_sound() {
    for whole in [small_imatrix([1.0; 4], [1.0; 2]), small_legacy()] {
        for len in 0..whole.len() {
            if let Ok(imatrix) = read(whole[..len].to_vec()) {
                assert_eq!(
                    imatrix.entries,
                    read(whole.clone()).unwrap().entries,
                    "{len} of {}",
                    whole.len()
                );
            }
        }
    }
}

fn read_sums(bytes: Vec<u8>) -> Result<ImatrixSums, Error> {
    ImatrixSums::read(SourceFile::from_bytes("i", bytes), &Limits::default())
}

#[test]
fn sums_and_counts_are_as_stored() {
    let sums = read_sums(small_imatrix([1.0, 2.0, 3.0, 4.0], [1.0, 0.0])).unwrap();
    let entry = TensorSums { sums: vec![1.0, 2.0, 3.0, 4.0], counts: vec![1.0, 0.0] };
    assert_eq!(sums.entries.get("w"), Some(&entry));
    assert_eq!(sums.entries.len(), 1);
}

#[test]
fn sums_that_are_refused() {
    let good = || small_imatrix([1.0; 4], [1.0; 2]);
    let value = |v: f32| small_imatrix([1.0, v, 1.0, 1.0], [1.0; 2]);
    let other = |name: &str, ty: u32| {
        with_tensors([tensor("w.in_sum2", &[2], ty, 0), tensor(name, &[1], 0, 32)], 64)
    };
    let tensors =
        |a: &str, b: &str| with_tensors([tensor(a, &[8], 0, 0), tensor(b, &[8], 0, 32)], 64);
    check_table(
        vec![
            row("NaN", value(f32::NAN), "Malformed", &["w.in_sum2", "NaN"], value(0.0)),
            row("negative", value(-1.0), "Malformed", &["-1"], value(1.0)),
            row(
                "no counts",
                other("v.counts", 0),
                "Malformed",
                &["v.in_sum2"],
                other("w.counts", 0),
            ),
            row("not F32", other("w.counts", 1), "Malformed", &["F16"], good()),
            row("no entries", tensors("a", "b"), "Malformed", &["no entries"], good()),
            row("no datasets", without_key("imatrix.datasets"), "NotAModel", &["datasets"], good()),
            row("no size", without_key("imatrix.chunk_size"), "Malformed", &["chunk_size"], good()),
            row("the older format", small_legacy(), "NotAModel", &["GGUF"], good()),
        ],
        read_sums,
    );
}
