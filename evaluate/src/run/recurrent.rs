//! Layers that remember a state of fixed size in place of keys and values.

use super::{
    Function,
    matrix::Matrix,
    norm::Norm,
    recurrence::{Convolution, Fading, Inputs, Recurrence, State},
    runner::Runner,
    split::{self, split_rows},
    watch::Watch,
};
use crate::Result;

/// The recurrent part of a layer.
pub(crate) enum Recurrent {
    ShortConvolution(Box<ShortConvolution>),
    StateSpace(Box<StateSpace>),
    DeltaNet(Box<DeltaNet>),
    KeyedDelta(Box<KeyedDelta>),
    /// Deci: a matrix in place of attention, which remembers nothing.
    Linear(Box<Matrix>),
}

impl Recurrent {
    /// Values of the convolution's memory, and of the state.
    fn sizes(&self) -> (usize, usize) {
        match self {
            Self::ShortConvolution(part) => (part.convolution.window(), 0),
            Self::StateSpace(part) => (part.convolution.window(), part.recurrence.state()),
            Self::DeltaNet(part) => (part.convolution.window(), part.recurrence.state()),
            Self::KeyedDelta(part) => (part.convolution.window(), part.recurrence.state()),
            Self::Linear(_) => (0, 0),
        }
    }

    /// The state before the first token; `None` if there is not enough memory.
    pub(crate) fn state(&self) -> Option<State> {
        let (window, rows) = self.sizes();
        State::new(window, rows)
    }

    /// Bytes of the state.
    pub(crate) fn state_bytes(&self) -> u64 {
        let (window, rows) = self.sizes();
        4 * (window as u64 + rows as u64)
    }

    /// Values per token in all buffers.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::ShortConvolution(part) => 3 * part.input.rows,
            Self::StateSpace(part) => 3 * part.input.rows,
            Self::DeltaNet(part) => 3 * (part.mixed.rows + part.gate.rows),
            Self::KeyedDelta(part) => 3 * 5 * part.output.columns,
            Self::Linear(matrix) => matrix.rows,
        }
    }

    /// The results for some tokens, a row each.
    pub(crate) fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        state: &mut State,
        x: &[f32],
        n: usize,
    ) -> Result<Vec<f32>> {
        match self {
            Self::ShortConvolution(part) => part.run(runner, watch, state, x, n),
            Self::StateSpace(part) => part.run(runner, watch, state, x, n),
            Self::DeltaNet(part) => part.run(runner, watch, state, x, n),
            Self::KeyedDelta(part) => part.run(runner, watch, state, x, n),
            Self::Linear(matrix) => {
                watch.input(matrix, x);
                matrix.times(runner, x, n)
            }
        }
    }
}

/// LFM2: a convolution between two gates.
pub(crate) struct ShortConvolution {
    /// Makes both gates and what is convolved.
    pub(crate) input: Matrix,
    pub(crate) convolution: Convolution,
    pub(crate) output: Matrix,
}

impl ShortConvolution {
    fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        state: &mut State,
        x: &[f32],
        n: usize,
    ) -> Result<Vec<f32>> {
        let width = self.input.rows / 3;
        watch.input(&self.input, x);
        let all = self.input.times(runner, x, n)?;
        let [before, after, mut values] =
            split_rows(runner.threads, &all, self.input.rows, [width; 3]);
        multiply(runner, &mut values, &before);
        let mut result = self.convolution.run(runner, state, &values);
        multiply(runner, &mut result, &after);
        watch.input(&self.output, &result);
        self.output.times(runner, &result, n)
    }
}

/// Mamba and Mamba 2.
pub(crate) struct StateSpace {
    pub(crate) input: Matrix,
    pub(crate) convolution: Convolution,
    pub(crate) steps: Steps,
    pub(crate) recurrence: Recurrence,
    /// How quickly states fade: a number for each head, or for each value of a head's keys.
    pub(crate) a: Vec<f32>,
    /// How much of its input each head lets through.
    pub(crate) through: Vec<f32>,
    /// The norm of each group behind the gate.
    pub(crate) norm: Option<Norm>,
    pub(crate) output: Matrix,
}

/// Where time steps, keys and queries come from.
#[allow(clippy::large_enum_variant, reason = "there are as many as layers")]
pub(crate) enum Steps {
    /// Mamba: from what the convolution makes; steps are compressed.
    Projected { all: Matrix, up: Matrix, norms: Option<[Norm; 3]> },
    /// Mamba 2: from the layer's input; this is added to the steps.
    Input { bias: Vec<f32> },
}

