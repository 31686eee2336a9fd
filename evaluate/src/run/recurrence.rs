//! What recurrent layers have in common: a convolution over the last tokens, and a state that fades while
//! each token adds to it.

use std::ops::Range;

use quant_core::lanes::{Lanes, MAX_LANES};
use quant_kernels::LaneOp;

use super::{runner::Runner, split};

/// What a recurrent layer remembers of the tokens so far.
pub(crate) struct State {
    /// The inputs of the convolution for the last tokens, oldest first.
    window: Vec<f32>,
    /// For each value of each head a row as wide as a key.
    rows: Vec<f32>,
}

impl State {
    /// The state before the first token; `None` if there is not enough memory.
    pub(crate) fn new(window: usize, rows: usize) -> Option<Self> {
        let zeros = |len: usize| {
            let mut all = Vec::new();
            all.try_reserve_exact(len).ok()?;
            all.resize(len, 0.0f32);
            Some(all)
        };
        Some(Self { window: zeros(window)?, rows: zeros(rows)? })
    }

    /// Forgets all tokens.
    pub(crate) fn clear(&mut self) {
        self.window.fill(0.0);
        self.rows.fill(0.0);
    }
}

/// A causal convolution over tokens, for each channel by itself.
pub(crate) struct Convolution {
    channels: usize,
    /// What each channel is multiplied by: a row for the oldest token first.
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Convolution {
    /// Of weights as they are stored: those of a channel side by side. Their number is a multiple of the
    /// channels, and not zero.
    pub(crate) fn new(channels: usize, weights: &[f32], bias: Option<Vec<f32>>) -> Self {
        let kernel = weights.len() / channels.max(1);
        let of_token = |token| weights.iter().skip(token).step_by(kernel).copied();
        Self { channels, weights: (0..kernel).flat_map(of_token).collect(), bias }
    }

    /// Values that it remembers between calls.
    pub(crate) fn window(&self) -> usize {
        self.weights.len().saturating_sub(self.channels)
    }

    /// The results for some tokens, a row of all channels each.
    pub(crate) fn run(&self, runner: Runner<'_>, state: &mut State, x: &[f32]) -> Vec<f32> {
        let channels = self.channels;
        let all = [state.window.as_slice(), x].concat();
        let mut out = vec![0.0; x.len()];
        split::rows(runner.threads, &mut out, channels, &|first, rows| {
            for (i, row) in rows.chunks_exact_mut(channels).enumerate() {
                if let Some(bias) = &self.bias {
                    row.copy_from_slice(bias);
                }
                let inputs = all.chunks_exact(channels).skip(first + i);
                for (weights, input) in self.weights.chunks_exact(channels).zip(inputs) {
                    let terms = weights.iter().zip(input);
                    row.iter_mut().zip(terms).for_each(|(sum, (w, v))| *sum += w * v);
                }
            }
        });
        let kept = all.len() - state.window.len();
        state.window.copy_from_slice(all.get(kept..).unwrap_or_default());
        out
    }
}

/// A state for each head: a row for each of its values, as wide as a key. For each token a row fades,
/// the key is added to it in proportion to the value, and its product with the query is the result.
/// Mamba, Mamba 2 and delta nets differ in what makes keys, queries, values and rates.
#[derive(Clone, Copy)]
pub(crate) struct Recurrence {
    pub(crate) heads: usize,
    /// Values of a head.
    pub(crate) values: usize,
    /// Values of a key, and of a query.
    pub(crate) keys: usize,
    /// How many heads have keys and queries of their own.
    pub(crate) groups: usize,
    /// Whether neighbouring heads share a key; else those that many heads apart.
    pub(crate) neighbours: bool,
    /// Whether only what the row does not yield for the key so far is added: the delta rule.
    pub(crate) corrects: bool,
}

/// What goes in, a row for each token.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// The values of all heads.
    pub(crate) values: &'a [f32],
    /// The keys and queries of all groups.
    pub(crate) keys: &'a [f32],
    pub(crate) queries: &'a [f32],
    /// What the value of each head is multiplied by.
    pub(crate) rates: &'a [f32],
    pub(crate) fading: Fading<'a>,
}

