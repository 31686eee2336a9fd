//! GGUF files that are wrong in one place, each with a neighbour that is right.

/// A row: name, kind of error, parts of the message, the bad bytes, the good ones.
pub(crate) struct Row(
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static [&'static str],
    pub(crate) Vec<u8>,
    pub(crate) Vec<u8>,
);

pub(crate) fn n(value: u64) -> [u8; 8] {
    value.to_le_bytes()
}

pub(crate) fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [&n(bytes.as_ref().len() as u64), bytes.as_ref()].concat()
}

pub(crate) fn pair(key: impl AsRef<[u8]>, ty: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&text(key)[..], &ty.to_le_bytes(), value.as_ref()].concat()
}

pub(crate) fn array(ty: u32, count: u64, values: impl AsRef<[u8]>) -> Vec<u8> {
    [&ty.to_le_bytes()[..], &n(count), values.as_ref()].concat()
}

pub(crate) fn tensor(name: impl AsRef<[u8]>, dims: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let mut out = text(name);
    out.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|dim| out.extend(n(*dim)));
    out.extend(ty.to_le_bytes());
    out.extend(n(offset));
    out
}

/// A model around some more pairs and tensors, with this many bytes of data.
pub(crate) fn gguf(pairs: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    counted(tensors.len() as u64, pairs.len() as u64, 3u32.to_le_bytes(), pairs, tensors, data)
}

pub(crate) fn counted(
    n_tensors: u64,
    n_pairs: u64,
    version: [u8; 4],
    pairs: &[Vec<u8>],
    tensors: &[Vec<u8>],
    data: usize,
) -> Vec<u8> {
    let own = [
        pair("general.architecture", 8, text("llama")),
        pair("llama.block_count", 4, 1u32.to_le_bytes()),
    ];
    let mut out = [&b"GGUF"[..], &version, &n(n_tensors), &n(n_pairs.saturating_add(2))].concat();
    out.extend([own.concat(), pairs.concat(), tensors.concat()].concat());
    if data > 0 {
        out.resize(out.len().next_multiple_of(32) + data, 0);
    }
    out
}

pub(crate) fn with_pair(pair: Vec<u8>) -> Vec<u8> {
    gguf(&[pair], &[], 0)
}

pub(crate) fn with_tensor(dims: &[u64], ty: u32, data: usize) -> Vec<u8> {
    gguf(&[], &[tensor("output_norm.weight", dims, ty, 0)], data)
}

pub(crate) fn two(names: [&[u8]; 2], offset: u64, data: usize) -> Vec<u8> {
    gguf(&[], &[tensor(names[0], &[8], 0, 0), tensor(names[1], &[8], 0, offset)], data)
}