impl StateSpace {
    fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        state: &mut State,
        x: &[f32],
        n: usize,
    ) -> Result<Vec<f32>> {
        let Recurrence { heads, values: of_head, keys: width, groups, .. } = self.recurrence;
        let (inner, of_groups) = (heads * of_head, groups * width);
        watch.input(&self.input, x);
        let all = self.input.times(runner, x, n)?;
        let (mut gates, values, keys, queries, mut rates);
        match &self.steps {
            Steps::Projected { all: matrix, up, norms } => {
                let [input, gate] = split_rows(runner.threads, &all, self.input.rows, [inner; 2]);
                gates = gate;
                let mut input = self.convolution.run(runner, state, &input);
                Function::Silu.apply(runner, &mut input, None);
                watch.input(matrix, &input);
                let made = matrix.times(runner, &input, n)?;
                let widths = [up.columns, of_groups, of_groups];
                let [mut low, mut k, mut q] =
                    split_rows(runner.threads, &made, matrix.rows, widths);
                if let Some(norms) = norms {
                    for (norm, (values, width)) in
                        norms.iter().zip([&mut low, &mut k, &mut q].into_iter().zip(widths))
                    {
                        norm.apply(runner, values, width);
                    }
                }
                watch.input(up, &low);
                rates = up.times(runner, &low, n)?;
                (values, keys, queries) = (input, k, q);
            }
            Steps::Input { bias } => {
                let convolved = inner + 2 * of_groups;
                let [gate, mut mixed, steps] =
                    split_rows(runner.threads, &all, self.input.rows, [inner, convolved, heads]);
                gates = gate;
                mixed = self.convolution.run(runner, state, &mixed);
                Function::Silu.apply(runner, &mut mixed, None);
                [values, keys, queries] =
                    split_rows(runner.threads, &mixed, convolved, [inner, of_groups, of_groups]);
                rates = steps;
                for rates in rates.chunks_exact_mut(heads) {
                    rates.iter_mut().zip(bias).for_each(|(rate, bias)| *rate += bias);
                }
            }
        }
        rates.iter_mut().for_each(|rate| *rate = softplus(*rate));
        let mut factors = Vec::new();
        let fading = if self.a.len() == heads {
            factors
                .extend(rates.iter().zip(self.a.iter().cycle()).map(|(rate, a)| (rate * a).exp()));
            Fading::Head(&factors)
        } else {
            Fading::Exponent(&self.a)
        };
        let inputs =
            Inputs { values: &values, keys: &keys, queries: &queries, rates: &rates, fading };
        let mut result = self.recurrence.run(runner, state, inputs);
        split::rows(runner.threads, &mut result, inner, &|first, result| {
            let values = values.chunks_exact(inner).skip(first);
            for (result, values) in result.chunks_exact_mut(inner).zip(values) {
                let of_heads = result.chunks_exact_mut(of_head).zip(values.chunks_exact(of_head));
                for ((result, values), through) in of_heads.zip(&self.through) {
                    result.iter_mut().zip(values).for_each(|(r, v)| *r += through * v);
                }
            }
        });
        Function::Silu.apply(runner, &mut gates, Some(&result));
        if let Some(norm) = &self.norm {
            norm.apply(runner, &mut gates, inner / groups.max(1));
        }
        watch.input(&self.output, &gates);
        self.output.times(runner, &gates, n)
    }
}

/// Gated delta nets.
pub(crate) struct DeltaNet {
    /// Makes queries, keys and values.
    pub(crate) mixed: Matrix,
    /// Makes what gates the results.
    pub(crate) gate: Matrix,
    pub(crate) rates: Rates,
    pub(crate) convolution: Convolution,
    pub(crate) recurrence: Recurrence,
    /// How quickly the state of each head fades, and what is added to its steps.
    pub(crate) a: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) epsilon: f32,
    /// The norm of each head's results.
    pub(crate) norm: Norm,
    pub(crate) output: Matrix,
}

/// What makes the rates at which heads learn and forget.
#[allow(clippy::large_enum_variant, reason = "there are as many as layers")]
pub(crate) enum Rates {
    /// A matrix for each.
    Apart { learn: Matrix, forget: Matrix },
    /// One, with the rates of the heads that share a key side by side.
    Together(Matrix),
}

impl DeltaNet {
    fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        state: &mut State,
        x: &[f32],
        n: usize,
    ) -> Result<Vec<f32>> {
        let Recurrence { heads, values: of_head, keys: width, groups, .. } = self.recurrence;
        let mut times = |matrix: &Matrix| {
            watch.input(matrix, x);
            matrix.times(runner, x, n)
        };
        let mut mixed = times(&self.mixed)?;
        let mut gates = times(&self.gate)?;
        let [mut learn, mut forget] = match &self.rates {
            Rates::Apart { learn, forget } => [times(learn)?, times(forget)?],
            Rates::Together(matrix) => {
                let both = times(matrix)?;
                let sharing = heads / groups.max(1);
                split_rows(runner.threads, &both, 2 * sharing, [sharing; 2])
            }
        };
        learn.iter_mut().for_each(|rate| *rate = sigmoid(*rate));
        for rates in forget.chunks_exact_mut(heads) {
            for (rate, (a, bias)) in rates.iter_mut().zip(self.a.iter().zip(&self.bias)) {
                *rate = (softplus(*rate + bias) * a).exp();
            }
        }
        mixed = self.convolution.run(runner, state, &mixed);
        Function::Silu.apply(runner, &mut mixed, None);
        let widths = [groups * width, groups * width, heads * of_head];
        let [mut queries, mut keys, values] =
            split_rows(runner.threads, &mixed, self.mixed.rows, widths);
        to_length_one(runner, &mut queries, width, self.epsilon, 1.0 / (width as f32).sqrt());
        to_length_one(runner, &mut keys, width, self.epsilon, 1.0);
        let inputs = Inputs {
            values: &values,
            keys: &keys,
            queries: &queries,
            rates: &learn,
            fading: Fading::Head(&forget),
        };
        let mut result = self.recurrence.run(runner, state, inputs);
        self.norm.apply(runner, &mut result, of_head);
        Function::Silu.apply(runner, &mut gates, Some(&result));
        watch.input(&self.output, &gates);
        self.output.times(runner, &gates, n)
    }
}