/// What is left of a row with each token.
#[derive(Clone, Copy)]
pub(crate) enum Fading<'a> {
    /// A factor for each head of each token.
    Head(&'a [f32]),
    /// `exp(rate · a)`, with a number for each value of a key of each head.
    Exponent(&'a [f32]),
    /// A factor for each value of a key of each head of each token.
    Key(&'a [f32]),
}

/// Heads times tokens times values of a state below which one thread is quicker.
const SMALL: usize = 1 << 15;

impl Recurrence {
    /// Values of the state.
    pub(crate) fn state(&self) -> usize {
        self.heads * self.values * self.keys
    }

    /// The results, for each token a row of all heads' values.
    pub(crate) fn run(
        &self,
        runner: Runner<'_>,
        state: &mut State,
        inputs: Inputs<'_>,
    ) -> Vec<f32> {
        let width = self.heads * self.values;
        let tokens = inputs.values.len() / width.max(1);
        let parts = match runner.threads.threads().max(1) {
            _ if tokens * self.state() < SMALL => 1,
            threads => 4 * threads,
        };
        let per_piece = self.heads.div_ceil(parts).max(1);
        // Head by head, so that each piece is one run of values.
        let mut by_head = vec![0.0; tokens * width];
        let rows = state.rows.chunks_mut(per_piece * self.values * self.keys);
        let outs = by_head.chunks_mut(per_piece * tokens * self.values);
        let pieces = rows.zip(outs).enumerate().map(|(i, (rows, out))| {
            let first = i * per_piece;
            let heads = first..self.heads.min(first + per_piece);
            Piece { recurrence: *self, inputs, heads, rows, out }
        });
        if parts == 1 {
            pieces.for_each(|piece| runner.kernels.run(piece));
        } else {
            split::pieces(runner.threads, pieces, &|piece| runner.kernels.run(piece));
        }
        if tokens == 1 {
            return by_head;
        }
        let mut out = vec![0.0; tokens * width];
        split::rows(runner.threads, &mut out, width, &|first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                for (head, to) in row.chunks_exact_mut(self.values).enumerate() {
                    let at = (head * tokens + first + i) * self.values;
                    to.copy_from_slice(by_head.get(at..at + to.len()).unwrap_or_default());
                }
            }
        });
        out
    }

    /// The group of a head.
    fn group(&self, head: usize) -> usize {
        if self.neighbours { head / (self.heads / self.groups).max(1) } else { head % self.groups }
    }
}

/// Some heads.
struct Piece<'a> {
    recurrence: Recurrence,
    inputs: Inputs<'a>,
    heads: Range<usize>,
    rows: &'a mut [f32],
    out: &'a mut [f32],
}

impl LaneOp for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) {
        let Recurrence { heads, values, keys, groups, corrects, .. } = self.recurrence;
        let part = |all: &'_ [f32], index: usize, width: usize| -> std::ops::Range<usize> {
            debug_assert!((index + 1) * width <= all.len());
            index * width..(index + 1) * width
        };
        let mut fading = vec![1.0; keys];
        let tokens = self.out.len() / (self.heads.len() * values).max(1);
        let states = self.rows.chunks_exact_mut(values * keys);
        let outs = self.out.chunks_exact_mut((tokens * values).max(1));
        for ((head, state), out) in self.heads.clone().zip(states).zip(outs) {
            let group = self.recurrence.group(head);
            for (token, out) in out.chunks_exact_mut(values).enumerate() {
                let at = token * heads + head;
                let inputs = &self.inputs;
                let key = &inputs.keys[part(inputs.keys, token * groups + group, keys)];
                let query = &inputs.queries[part(inputs.queries, token * groups + group, keys)];
                let value = &inputs.values[part(inputs.values, at, values)];
                let rate = inputs.rates[at];
                match inputs.fading {
                    Fading::Head(all) => fading.fill(all[at]),
                    Fading::Key(all) => fading.copy_from_slice(&all[part(all, at, keys)]),
                    Fading::Exponent(a) => {
                        let a = &a[part(a, head, keys)];
                        for (fading, a) in fading.chunks_mut(S::N).zip(a.chunks(S::N)) {
                            let factor = s.exp(s.mul(load(s, a), s.splat(rate)));
                            store(s, factor, fading);
                        }
                    }
                }
                let rows = state.chunks_exact_mut(keys).zip(value).zip(out);
                for ((row, value), out) in rows {
                    let mut value = *value;
                    if corrects {
                        let mut sum = s.splat(0.0);
                        let terms = fading.chunks(S::N).zip(key.chunks(S::N));
                        for (row, (fading, key)) in row.chunks(S::N).zip(terms) {
                            let faded = s.mul(load(s, row), load(s, fading));
                            sum = s.add(sum, s.mul(faded, load(s, key)));
                        }
                        value -= s.sum(sum);
                    }
                    let added = s.splat(value * rate);
                    let mut sum = s.splat(0.0);
                    let terms = fading.chunks(S::N).zip(key.chunks(S::N)).zip(query.chunks(S::N));
                    for (row, ((fading, key), query)) in row.chunks_mut(S::N).zip(terms) {
                        let faded = s.mul(load(s, row), load(s, fading));
                        let now = s.add(faded, s.mul(load(s, key), added));
                        store(s, now, row);
                        sum = s.add(sum, s.mul(now, load(s, query)));
                    }
                    *out = s.sum(sum);
                }
            }
        }
    }
}

/// As many values as there are, at most a vector of them; the other lanes are zero.
#[inline(always)]
fn load<S: Lanes>(s: S, values: &[f32]) -> S::F32 {
    if values.len() == S::N {
        return s.load_part(values);
    }
    let mut lanes = [0.0; MAX_LANES];
    lanes[..values.len()].copy_from_slice(values);
    s.load(&lanes)
}

