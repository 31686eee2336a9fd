//! Attention over the cache, block by block, with running sums: no matrix of scores is made.
//!
//! A piece of work is some neighbouring tokens and the query heads that share a head of keys. A block
//! of keys and values is restored to single precision once for all of them.

use quant_core::lanes::{Lanes, MAX_LANES};
use quant_kernels::LaneOp;

use super::{
    cache::{BLOCK, LayerCache},
    functions::soft_cap,
    runner::Runner,
    split,
};

/// Which tokens a token sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Itself and those before it, at most so many.
    Before(usize),
    /// Those at most so far away on either side.
    Around(usize),
    /// Itself and those before it in its piece of the text, which is so long.
    Chunk(usize),
}

impl Sight {
    /// The first token that the one at `position` sees, and the one after the last.
    fn range(self, position: usize, all: usize) -> (usize, usize) {
        match self {
            Self::Chunk(width) => (position - position % width.max(1), (position + 1).min(all)),
            Self::Before(width) => ((position + 1).saturating_sub(width), (position + 1).min(all)),
            Self::Around(distance) => (
                position.saturating_sub(distance),
                position.saturating_add(distance).saturating_add(1).min(all),
            ),
        }
    }
}

/// What is added to scores by the distance, as T5 has it: a number for each of some buckets of
/// distances, half of them for tokens behind.
#[derive(Debug)]
pub(crate) struct Distances {
    /// Head by head, for the distances from `-REACH` to `REACH`.
    biases: Vec<f32>,
}

/// Distances from which on all are alike.
const REACH: usize = 128;

impl Distances {
    /// Of a table with the numbers of all heads for each bucket; a multiple of four buckets.
    pub(crate) fn new(heads: usize, table: &[f32]) -> Self {
        let half = table.len() / heads.max(1) / 2;
        let exact = half / 2;
        let bucket = |distance: usize| match distance < exact {
            true => distance,
            false => {
                let share = |distance: usize| (distance as f32 / exact as f32).ln();
                let step = share(distance) / share(REACH) * (half - exact) as f32;
                (exact + step as usize).min(half - 1)
            }
        };
        let of = |head: usize, bucket: usize| table.get(bucket * heads + head).copied();
        let before = |head| (1..=REACH).rev().map(move |distance| of(head, bucket(distance)));
        let after = |head| {
            let further = (1..=REACH).map(move |distance| of(head, half + bucket(distance)));
            std::iter::once(of(head, 0)).chain(further)
        };
        let all = (0..heads).flat_map(|head| before(head).chain(after(head)));
        Self { biases: all.map(Option::unwrap_or_default).collect() }
    }

    /// What is added to the scores of a head for the tokens from `start` on.
    fn add(&self, head: usize, position: usize, start: usize, scores: &mut [f32]) {
        let of_head = 2 * REACH + 1;
        let biases = self.biases.get(head * of_head..(head + 1) * of_head).unwrap_or_default();
        for (i, score) in scores.iter_mut().enumerate() {
            let at = (start + i + REACH).saturating_sub(position).min(of_head - 1);
            *score += biases.get(at).copied().unwrap_or_default();
        }
    }
}

/// How a layer attends.
pub(crate) struct Attend<'a> {
    /// Heads of queries.
    pub(crate) heads: usize,
    /// What scores are multiplied by.
    pub(crate) scale: f32,
    /// The soft cap on scores; 0 is none.
    pub(crate) cap: f32,
    pub(crate) sight: Sight,
    /// What scores lose for each token of distance, head by head.
    pub(crate) slopes: Option<&'a [f32]>,
    pub(crate) distances: Option<&'a Distances>,
    /// A score for each head that no token has: it takes weight from the others.
    pub(crate) sinks: Option<&'a [f32]>,
}

/// Rows of queries in a piece of work.
const ROWS: usize = 64;
/// Rows that meet a vector of keys or values together.
const TILE: usize = 4;

