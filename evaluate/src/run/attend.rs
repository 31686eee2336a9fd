//! Attention over the cache, block by block, with running sums: no matrix of scores is made.
//!
//! A piece of work is some neighbouring tokens and the query heads that share a head of keys, and where
//! these are few also a segment of the sequence. A block of keys and values is restored to single precision
//! once for all of them.

use std::ops::Range;

use quant_core::lanes::{Lanes, MAX_LANES};
use quant_kernels::{LaneOp, Parallel, Serial};

use super::{
    block::{TILE, add, score, weigh},
    cache::{BLOCK, LayerCache},
    functions::soft_cap,
    runner::Runner,
    sight::{Distances, Sight},
    split,
};

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
/// Pieces that keep many threads busy: where there are fewer, the sequence is cut, too.
const ENOUGH: usize = 64;
/// Blocks of the sequence in a piece, at least.
const SEGMENT: usize = 4;
/// Products below which handing out work costs more than doing it.
const SMALL: usize = 1 << 16;

/// What of a row's softmax stands behind its sums: the highest score, and the total of the weights.
const BEHIND: usize = 2;

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
        let seen = Blocks::of(self.sight, first, tokens, all);
        let segment = segment_len(cache.heads * tokens.div_ceil(tile), seen.to - seen.from);
        let segments = seen.segments(segment);
        // Group by group and segment by segment, so that what a piece finds is one run of values.
        let of_row = value + BEHIND;
        let mut found = vec![0.0; cache.heads * segments.len() * tokens * group * of_row];
        let mut pieces = Vec::new();
        for (i, mut values) in found.chunks_exact_mut(tokens * group * of_row).enumerate() {
            let (head, index) = (i / segments.len(), i % segments.len());
            for start in (0..tokens).step_by(tile) {
                let count = tile.min(tokens - start);
                let (out, rest) = values.split_at_mut(count * group * of_row);
                values = rest;
                let of_tile = Blocks::of(self.sight, first + start, count, all);
                let blocks = of_tile.within(segments.start + index, segment);
                // What nobody sees stays without weight.
                if blocks.from < blocks.to {
                    let is_first = blocks.from == of_tile.from;
                    let rows = count * group;
                    let first = first + start;
                    let place = Place { head, group, rows, first, all, blocks, is_first };
                    pieces.push((start, place, out));
                }
            }
        }
        // The last tokens see most: they come first.
        pieces.sort_by_key(|(start, ..)| std::cmp::Reverse(*start));
        let work = |buffers: &mut Buffers, (start, place, out): (usize, Place, &mut [f32])| {
            let padded = place.rows.next_multiple_of(TILE);
            let scaled = buffers.queries.get_mut(..padded * key).unwrap_or_default();
            for (i, to) in scaled.chunks_exact_mut(key).take(place.rows).enumerate() {
                let (token, head) = (start + i / group, place.head * group + i % group);
                let at = (token * self.heads + head) * key;
                for (to, from) in to.iter_mut().zip(queries.get(at..).unwrap_or_default()) {
                    *to = from * self.scale;
                }
            }
            runner.kernels.run(Piece { attend: self, cache, place, buffers, out });
        };
        let new = || Buffers::new(cache, tile * group);
        let products = tokens * self.heads * (seen.to - seen.from) * BLOCK * (key + value);
        let threads = if products < SMALL { &Serial } else { runner.threads as &dyn Parallel };
        split::pieces_with(threads, pieces.into_iter(), &new, &work);

        let width = self.heads * value;
        let of_segment = tokens * group * of_row;
        split::rows(runner.threads, out, width, &|first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                for (head, to) in row.chunks_exact_mut(value).enumerate() {
                    let at = ((first + i) * group + head % group) * of_row;
                    let parts = found.chunks_exact(of_segment).skip(head / group * segments.len());
                    let parts = parts.take(segments.len());
                    join(to, parts.filter_map(|part| part.get(at..at + of_row)));
                }
            }
        });
    }
}

/// Blocks of the sequence in a piece, by the number of pieces that there are without cutting it and the
/// blocks that are seen; not by the number of threads, on which no result depends.
fn segment_len(pieces: usize, blocks: usize) -> usize {
    match pieces < ENOUGH {
        true => SEGMENT.max(blocks.div_ceil(ENOUGH.div_ceil(pieces.max(1))).next_power_of_two()),
        false => usize::MAX,
    }
}

/// The weighted mean that the sums of some segments stand for.
fn join<'a>(to: &mut [f32], parts: impl Iterator<Item = &'a [f32]> + Clone) {
    // Where no token is seen there is no weight, and no highest score.
    let parts = parts.filter_map(|part| {
        let (sums, behind) = part.split_at_checked(to.len())?;
        let (highest, total) = (*behind.first()?, *behind.get(1)?);
        (total > 0.0).then_some((sums, highest, total))
    });
    let parts: Vec<_> = parts.collect();
    match parts[..] {
        [] => to.fill(0.0),
        [(sums, _, total)] => {
            let scale = 1.0 / total;
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum * scale);
        }
        _ => {
            let highest = parts.iter().fold(f32::NEG_INFINITY, |so_far, part| so_far.max(part.1));
            let weight = |of_part: f32| (of_part - highest).exp();
            let total: f32 = parts.iter().map(|(_, of_part, total)| weight(*of_part) * total).sum();
            to.fill(0.0);
            for (sums, of_part, _) in parts {
                let scale = weight(of_part) / total;
                to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum * scale);
            }
        }
    }
}

