//! No bytes make a reader panic, or take more memory than granted.

mod common;

use common::{small_gguf, small_imatrix, small_legacy, small_safetensors};
use gguf_io::{Budget, Checkpoint, GgufFile, Imatrix, Limits, SourceFile};
use proptest::{collection::vec, prelude::*, sample::Index};

/// Reads bytes as everything. Returns the most memory that any reader had charged.
fn read_all(bytes: &[u8]) -> u64 {
    let file = || SourceFile::from_bytes("hostile", bytes.to_vec());
    let limits = Limits::default();
    let mut peaks = Vec::new();
    let mut budget = Budget::new(&limits);
    if let Ok(gguf) = GgufFile::read_with(file(), &mut budget) {
        gguf.check_data().ok();
    }
    peaks.push(budget.peak());
    let mut budget = Budget::new(&limits);
    let checkpoint = Checkpoint::read_with(vec![file()], &mut budget).ok();
    peaks.push(budget.peak());
    // What this reader accepts, the reference does.
    if checkpoint.is_some() {
        safetensors::SafeTensors::deserialize(bytes).expect("the reference refuses it");
    }
    let mut budget = Budget::new(&limits);
    Imatrix::read_with(file(), &mut budget).ok();
    peaks.push(budget.peak());
    peaks.into_iter().max().unwrap_or(0)
}

/// What a file of this length may cost.
fn granted(len: usize) -> u64 {
    len as u64 * 8 + (1 << 20)
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(small_gguf()),
        Just(small_safetensors()),
        Just(small_imatrix([1.0, 2.0, 3.0, 4.0], [5.0, 6.0])),
        Just(small_legacy()),
    ]
}

/// One change to a file.
#[derive(Clone, Debug)]
enum Change {
    Byte(Index, u8),
    /// Eight bytes of a number that is likely to matter, at any place.
    Number(Index, u64),
    Remove(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![
        Just(u64::MAX),
        Just(1 << 63),
        Just(1 << 60),
        Just((1 << 32) - 1),
        Just(0),
        any::<u64>(),
        0..256u64,
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(i, b)| Change::Byte(i, b)),
        (any::<Index>(), number).prop_map(|(i, n)| Change::Number(i, n)),
        (any::<Index>(), any::<u8>()).prop_map(|(i, n)| Change::Remove(i, n)),
        (any::<Index>(), vec(any::<u8>(), 1..32)).prop_map(|(i, b)| Change::Insert(i, b)),
        any::<Index>().prop_map(Change::Cut),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: Change) {
    let at = |index: Index, bytes: &[u8]| index.index(bytes.len() + 1);
    match change {
        Change::Byte(i, b) => {
            let at = i.index(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = b;
            }
        }
        Change::Number(i, n) => {
            let start = at(i, bytes);
            for (byte, new) in bytes.iter_mut().skip(start).zip(n.to_le_bytes()) {
                *byte = new;
            }
        }
        Change::Remove(i, n) => {
            let start = at(i, bytes);
            let end = (start + usize::from(n)).min(bytes.len());
            bytes.drain(start..end);
        }
        Change::Insert(i, new) => {
            let start = at(i, bytes);
            bytes.splice(start..start, new);
        }
        Change::Cut(i) => bytes.truncate(at(i, bytes)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(read_all(&bytes) <= granted(bytes.len()));
    }

    #[test]
    fn any_bytes_after_a_good_start(bytes in vec(any::<u8>(), 0..300), pairs in 0..4u64, tensors in 0..4u64) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(tensors.to_le_bytes());
        file.extend(pairs.to_le_bytes());
        file.extend(bytes);
        prop_assert!(read_all(&file) <= granted(file.len()));
    }

    #[test]
    fn any_json(json in r#"\{("[a-z]{0,3}":(\{("(dtype|shape|data_offsets|x)":(\[[0-9,]{0,6}\]|"(F32|U8|F4)"|-?[0-9]{1,3}|null),?){0,4}\}|\[|\{),?){0,4}\}"#, data in 0..40usize) {
        let file = common::safetensors(&json, data);
        prop_assert!(read_all(&file) <= granted(file.len()));
    }

    #[test]
    fn changed_files(mut bytes in valid(), changes in vec(change(), 1..6)) {
        for change in changes {
            apply(&mut bytes, change);
        }
        prop_assert!(read_all(&bytes) <= granted(bytes.len()));
    }
}

/// The smallest headers per byte of memory: what is charged stays within the grant for files that
/// are sound, so that none is refused for being dense.
#[test]
fn dense_files_are_not_refused() {
    use common::{Gguf, array, pair, tensor, text};
    let n = 30_000u32;
    let name = |i: u32| {
        let mut digits = Vec::new();
        let mut rest = i;
        loop {
            digits.push(b'!' + (rest % 90) as u8);
            rest /= 90;
            if rest == 0 {
                break digits;
            }
        }
    };
    let mut pairs = Gguf::new();
    let mut tensors = Gguf::new();
    for i in 0..n {
        pairs = pairs.pair(pair(name(i), 0, [0]));
        tensors = tensors.tensor(tensor(name(i), &[], 0, u64::from(i) * 32));
    }
    let strings = |s: &str| {
        Gguf::new().pair(pair("k", 9, array(8, n.into(), text(s).repeat(n as usize)))).build()
    };
    let limits = Limits::default();
    for bytes in [pairs.build(), tensors.build(), strings(""), strings("a"), strings("ab")] {
        GgufFile::read(SourceFile::from_bytes("dense", bytes), &limits).unwrap();
    }
    let entries: Vec<_> = (0..n)
        .map(|i| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let bytes = common::safetensors(&format!("{{{}}}", entries.join(",")), 0);
    Checkpoint::read(vec![SourceFile::from_bytes("dense", bytes)], &limits).unwrap();
}