/// Known vulnerabilities, by the names they are known as.
pub(crate) fn vulnerabilities() -> Vec<Row> {
    let count = |tensors, pairs| counted(tensors, pairs, 3u32.to_le_bytes(), &[], &[], 0);
    let dims = |count: u32| {
        let mut tensor = text("output_norm.weight");
        tensor.extend(count.to_le_bytes());
        (0..count.min(5)).for_each(|_| tensor.extend(n(1)));
        tensor.extend([0; 12]);
        gguf(&[], &[tensor], 32)
    };
    let alignment = |value: u32| with_pair(pair("general.alignment", 4, value.to_le_bytes()));
    let strings = |count| with_pair(pair("k", 9, array(8, count, text("v"))));
    let numbers = |count| with_pair(pair("k", 9, array(4, count, [0; 4])));
    let key = |len: u64| with_pair([&n(len)[..], b"k", &[0; 5]].concat());
    let nested = pair("deep", 9, array(9, 1, []).repeat(100_000));
    let i64s = |dims: [u64; 2]| {
        let tensors = [tensor("a", &dims[..1], 27, 0), tensor("b", &dims[1..], 27, 0)];
        gguf(&[], &tensors[..], 0)
    };
    let small = || gguf(&[], &[], 0);
    let one = || with_tensor(&[8], 0, 32);
    vec![
        Row("CVE-2024-39720", "Files(Truncated", &["version at byte 4"], b"GGUF".into(), small()),
        Row(
            "CVE-2024-21825 strings",
            "Files(Truncated",
            &["\"k\""],
            strings((1 << 60) + 1),
            strings(1),
        ),
        Row(
            "CVE-2024-21825 u32",
            "Files(Truncated",
            &["\"k\""],
            numbers((1 << 62) + 1),
            numbers(1),
        ),
        Row("CVE-2024-23496", "Files(Malformed", &["18446744073709551615"], key(u64::MAX), key(1)),
        Row("CVE-2024-21802 5", "Files(Malformed", &["output_norm", "5 dim"], dims(5), dims(4)),
        Row("CVE-2024-21802 max", "Files(Malformed", &["4294967295 dim"], dims(u32::MAX), dims(1)),
        Row(
            "CVE-2024-21836",
            "Files(Truncated",
            &["tensors", "byte 8"],
            count(u64::MAX, 0),
            small(),
        ),
        Row("CVE-2024-21836 2^40", "Files(Truncated", &["byte 8"], count(1 << 40, 0), small()),
        Row(
            "CVE-2024-23605",
            "Files(Truncated",
            &["key-value", "byte 16"],
            count(0, u64::MAX),
            small(),
        ),
        Row("CVE-2024-23605 2^40", "Files(Truncated", &["byte 16"], count(0, 1 << 40), small()),
        Row(
            "CVE-2025-0317 0",
            "Files(Malformed",
            &["alignment 0", "power"],
            alignment(0),
            alignment(32),
        ),
        Row("CVE-2025-0317 13", "Files(Malformed", &["alignment 13"], alignment(13), alignment(16)),
        Row(
            "alignment 2 MiB",
            "Files(Malformed",
            &["2097152"],
            alignment(2 << 20),
            alignment(1 << 20),
        ),
        Row(
            "CVE-2025-0317 type",
            "Files(Malformed",
            &["UINT64", "UINT32"],
            with_pair(pair("general.alignment", 10, n(32))),
            alignment(32),
        ),
        Row("CVE-2025-53630", "Files(Malformed", &["\"a\""], i64s([1 << 60; 2]), one()),
        Row(
            "CVE-2026-27940",
            "Files(Malformed",
            &["2^63"],
            with_tensor(&[0x7FFF_FFFF_FFFF_FFC0], 24, 0),
            with_tensor(&[64], 24, 64),
        ),
        Row(
            "CVE-2026-33298",
            "Files(Malformed",
            &["2^63"],
            with_tensor(&[1 << 31, 1 << 30], 27, 0),
            with_tensor(&[2, 2], 27, 32),
        ),
        Row(
            "CVE-2026-7482",
            "Files(Truncated",
            &["4194304 bytes", "found 0"],
            with_tensor(&[1024, 1024], 0, 0),
            with_tensor(&[2, 4], 0, 32),
        ),
        Row(
            "llama.cpp#19856",
            "Files(Unsupported",
            &["4294967295", "Q4_K"],
            with_tensor(&[8], u32::MAX, 32),
            one(),
        ),
        Row(
            "#24884 empty key",
            "Files(Malformed",
            &["0 bytes"],
            with_pair(pair("", 0, [0])),
            with_pair(pair("k", 0, [0])),
        ),
        Row("hf.js#2020", "Files(Malformed", &["array of arrays"], with_pair(nested), numbers(1)),
        Row(
            "5 array of arrays",
            "Files(Malformed",
            &["\"k\"", "array of arrays"],
            with_pair(pair("k", 9, array(9, 0, []))),
            with_pair(pair("k", 9, array(8, 0, []))),
        ),
        // #25596: a tensor of no elements is copied, not divided by.
        Row(
            "#25596 not whole blocks",
            "Files(Malformed",
            &["33 values", "32"],
            with_tensor(&[33, 0], 2, 0),
            with_tensor(&[32, 0], 2, 0),
        ),
    ]
}