impl Attend<'_> {
    /// `out`: for each token a row of all heads' values. `queries`: for each token, from position
    /// `first` on, a row of all heads. `all`: tokens in the cache.
    pub(crate) fn run(
        &self,
        runner: Runner<'_>,
        cache: &LayerCache,
        queries: &[f32],
        first: usize,
        all: usize,
        out: &mut [f32],
    ) {
        let (key, value) = (cache.key, cache.value);
        let group = self.heads / cache.heads.max(1);
        if group == 0 || queries.is_empty() {
            return;
        }
        let tokens = queries.len() / (self.heads * key);
        let tile = (ROWS / group).clamp(1, tokens);
        // Group by group, so that each piece is one run of values.
        let mut grouped = vec![0.0; out.len()];
        let mut pieces = Vec::new();
        for (head, mut values) in grouped.chunks_exact_mut(tokens * group * value).enumerate() {
            let mut start = 0;
            while start < tokens {
                let count = tile.min(tokens - start);
                let (these, rest) = values.split_at_mut(count * group * value);
                values = rest;
                pieces.push((head, start, these));
                start += count;
            }
        }
        // The last tokens see most: they come first.
        pieces.sort_by_key(|(_, start, _)| std::cmp::Reverse(*start));
        split::pieces(runner.threads, pieces.into_iter(), &|(head, start, out)| {
            let count = out.len() / (group * value);
            let rows = count * group;
            let mut scaled = vec![0.0; rows.next_multiple_of(TILE) * key];
            for (i, to) in scaled.chunks_exact_mut(key).take(rows).enumerate() {
                let (token, head) = (start + i / group, head * group + i % group);
                let at = (token * self.heads + head) * key;
                for (to, from) in to.iter_mut().zip(queries.get(at..).unwrap_or_default()) {
                    *to = from * self.scale;
                }
            }
            let piece = Piece {
                attend: self,
                cache,
                head,
                group,
                rows,
                first: first + start,
                all,
                queries: &scaled,
                out,
            };
            runner.kernels.run(piece);
        });
        let width = self.heads * value;
        split::rows(runner.threads, out, width, &|first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                for (head, to) in row.chunks_exact_mut(group * value).enumerate() {
                    let at = (head * tokens + first + i) * group * value;
                    to.copy_from_slice(grouped.get(at..at + to.len()).unwrap_or_default());
                }
            }
        });
    }
}

struct Piece<'a> {
    attend: &'a Attend<'a>,
    cache: &'a LayerCache,
    /// The head of keys and values.
    head: usize,
    /// Heads of queries that share it.
    group: usize,
    rows: usize,
    /// The position of the first token.
    first: usize,
    /// Tokens in the cache.
    all: usize,
    /// Scaled, with rows up to a whole tile.
    queries: &'a [f32],
    out: &'a mut [f32],
}

impl LaneOp for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) {
        let (key, value, rows) = (self.cache.key, self.cache.value, self.rows);
        let padded = rows.next_multiple_of(TILE);
        let stride = value.next_multiple_of(MAX_LANES);
        // Vectors are loaded from arrays of the widest: room behind the last one.
        let mut keys = vec![0.0; key * BLOCK + MAX_LANES];
        let mut values = vec![0.0; BLOCK * stride + MAX_LANES];
        let mut narrow = vec![0.0; BLOCK * value];
        let mut scores = vec![0.0; padded * BLOCK + MAX_LANES];
        let mut sums = vec![0.0; padded * stride + MAX_LANES];
        let mut highest = vec![f32::NEG_INFINITY; padded];
        let mut totals = vec![0.0f32; padded];
        let sinks = self.attend.sinks.and_then(|all| all.get(self.head * self.group..));
        if let Some(sinks) = sinks {
            for (row, (highest, total)) in highest.iter_mut().zip(&mut totals).enumerate() {
                if let Some(sink) = sinks.get(row % self.group) {
                    (*highest, *total) = (*sink, 1.0);
                }
            }
        }
        let sight = self.attend.sight;
        let last = self.first + (rows - 1) / self.group;
        let from = sight.range(self.first, self.all).0 / BLOCK;
        let to = sight.range(last, self.all).1.div_ceil(BLOCK);
        for block in from..to {
            self.cache.keys(s, self.head, block, &mut keys[..key * BLOCK]);
            self.cache.values(s, self.head, block, &mut narrow);
            for (to, from) in values.chunks_exact_mut(stride).zip(narrow.chunks_exact(value)) {
                to[..value].copy_from_slice(from);
            }
            score(s, self.queries, key, &keys, &mut scores);
            self.mask(s, block * BLOCK, &mut scores);
            weigh(s, &mut scores, &mut highest, &mut totals, &mut sums, stride);
            add(s, &scores, &values, stride, &mut sums);
        }
        let results = self.out.chunks_exact_mut(value).zip(sums.chunks_exact(stride));
        for ((out, sums), total) in results.zip(&totals) {
            let scale = if *total > 0.0 { 1.0 / total } else { 0.0 };
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * scale);
        }
    }
}