/// Blocks of the sequence.
#[derive(Clone, Copy)]
struct Blocks {
    from: usize,
    to: usize,
}

impl Blocks {
    /// Those that some tokens see, from a position on.
    fn of(sight: Sight, first: usize, tokens: usize, all: usize) -> Self {
        let from = sight.range(first, all).0 / BLOCK;
        let to = sight.range(first + tokens.saturating_sub(1), all).1.div_ceil(BLOCK);
        Self { from, to: to.max(from) }
    }

    /// The numbers of the segments that they are in, each of so many blocks.
    fn segments(self, segment: usize) -> Range<usize> {
        self.from / segment..self.to.div_ceil(segment).max(self.from / segment + 1)
    }

    /// Those in a segment.
    fn within(self, index: usize, segment: usize) -> Self {
        let start = index.saturating_mul(segment);
        let from = self.from.max(start);
        Self { from, to: self.to.min(start.saturating_add(segment)).max(from) }
    }
}

/// What a thread needs to attend.
struct Buffers {
    /// Scaled, with rows up to a whole tile.
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    narrow: Vec<f32>,
    scores: Vec<f32>,
    sums: Vec<f32>,
    highest: Vec<f32>,
    totals: Vec<f32>,
}

impl Buffers {
    /// Room for so many rows.
    fn new(cache: &LayerCache, rows: usize) -> Self {
        let padded = rows.next_multiple_of(TILE);
        let stride = cache.value.next_multiple_of(MAX_LANES);
        // Vectors are loaded from arrays of the widest: room behind the last one.
        Self {
            queries: vec![0.0; padded * cache.key],
            keys: vec![0.0; cache.key * BLOCK + MAX_LANES],
            values: vec![0.0; BLOCK * stride + MAX_LANES],
            narrow: vec![0.0; BLOCK * cache.value],
            scores: vec![0.0; padded * BLOCK + MAX_LANES],
            sums: vec![0.0; padded * stride + MAX_LANES],
            highest: vec![0.0; padded],
            totals: vec![0.0; padded],
        }
    }
}

/// What a piece of work is.
#[derive(Clone, Copy)]
struct Place {
    /// The head of keys and values.
    head: usize,
    /// Heads of queries that share it.
    group: usize,
    rows: usize,
    /// The position of the first token.
    first: usize,
    /// Tokens in the cache.
    all: usize,
    /// Those that are gone over.
    blocks: Blocks,
    /// Whether the first token sees none before them.
    is_first: bool,
}

struct Piece<'a> {
    attend: &'a Attend<'a>,
    cache: &'a LayerCache,
    place: Place,
    /// With the queries.
    buffers: &'a mut Buffers,
    /// For each row the sums, and what is [behind](BEHIND) them.
    out: &'a mut [f32],
}

impl LaneOp for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) {
        let Self { attend, cache, place, buffers, out } = self;
        let (key, value) = (cache.key, cache.value);
        let padded = place.rows.next_multiple_of(TILE);
        let stride = value.next_multiple_of(MAX_LANES);
        let Buffers { queries, keys, values, narrow, scores, sums, highest, totals } = buffers;
        let queries = &queries[..padded * key];
        let scores = &mut scores[..padded * BLOCK + MAX_LANES];
        let sums = &mut sums[..padded * stride + MAX_LANES];
        let (highest, totals) = (&mut highest[..padded], &mut totals[..padded]);
        sums.fill(0.0);
        highest.fill(f32::NEG_INFINITY);
        totals.fill(0.0);
        let sinks = attend.sinks.filter(|_| place.is_first);
        if let Some(sinks) = sinks.and_then(|all| all.get(place.head * place.group..)) {
            for (row, (highest, total)) in highest.iter_mut().zip(&mut *totals).enumerate() {
                if let Some(sink) = sinks.get(row % place.group) {
                    (*highest, *total) = (*sink, 1.0);
                }
            }
        }
        for block in place.blocks.from..place.blocks.to {
            cache.keys(s, place.head, block, &mut keys[..key * BLOCK]);
            if stride == value {
                cache.values(s, place.head, block, &mut values[..BLOCK * value]);
            } else {
                cache.values(s, place.head, block, narrow);
                for (to, from) in values.chunks_exact_mut(stride).zip(narrow.chunks_exact(value)) {
                    to[..value].copy_from_slice(from);
                }
            }
            score(s, queries, key, keys, scores);
            place.mask(s, attend, block * BLOCK, scores);
            weigh(s, scores, highest, totals, sums, stride);
            add(s, scores, values, stride, sums);
        }
        let results = out.chunks_exact_mut(value + BEHIND).zip(sums.chunks_exact(stride));
        for ((out, sums), (highest, total)) in results.zip(highest.iter().zip(&*totals)) {
            out[..value].copy_from_slice(&sums[..value]);
            out[value..].copy_from_slice(&[*highest, *total]);
        }
    }
}

