//! Work on parts of a buffer, on several threads.

use std::sync::{Mutex, PoisonError};

use quant_kernels::Parallel;

/// Values below which handing out work costs more than doing it.
pub(crate) const SMALL: usize = 1 << 14;

/// Calls `work` with pieces of the values and their indices, on the caller's threads. Every piece is
/// worked on, even if the threads do not run.
pub(crate) fn pieces<T: Send>(
    threads: &dyn Parallel,
    pieces: impl Iterator<Item = T> + Send,
    work: &(dyn Fn(T) + Sync),
) {
    let pieces = Mutex::new(pieces);
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    threads.run(&|_| {
        while let Some(piece) = next() {
            work(piece);
        }
    });
    while let Some(piece) = next() {
        work(piece);
    }
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
    rows: &[f32],
    width: usize,
    widths: [usize; N],
) -> [Vec<f32>; N] {
    let count = rows.len() / width.max(1);
    let mut parts = widths.map(|width| Vec::with_capacity(count * width));
    for mut row in rows.chunks_exact(width.max(1)) {
        for (part, width) in parts.iter_mut().zip(widths) {
            let (these, rest) = row.split_at(width.min(row.len()));
            part.extend_from_slice(these);
            row = rest;
        }
    }
    parts
}