impl Piece<'_> {
    /// Caps scores, takes off what the distance costs, and hides what a token does not see.
    #[inline(always)]
    fn mask<S: Lanes>(&self, s: S, start: usize, scores: &mut [f32]) {
        let attend = self.attend;
        for (row, scores) in scores.chunks_exact_mut(BLOCK).take(self.rows).enumerate() {
            if attend.cap != 0.0 {
                let mut lanes = [0.0; MAX_LANES];
                for part in scores.chunks_exact_mut(S::N) {
                    lanes[..S::N].copy_from_slice(part);
                    s.store(soft_cap(s, s.load(&lanes), attend.cap), &mut lanes);
                    part.copy_from_slice(&lanes[..S::N]);
                }
            }
            let position = self.first + row / self.group;
            let head = self.head * self.group + row % self.group;
            if let Some(slope) = attend.slopes.and_then(|all| all.get(head)) {
                for (i, score) in scores.iter_mut().enumerate() {
                    *score -= slope * position.abs_diff(start + i) as f32;
                }
            }
            if let Some(distances) = attend.distances {
                distances.add(head, position, start, scores);
            }
            let (from, to) = attend.sight.range(position, self.all);
            let from = from.saturating_sub(start).min(BLOCK);
            let to = to.saturating_sub(start).clamp(from, BLOCK);
            scores[..from].fill(f32::NEG_INFINITY);
            scores[to..].fill(f32::NEG_INFINITY);
        }
    }
}

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
fn score<S: Lanes>(s: S, queries: &[f32], key: usize, keys: &[f32], scores: &mut [f32]) {
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
fn weigh<S: Lanes>(
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
fn add<S: Lanes>(s: S, weights: &[f32], values: &[f32], stride: usize, sums: &mut [f32]) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// T5's 32 buckets: 16 for tokens behind, of which the first eight hold one distance each.
    #[test]
    fn distances_fall_into_the_buckets_of_t5() {
        let heads = 2;
        // The number of head 1 in bucket 5 is 105.
        let table: Vec<f32> =
            (0..32).flat_map(|bucket| [bucket as f32, 100.0 + bucket as f32]).collect();
        let distances = Distances::new(heads, &table);
        let starts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        let position = 500;
        for head in 0..heads {
            let mut scores = vec![0.0; 1000];
            distances.add(head, position, 0, &mut scores);
            for (i, score) in scores.iter().enumerate() {
                let bucket = starts.iter().rposition(|start| *start <= i.abs_diff(position));
                let side = if i > position { 16 } else { 0 };
                let expected = 100 * head + side + bucket.unwrap();
                assert_eq!(*score, expected as f32, "head {head}, token {i} from {position}");
            }
            // Blocks are parts of the same row.
            let mut block = vec![0.0; BLOCK];
            distances.add(head, position, 480, &mut block);
            assert_eq!(block, scores[480..480 + BLOCK]);
        }
    }
}
