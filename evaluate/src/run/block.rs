//! What attention does with a block of keys and values: scores, weights, sums.

use quant_core::lanes::{Lanes, MAX_LANES};

use super::cache::BLOCK;

/// Rows that meet a vector of keys or values together.
pub(super) const TILE: usize = 4;

/// A vector at an index of a buffer with room behind its last one.
#[inline(always)]
fn load<S: Lanes>(s: S, values: &[f32], at: usize) -> S::F32 {
    match values.get(at..).and_then(|values| values.first_chunk::<MAX_LANES>()) {
        Some(lanes) => s.load(lanes),
        None => s.splat(0.0),
    }
}

#[inline(always)]
fn store<S: Lanes>(s: S, v: S::F32, values: &mut [f32], at: usize) {
    if let Some(lanes) = values.get_mut(at..).and_then(|v| v.first_chunk_mut::<MAX_LANES>()) {
        s.store(v, lanes);
    }
}

/// The products of all rows of queries with the keys of a block.
#[inline(always)]
pub(super) fn score<S: Lanes>(s: S, queries: &[f32], key: usize, keys: &[f32], scores: &mut [f32]) {
    for (tile, queries) in queries.chunks_exact(TILE * key).enumerate() {
        let (q0, rest) = queries.split_at(key);
        let (q1, rest) = rest.split_at(key);
        let (q2, q3) = rest.split_at(key);
        for lane in (0..BLOCK).step_by(2 * S::N) {
            let mut sums = [[s.splat(0.0); 2]; TILE];
            let queries = q0.iter().zip(q1).zip(q2).zip(q3);
            for (i, (((a, b), c), d)) in queries.enumerate() {
                let keys =
                    [load(s, keys, i * BLOCK + lane), load(s, keys, i * BLOCK + lane + S::N)];
                let q = [s.splat(*a), s.splat(*b), s.splat(*c), s.splat(*d)];
                for (sums, q) in sums.iter_mut().zip(q) {
                    for (sum, keys) in sums.iter_mut().zip(keys) {
                        *sum = s.add(*sum, s.mul(q, keys));
                    }
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                let at = (tile * TILE + row) * BLOCK + lane;
                store(s, sums[0], scores, at);
                store(s, sums[1], scores, at + S::N);
            }
        }
    }
}

/// Makes weights of scores, and brings sums and totals to the new highest score of each row.
#[inline(always)]
pub(super) fn weigh<S: Lanes>(
    s: S,
    scores: &mut [f32],
    highest: &mut [f32],
    totals: &mut [f32],
    sums: &mut [f32],
    stride: usize,
) {
    let rows =
        scores.chunks_exact_mut(BLOCK).zip(highest).zip(totals).zip(sums.chunks_exact_mut(stride));
    for (((scores, highest), total), sums) in rows {
        let mut parts = [f32::NEG_INFINITY; 8];
        for chunk in scores.as_chunks::<8>().0 {
            for (part, score) in parts.iter_mut().zip(chunk) {
                *part = part.max(*score);
            }
        }
        let found = parts.into_iter().fold(*highest, f32::max);
        if found == f32::NEG_INFINITY {
            scores.fill(0.0);
            continue;
        }
        if found > *highest {
            let shrink = (*highest - found).exp();
            *total *= shrink;
            sums.iter_mut().for_each(|sum| *sum *= shrink);
            *highest = found;
        }
        let mut lanes = [0.0; MAX_LANES];
        for part in scores.chunks_exact_mut(S::N) {
            lanes[..S::N].copy_from_slice(part);
            s.store(s.exp(s.sub(s.load(&lanes), s.splat(found))), &mut lanes);
            part.copy_from_slice(&lanes[..S::N]);
        }
        let mut parts = [0.0f32; 8];
        for chunk in scores.as_chunks::<8>().0 {
            for (part, weight) in parts.iter_mut().zip(chunk) {
                *part += weight;
            }
        }
        *total += parts.iter().sum::<f32>();
    }
}

/// Adds the weighted values of a block to the sums of all rows.
#[inline(always)]
pub(super) fn add<S: Lanes>(
    s: S,
    weights: &[f32],
    values: &[f32],
    stride: usize,
    sums: &mut [f32],
) {
    for (tile, weights) in weights.chunks_exact(TILE * BLOCK).enumerate() {
        let (w0, rest) = weights.split_at(BLOCK);
        let (w1, rest) = rest.split_at(BLOCK);
        let (w2, w3) = rest.split_at(BLOCK);
        for at in (0..stride).step_by(2 * S::N) {
            let place = |row: usize| (tile * TILE + row) * stride + at;
            let mut parts = [[s.splat(0.0); 2]; TILE];
            for (row, parts) in parts.iter_mut().enumerate() {
                *parts = [load(s, sums, place(row)), load(s, sums, place(row) + S::N)];
            }
            let weights = w0.iter().zip(w1).zip(w2).zip(w3);
            for (i, (((a, b), c), d)) in weights.enumerate() {
                let values =
                    [load(s, values, i * stride + at), load(s, values, i * stride + at + S::N)];
                let w = [s.splat(*a), s.splat(*b), s.splat(*c), s.splat(*d)];
                for (parts, w) in parts.iter_mut().zip(w) {
                    for (part, values) in parts.iter_mut().zip(values) {
                        *part = s.add(*part, s.mul(w, values));
                    }
                }
            }
            for (row, parts) in parts.into_iter().enumerate() {
                store(s, parts[0], sums, place(row));
                store(s, parts[1], sums, place(row) + S::N);
            }
        }
    }
}