#[inline(always)]
fn store<S: Lanes>(s: S, v: S::F32, values: &mut [f32]) {
    if values.len() == S::N {
        return s.store_part(v, values);
    }
    let mut lanes = [0.0; MAX_LANES];
    s.store(v, &mut lanes);
    values.copy_from_slice(&lanes[..values.len()]);
}

#[cfg(test)]
mod tests {
    use quant_kernels::{Kernels, Serial};

    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count).map(|_| next()).collect()
    }

    /// One token after the other, as the papers have it.
    fn naive(r: Recurrence, inputs: Inputs<'_>, tokens: usize) -> Vec<f32> {
        let mut state = vec![0.0f64; r.state()];
        let mut out = Vec::new();
        for token in 0..tokens {
            for head in 0..r.heads {
                let group = match r.neighbours {
                    true => head * r.groups / r.heads,
                    false => head % r.groups,
                };
                let at = token * r.heads + head;
                let of =
                    |all: &[f32], i: usize| f64::from(all[(token * r.groups + group) * r.keys + i]);
                for value in 0..r.values {
                    let row = &mut state[(head * r.values + value) * r.keys..][..r.keys];
                    for (i, v) in row.iter_mut().enumerate() {
                        *v *= match inputs.fading {
                            Fading::Head(all) => f64::from(all[at]),
                            Fading::Key(all) => f64::from(all[at * r.keys + i]),
                            Fading::Exponent(a) => {
                                f64::from(inputs.rates[at] * a[head * r.keys + i]).exp()
                            }
                        };
                    }
                    let known: f64 = (0..r.keys).map(|i| row[i] * of(inputs.keys, i)).sum();
                    let mut added = f64::from(inputs.values[at * r.values + value]);
                    if r.corrects {
                        added -= known;
                    }
                    added *= f64::from(inputs.rates[at]);
                    (0..r.keys).for_each(|i| row[i] += added * of(inputs.keys, i));
                    out.push(
                        (0..r.keys).map(|i| row[i] * of(inputs.queries, i)).sum::<f64>() as f32
                    );
                }
            }
        }
        out
    }

    #[test]
    fn states_are_those_of_one_token_after_the_other() {
        let runner = Runner::new(Kernels::best(), &Serial);
        // Widths of whole vectors, of less than one, and of some and a part.
        for keys in [3, 16, 37] {
            for (corrects, neighbours) in [(false, true), (true, true), (true, false)] {
                let r = Recurrence { heads: 6, values: 5, keys, groups: 2, neighbours, corrects };
                let tokens = 7;
                let values = numbers(tokens * 30, 1);
                let (k, q) = (numbers(tokens * 2 * keys, 2), numbers(tokens * 2 * keys, 3));
                let rates: Vec<f32> = numbers(tokens * 6, 4).iter().map(|v| v + 0.5).collect();
                let a: Vec<f32> = numbers(6 * keys, 5).iter().map(|v| v - 0.5).collect();
                let each = numbers(tokens * 6 * keys, 6);
                for fading in [Fading::Head(&rates), Fading::Exponent(&a), Fading::Key(&each)] {
                    let of = |from: usize, to: usize| Inputs {
                        values: &values[from * 30..to * 30],
                        keys: &k[from * 2 * keys..to * 2 * keys],
                        queries: &q[from * 2 * keys..to * 2 * keys],
                        rates: &rates[from * 6..to * 6],
                        fading: match fading {
                            Fading::Head(all) => Fading::Head(&all[from * 6..to * 6]),
                            Fading::Key(all) => Fading::Key(&all[from * 6 * keys..to * 6 * keys]),
                            whole => whole,
                        },
                    };
                    let expected = naive(r, of(0, tokens), tokens);
                    let mut state = State::new(0, r.state()).unwrap();
                    let mut found = r.run(runner, &mut state, of(0, 4));
                    found.extend(r.run(runner, &mut state, of(4, tokens)));
                    let furthest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
                    assert!(furthest.fold(0.0, f32::max) < 1e-5, "{keys} {corrects}");
                    state.clear();
                    assert_eq!(found[..30], r.run(runner, &mut state, of(0, 1)));
                }
            }
        }
    }

    #[test]
    fn convolutions_remember_the_last_tokens() {
        let runner = Runner::new(Kernels::best(), &Serial);
        // Two channels: the sum of a token and the one before it; twice the one two before it, and one.
        let weights = [0.0, 1.0, 1.0, 2.0, 0.0, 0.0];
        let convolution = Convolution::new(2, &weights, Some(vec![0.0, 1.0]));
        assert_eq!(convolution.window(), 4);
        let mut state = State::new(4, 0).unwrap();
        let x = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0];
        let mut found = convolution.run(runner, &mut state, &x[..2]);
        found.extend(convolution.run(runner, &mut state, &x[2..]));
        assert_eq!(found, [1.0, 1.0, 3.0, 1.0, 5.0, 21.0]);
    }
}