impl Place {
    /// Caps scores, takes off what the distance costs, and hides what a token does not see.
    #[inline(always)]
    fn mask<S: Lanes>(&self, s: S, attend: &Attend<'_>, start: usize, scores: &mut [f32]) {
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use quant_kernels::{Kernels, Pool};

    use super::{super::CachePrecision, *};

    /// Numbers that look random, from -1 to 1.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    const HEADS: usize = 6;
    const KV_HEADS: usize = 2;
    const KEY: usize = 8;
    const VALUE: usize = 5;

    /// As the formula has it, with all scores in memory.
    fn naive(
        attend: &Attend<'_>,
        (queries, keys, values): (&[f32], &[f32], &[f32]),
        first: usize,
        all: usize,
    ) -> Vec<f64> {
        let mut out = Vec::new();
        for (i, query) in queries.chunks_exact(KEY).enumerate() {
            let (position, head) = (first + i / HEADS, i % HEADS);
            let group = head / (HEADS / KV_HEADS);
            let (from, to) = attend.sight.range(position, all);
            let score = |token: usize| {
                let key = &keys[(token * KV_HEADS + group) * KEY..][..KEY];
                let product: f64 =
                    query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                let score = product * f64::from(attend.scale);
                let cap = f64::from(attend.cap);
                let score = if cap == 0.0 { score } else { cap * (score / cap).tanh() };
                let slope = attend.slopes.map_or(0.0, |slopes| f64::from(slopes[head]));
                (score - slope * position.abs_diff(token) as f64).exp()
            };
            let weights: Vec<f64> = (from..to).map(score).collect();
            let sink = attend.sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
            let total = weights.iter().sum::<f64>() + sink;
            out.extend((0..VALUE).map(|v| {
                let value = |token: usize| values[(token * KV_HEADS + group) * VALUE + v];
                let terms = weights.iter().zip(from..to);
                terms.map(|(w, token)| w * f64::from(value(token))).sum::<f64>() / total
            }));
        }
        out
    }

    #[test]
    fn a_cut_sequence_gives_what_the_formula_says_on_any_threads() {
        const ALL: usize = 1500;
        let slopes = numbers(HEADS, 3).iter().map(|v| v.abs() / 100.0).collect::<Vec<_>>();
        let sinks = numbers(HEADS, 4);
        let plain = Attend {
            heads: HEADS,
            scale: 2.0,
            cap: 0.0,
            sight: Sight::Before(usize::MAX),
            slopes: None,
            distances: None,
            sinks: None,
        };
        let attends = [
            Attend { ..plain },
            Attend { sight: Sight::Before(300), cap: 1.5, ..plain },
            Attend { sight: Sight::Chunk(400), sinks: Some(&sinks), ..plain },
            Attend { sight: Sight::Around(200), slopes: Some(&slopes), ..plain },
            Attend { sinks: Some(&sinks), slopes: Some(&slopes), ..plain },
        ];
        let pool = Pool::new(NonZeroUsize::new(3).unwrap()).unwrap();
        let alone = Runner::new(Kernels::best(), &Serial);
        let (keys, values) = (numbers(ALL * KV_HEADS * KEY, 1), numbers(ALL * KV_HEADS * VALUE, 2));
        let mut cache =
            LayerCache::new(CachePrecision::Single, (KV_HEADS, KEY, VALUE), ALL).unwrap();
        cache.store(alone, 0, &keys, &values);
        let mut problems = Vec::new();
        for (number, attend) in attends.iter().enumerate() {
            for (first, tokens) in [(0, 1), (127, 1), (1400, 1), (100, 60), (1300, 200), (0, ALL)] {
                let queries = numbers(tokens * HEADS * KEY, 5);
                let all = first + tokens;
                let run = |runner| {
                    let mut out = vec![f32::NAN; tokens * HEADS * VALUE];
                    attend.run(runner, &cache, &queries, first, all, &mut out);
                    out
                };
                let found = run(alone);
                // NaN, which nobody wrote over, is not even equal to itself.
                if found != run(Runner::new(Kernels::best(), &pool)) {
                    problems.push(format!("attend {number}, {tokens} from {first}: by threads"));
                }
                let expected = naive(attend, (&queries, &keys, &values), first, all);
                let off = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs();
                let most = found.iter().zip(&expected).map(off).fold(0.0, f64::max);
                if most >= 2e-6 {
                    problems.push(format!("attend {number}, {tokens} from {first}: {most:e}"));
                }
            }
        }
        assert!(problems.is_empty(), "{problems:#?}");
    }
}