/// The list under "Also" and the first rows of "What each gets".
pub(crate) fn structure() -> Vec<Row> {
    let version = |v: u32, big| {
        let bytes = if big { v.to_be_bytes() } else { v.to_le_bytes() };
        counted(0, 0, bytes, &[], &[], 0)
    };
    let keys = |second| gguf(&[pair("k", 0, [0]), pair(second, 0, [0])], &[], 0);
    let flag = |value| with_pair(pair("k", 7, [value]));
    let named = |name: &[u8]| gguf(&[], &[tensor(name, &[8], 0, 0)], 32);
    let (a, b): (&[u8], &[u8]) = (b"a", b"b");
    let good = || two([a, b], 32, 64);
    let typed = |ty| with_tensor(&[32], ty, 32);
    let extra = [good(), vec![0; 32]].concat();
    let whole = with_tensor(&[8], 0, 32);
    let no_data = whole[..whole.len() - 1].to_vec();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let html = b"<!DOCTYPE html><html><body>404</body></html>";
    vec![
        Row("1 empty file", "Files(NotAModel", &["an empty file"], vec![], good()),
        Row("1 HTML page", "Files(NotAModel", &["web page"], html.to_vec(), good()),
        Row("1 Git-LFS pointer", "Files(NotAModel", &["git lfs pull"], lfs.to_vec(), good()),
        Row(
            "2 big-endian",
            "Files(Unsupported",
            &["big-endian"],
            version(3, true),
            version(3, false),
        ),
        Row(
            "3 version 0",
            "Files(Unsupported",
            &["version 0", "2 and 3"],
            version(0, false),
            version(2, false),
        ),
        Row(
            "3 version 1",
            "Files(Unsupported",
            &["version 1"],
            version(1, false),
            version(2, false),
        ),
        Row(
            "3 version 4",
            "Files(Unsupported",
            &["version 4"],
            version(4, false),
            version(3, false),
        ),
        Row("6 keys", "Files(Duplicate", &["\"k\"", "and again at byte"], keys("k"), keys("l")),
        Row("6 tensors", "Files(Duplicate", &["\"a\"", "and again"], two([a, a], 32, 64), good()),
        Row("6 tensors at one place", "Files(Duplicate", &["\"a\""], two([a, a], 0, 64), good()),
        Row("10 removed type", "Files(Unsupported", &["Q4_2", "removed"], typed(4), typed(24)),
        Row("10 unknown type", "Files(Unsupported", &["type 43"], typed(43), typed(24)),
        Row("12 cut", "Files(Truncated", &["cut short"], no_data, whole),
        Row(
            "disorder",
            "Files(Malformed",
            &["\"a\"", "byte"],
            gguf(&[], &[tensor(a, &[8], 0, 32), tensor(b, &[8], 0, 0)], 64),
            good(),
        ),
        Row("overlap", "Files(Malformed", &["\"b\"", "overlaps"], two([a, b], 0, 64), good()),
        Row("gap", "Files(Malformed", &["\"b\"", "gap"], two([a, b], 64, 96), good()),
        Row(
            "unaligned",
            "Files(Malformed",
            &["\"b\"", "aligned to 32"],
            two([a, b], 33, 96),
            good(),
        ),
        Row(
            "offset wraps",
            "Files(Malformed",
            &["\"b\"", "2^63"],
            two([a, b], u64::MAX - 31, 64),
            good(),
        ),
        Row("trailing bytes", "Files(Malformed", &["32 more bytes"], extra, good()),
        Row(
            "key not UTF-8",
            "Files(Malformed",
            &["UTF-8"],
            with_pair(pair(b"k\xff", 0, [0])),
            with_pair(pair("ké", 0, [0])),
        ),
        Row(
            "value length",
            "Files(Truncated",
            &["\"k\""],
            with_pair(pair("k", 8, n(9))),
            with_pair(pair("k", 8, text(b"\xff"))),
        ),
        Row("bool 2", "Files(Malformed", &["bool 2"], flag(2), flag(1)),
        Row(
            "name of 64 bytes",
            "Files(Malformed",
            &["64 bytes"],
            named(&[b'n'; 64]),
            named(&[b'n'; 63]),
        ),
        Row("name empty", "Files(Malformed", &["0 bytes"], named(b""), named(b"n")),
        Row("name not UTF-8", "Files(Malformed", &["UTF-8"], named(b"\xff"), named("é".as_bytes())),
    ]
}
