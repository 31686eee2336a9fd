//! Work on parts of a buffer, on several threads.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use quant_kernels::Parallel;

/// Values below which handing out work costs more than doing it.
pub(crate) const SMALL: usize = 1 << 14;

/// Calls `work` with pieces of the values, on the caller's threads. Every piece is worked on, even if the
/// threads do not run.
pub(crate) fn pieces<T: Send>(
    threads: &dyn Parallel,
    pieces: impl Iterator<Item = T>,
    work: &(dyn Fn(T) + Sync),
) {
    pieces_with(threads, pieces, &|| (), &|(), piece| work(piece));
}

/// As [`pieces`]. Each thread makes what it works with once, before its first piece.
pub(crate) fn pieces_with<T: Send, B>(
    threads: &dyn Parallel,
    pieces: impl Iterator<Item = T>,
    new: &(dyn Fn() -> B + Sync),
    work: &(dyn Fn(&mut B, T) + Sync),
) {
    // A thread claims a piece by counting on, so that nobody waits for the lock of another's.
    let pieces: Vec<_> = pieces.map(|piece| Mutex::new(Some(piece))).collect();
    let next = AtomicUsize::new(0);
    let run = || {
        let mut buffers = None;
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let piece = piece.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(piece) = piece {
                work(buffers.get_or_insert_with(new), piece);
            }
        }
    };
    if pieces.len() > 1 {
        threads.run(&|_| run());
    }
    run();
}

/// Calls `work` with runs of whole rows and the number of the first.
pub(crate) fn rows(
    threads: &dyn Parallel,
    values: &mut [f32],
    width: usize,
    work: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    if values.is_empty() || width == 0 {
        return;
    }
    let parts = threads.threads().max(1);
    if values.len() < SMALL || parts == 1 {
        return work(0, values);
    }
    // Pieces small enough that the last ones end together.
    let per_piece = (values.len() / width).div_ceil(4 * parts).max(1);
    let chunks = values.chunks_mut(per_piece * width).enumerate();
    pieces(threads, chunks, &|(i, chunk)| work(i * per_piece, chunk));
}

/// Takes rows apart into parts of these widths.
pub(crate) fn split_rows<const N: usize>(
    threads: &dyn Parallel,
    values: &[f32],
    width: usize,
    widths: [usize; N],
) -> [Vec<f32>; N] {
    let width = width.max(1);
    let count = values.len() / width;
    let mut parts = widths.map(|width| vec![0.0; count * width]);
    if count == 0 {
        return parts;
    }
    let mut rests = parts.each_mut().map(Vec::as_mut_slice);
    let per_piece = match threads.threads().max(1) {
        1 => count,
        _ if values.len() < SMALL => count,
        threads => count.div_ceil(4 * threads),
    };
    let of_piece = values.chunks(per_piece * width).map(|rows| {
        let count = rows.len() / width;
        let mut widths = widths.iter();
        let these = rests.each_mut().map(|rest| {
            let (these, after) =
                std::mem::take(rest).split_at_mut(count * widths.next().copied().unwrap_or(0));
            *rest = after;
            these
        });
        (rows, these)
    });
    pieces(threads, of_piece, &|(rows, mut parts)| {
        for (i, mut row) in rows.chunks_exact(width).enumerate() {
            for (part, width) in parts.iter_mut().zip(widths) {
                let (these, rest) = row.split_at(width.min(row.len()));
                if let Some(to) = part.get_mut(i * width..i * width + these.len()) {
                    to.copy_from_slice(these);
                }
                row = rest;
            }
        }
    });
    parts
}