/// Kimi's delta attention: each value of a head's key fades by itself.
pub(crate) struct KeyedDelta {
    /// Make queries, keys and values.
    pub(crate) mixed: [Matrix; 3],
    /// Of all three, side by side.
    pub(crate) convolution: Convolution,
    pub(crate) recurrence: Recurrence,
    pub(crate) learn: Matrix,
    /// What compresses and restores the steps.
    pub(crate) forget: (Matrix, Matrix),
    /// How quickly the state of each head fades, and what is added to the step of each of its keys' values.
    pub(crate) a: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    /// What compresses and restores the gate of the results.
    pub(crate) gate: (Matrix, Matrix),
    pub(crate) epsilon: f32,
    /// The norm of each head's results.
    pub(crate) norm: Norm,
    pub(crate) output: Matrix,
}

impl KeyedDelta {
    fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        state: &mut State,
        x: &[f32],
        n: usize,
    ) -> Result<Vec<f32>> {
        let Recurrence { heads, keys: width, .. } = self.recurrence;
        let inner = heads * width;
        let mut times = |matrix: &Matrix, x: &[f32]| {
            watch.input(matrix, x);
            matrix.times(runner, x, n)
        };
        let mut mixed = vec![0.0; n * 3 * inner];
        for (part, matrix) in self.mixed.iter().enumerate() {
            let made = times(matrix, x)?;
            for (row, made) in mixed.chunks_exact_mut(3 * inner).zip(made.chunks_exact(inner)) {
                row[part * inner..][..inner].copy_from_slice(made);
            }
        }
        let mut learn = times(&self.learn, x)?;
        let mut through = |(down, up): &(Matrix, Matrix)| {
            let low = times(down, x)?;
            times(up, &low)
        };
        let (mut forget, gates) = (through(&self.forget)?, through(&self.gate)?);
        learn.iter_mut().for_each(|rate| *rate = sigmoid(*rate));
        split::rows(runner.threads, &mut forget, inner, &|_, forget| {
            for steps in forget.chunks_exact_mut(inner) {
                let biases = self.bias.chunks_exact(width);
                for ((steps, biases), a) in steps.chunks_exact_mut(width).zip(biases).zip(&self.a) {
                    for (step, bias) in steps.iter_mut().zip(biases) {
                        *step = (softplus(*step + bias) * a).exp();
                    }
                }
            }
        });
        mixed = self.convolution.run(runner, state, &mixed);
        Function::Silu.apply(runner, &mut mixed, None);
        let [mut queries, mut keys, values] =
            split_rows(runner.threads, &mixed, 3 * inner, [inner; 3]);
        to_length_one(runner, &mut queries, width, self.epsilon, 1.0 / (width as f32).sqrt());
        to_length_one(runner, &mut keys, width, self.epsilon, 1.0);
        let inputs = Inputs {
            values: &values,
            keys: &keys,
            queries: &queries,
            rates: &learn,
            fading: Fading::Key(&forget),
        };
        let mut result = self.recurrence.run(runner, state, inputs);
        self.norm.apply(runner, &mut result, width);
        split::rows(runner.threads, &mut result, inner, &|first, result| {
            let gates = gates.get(first * inner..).unwrap_or_default();
            result.iter_mut().zip(gates).for_each(|(v, gate)| *v *= sigmoid(*gate));
        });
        watch.input(&self.output, &result);
        self.output.times(runner, &result, n)
    }
}

/// Brings each head to length one, times a scale.
fn to_length_one(runner: Runner<'_>, values: &mut [f32], width: usize, epsilon: f32, scale: f32) {
    split::rows(runner.threads, values, width, &|_, values| {
        for head in values.chunks_exact_mut(width) {
            let length = head.iter().map(|v| v * v).sum::<f32>() + epsilon;
            let by = scale / length.sqrt();
            head.iter_mut().for_each(|v| *v *= by);
        }
    });
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn multiply(runner: Runner<'_>, values: &mut [f32], by: &[f32]) {
    const WIDTH: usize = 1024;
    split::rows(runner.threads, values, WIDTH, &|first, values| {
        let by = by.get(first * WIDTH..).unwrap_or_default();
        values.iter_mut().zip(by).for_each(|(v, by)| *v *= by);
    });
}

/// `ln(1 + eˣ)`.
pub(crate) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}
