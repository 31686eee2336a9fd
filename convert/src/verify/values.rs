//! Looks at every stored value: whether it is finite, and whether a tensor holds any but zeros.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use gguf_io::SourceFile;
use quant_weights::{Cut, finite::Stored};

use super::Findings;
use crate::{
    Error, Options, Result,
    error::{Quoted, Shown},
    workers,
};

const VALUES: &str = "scales and values are finite";

/// The bytes of a tensor.
pub(super) struct Range<'a> {
    pub(super) name: &'a str,
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) stored: Stored,
    /// In GGUF order where zeros are looked for.
    pub(super) shape: &'a [u64],
}

impl Range<'_> {
    /// Matrices that are told apart: experts. One where there are too many, or too small ones, to be
    /// experts.
    fn matrices(&self) -> u64 {
        const MOST: u64 = gguf_model::MAX_EXPERTS as u64;
        const LEAST_BYTES: u64 = 64;
        let outer = self.shape.get(2..).unwrap_or_default().iter();
        let count = outer.copied().try_fold(1u64, u64::checked_mul).unwrap_or(1);
        let is_whole = |count: &u64| {
            (2..=MOST).contains(count)
                && self.bytes.is_multiple_of(*count)
                && self.bytes / count >= LEAST_BYTES
                && (self.bytes / count).is_multiple_of(self.stored.unit() as u64)
        };
        Some(count).filter(is_whole).unwrap_or(1)
    }
}

/// Matrices of tensors that hold zeros only: the tensor's index, and the matrix's within it.
pub(super) type Zeros = Vec<(usize, u64)>;

/// A part of a matrix, which one thread reads.
struct Piece {
    range: usize,
    matrix: u64,
    start: u64,
    len: u64,
    has_value: AtomicBool,
}

/// Bytes a thread reads at a time: enough to read at the device's pace, little enough to stay in a
/// core's cache.
const STEP: u64 = 1 << 18;

/// Looks at every value, tensor by tensor, on all threads. Returns what is zero throughout.
pub(super) fn check(
    files: &[SourceFile],
    ranges: &[Range<'_>],
    options: &Options,
    found: &mut Findings,
) -> Result<Zeros> {
    let pieces = pieces(ranges);
    let unchecked = ranges.iter().filter(|r| !r.stored.is_checked() && r.bytes > 0).count();
    // Tensors with a problem: the first unit that is not finite and how many there are.
    let bad: Mutex<BTreeMap<usize, (u64, u64)>> = Mutex::default();
    let result =
        workers::run(options.threads, pieces.len(), Vec::new, |buffer: &mut Vec<u8>, i| {
            let Some(piece) = pieces.get(i) else { return Ok(()) };
            let Some(range) = ranges.get(piece.range) else { return Ok(()) };
            let Some(file) = files.get(range.file) else { return Ok(()) };
            buffer.resize(usize::try_from(piece.len).map_err(|_| quant_core::Error::TooLarge)?, 0);
            file.read_exact_at(buffer, range.offset.saturating_add(piece.start))?;
            if range.stored.has_value(buffer) {
                piece.has_value.store(true, Ordering::Relaxed);
            }
            if let Some((first, count)) = range.stored.find(buffer) {
                let first = piece.start / range.stored.unit() as u64 + first;
                let mut bad = bad.lock().unwrap_or_else(|e| e.into_inner());
                let entry = bad.entry(piece.range).or_insert((first, 0));
                *entry = (entry.0.min(first), entry.1.saturating_add(count));
            }
            Ok(())
        });
    let complete = result.is_ok();
    match result {
        Err(error @ Error::Threads { .. }) => return Err(error),
        result => found.check(VALUES, |found| {
            for (index, (first, count)) in bad.into_inner().unwrap_or_else(|e| e.into_inner()) {
                let Some(range) = ranges.get(index) else { continue };
                let noun = range.stored.noun();
                found.problem(|| {
                    let file = files.get(range.file).map_or(Path::new(""), |f| f.path());
                    format!(
                        "{}: tensor {} has {count} {noun}s that are not finite, the first is {noun} \
                         {first} at byte {}",
                        Shown(file),
                        Quoted(range.name),
                        range.offset + first * range.stored.unit() as u64,
                    )
                });
            }
            result
        }),
    };
    found.check("the files did not change meanwhile", |_| {
        files.iter().try_for_each(SourceFile::check_unchanged)
    });
    if unchecked > 0 {
        found.note(&format!("{unchecked} tensors hold integers or codes: every code is a number"));
    }
    Ok(if complete { empty(&pieces) } else { Zeros::new() })
}

fn pieces(ranges: &[Range<'_>]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (index, range) in ranges.iter().enumerate().filter(|(_, r)| r.stored.is_checked()) {
        let matrix_bytes = range.bytes / range.matrices().max(1);
        let unit = range.stored.unit() as u64;
        let cut = Cut { unit, size: STEP, section: Some(matrix_bytes) };
        pieces.extend(cut.ranges(range.bytes).map(|bytes| Piece {
            range: index,
            matrix: bytes.start / matrix_bytes.max(1),
            start: bytes.start,
            len: bytes.end - bytes.start,
            has_value: AtomicBool::new(false),
        }));
    }
    pieces
}

/// The matrices none of whose pieces has a value.
fn empty(pieces: &[Piece]) -> Zeros {
    let is_same = |a: &Piece, b: &Piece| (a.range, a.matrix) == (b.range, b.matrix);
    let mut zeros = Zeros::new();
    for matrix in pieces.chunk_by(is_same) {
        if let Some(first) = matrix.first()
            && !matrix.iter().any(|piece| piece.has_value.load(Ordering::Relaxed))
        {
            zeros.push((first.range, first.matrix));
        }
    }
    zeros
}

/// Judges what is zero throughout: without a norm or its embeddings a model tells nothing; a matrix
/// of zeros only takes part in nothing.
pub(super) fn zeros(ranges: &[Range<'_>], zeros: &Zeros, is_model: bool, found: &mut Findings) {
    const KEPT: usize = 16;
    let mut notes = Vec::new();
    for matrices in zeros.chunk_by(|(a, _), (b, _)| a == b) {
        let Some(&(index, first)) = matrices.first() else { continue };
        let Some(range) = ranges.get(index) else { continue };
        let name = Quoted(range.name);
        let all = range.matrices();
        let count = matrices.len() as u64;
        let is_vital = range.name.ends_with(".weight")
            && (range.name.contains("norm")
                || matches!(range.name, "token_embd.weight" | "position_embd.weight"));
        if count < all {
            notes.push(format!(
                "tensor {name}: {count} of {all} matrices hold zeros only, the first is {first}"
            ));
        } else if is_model && is_vital {
            found.problem(|| {
                format!("tensor {name} holds zeros only; convert or download the file again")
            });
        } else if range.shape.iter().skip(1).any(|n| *n > 1) {
            notes.push(format!("tensor {name} holds zeros only"));
        }
    }
    let more = notes.len().saturating_sub(KEPT);
    notes.iter().take(KEPT).for_each(|note| found.note(note));
    if more > 0 {
        found.note(&format!("{more} more tensors hold zeros"));
    }
}
