//! Reading by position, through readers that behave badly.
#![allow(clippy::unwrap_used, reason = "helpers of tests too")]

mod common;

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use common::{assert_error, small_gguf};
use gguf_io::{Budget, GgufFile, Limits, ReadAt, SourceFile};

/// Reads a byte at a time, interrupted before each, and fails at one offset.
#[derive(Debug)]
struct Bad {
    bytes: Vec<u8>,
    calls: AtomicUsize,
    fails_at: u64,
}

impl ReadAt for Bad {
    fn len(&self) -> io::Result<u64> {
        ReadAt::len(&self.bytes)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.calls.fetch_add(1, SeqCst).is_multiple_of(2) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if offset == self.fails_at {
            return Err(io::Error::other("bad sector"));
        }
        self.bytes.read_at(&mut buf[..1], offset)
    }
}

fn bad(fails_at: u64) -> SourceFile {
    let reader = Bad { bytes: small_gguf(), calls: AtomicUsize::new(0), fails_at };
    SourceFile::from_reader("disk/m.gguf", Box::new(reader)).unwrap()
}

#[test]
fn short_and_interrupted_reads_are_continued() {
    let file = GgufFile::read(bad(u64::MAX), &Limits::default()).unwrap();
    file.check_data().unwrap();
    assert_eq!(file.tensors.len(), 2);
}

#[test]
fn a_failed_read_is_an_error_with_its_place() {
    let mut buf = [7; 8];
    assert_error(
        bad(21).read_exact_at(&mut buf, 16),
        "Read",
        &["disk/m.gguf", "8 bytes at byte 16", "bad sector"],
    );
    bad(24).read_exact_at(&mut buf, 16).unwrap();
    assert_error(
        GgufFile::read(bad(100), &Limits::default()),
        "Read",
        &["disk/m.gguf", "bad sector"],
    );
}

#[test]
fn nothing_is_made_up_past_the_end() {
    let file = SourceFile::from_bytes("m", vec![1; 10]);
    assert_error(
        file.read_exact_at(&mut [0; 4], 7),
        "Read",
        &["m: cannot read 4 bytes at byte 7", "ends before"],
    );
    assert_error(file.read_exact_at(&mut [0; 1], u64::MAX), "Read", &["ends before"]);
    file.read_exact_at(&mut [0; 3], 7).unwrap();
    file.read_exact_at(&mut [], 10).unwrap();

    let mut budget = Budget::new(&Limits::with_heap(6));
    budget.admit(file.len());
    assert_error(file.read_vec(8, 3, &mut budget), "Truncated", &["byte 8", "needs 3", "found 2"]);
    assert_eq!(file.read_vec(6, 4, &mut budget).unwrap(), [1; 4]);
    assert_error(file.read_vec(0, 3, &mut budget), "LimitsExceeded", &["needs 3", "2 of 6"]);
    assert_eq!((budget.used(), budget.peak()), (4, 4));
}

#[test]
fn a_reader_that_claims_too_much_is_caught() {
    #[derive(Debug)]
    struct Liar;
    impl ReadAt for Liar {
        fn len(&self) -> io::Result<u64> {
            Ok(100)
        }
        fn read_at(&self, buf: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(buf.len() + 1)
        }
    }
    let file = SourceFile::from_reader("liar", Box::new(Liar)).unwrap();
    assert_error(file.read_exact_at(&mut [0; 4], 0), "Read", &["liar"]);
}
