//! Activation functions.

use quant_core::lanes::{Lanes, MAX_LANES};
use quant_kernels::LaneOp;

use super::{runner::Runner, split};

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    Silu,
    /// Approximated with tanh.
    Gelu,
    /// With erf.
    GeluExact,
    Relu,
    ReluSquared,
    /// gpt-oss: clamped, with a steeper sigmoid and a linear part of one more.
    ClampedSwiglu,
    /// Apertus: a parabola above zero, an exponential below.
    Xielu(Xielu),
}

/// The numbers of xIELU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Xielu {
    pub(crate) above: f32,
    pub(crate) below: f32,
    pub(crate) linear: f32,
    /// What arguments of the exponential are at most.
    pub(crate) limit: f32,
}

impl Function {
    /// Applies the function to every value, or to the gate that every value goes through: `gate` becomes
    /// `f(gate) · values`.
    pub(crate) fn apply(self, runner: Runner<'_>, gate: &mut [f32], values: Option<&[f32]>) {
        // Pieces of some thousand values.
        const WIDTH: usize = 1024;
        split::rows(runner.threads, gate, WIDTH, &|first, gate| {
            let start = first * WIDTH;
            let values = values.and_then(|all| all.get(start..start + gate.len()));
            runner.kernels.run(Apply { function: self, gate, values });
        });
    }
}

impl Function {
    /// Gates the second half of each row by its first.
    pub(crate) fn apply_halves(self, runner: Runner<'_>, rows: &[f32], width: usize) -> Vec<f32> {
        let half = width / 2;
        let mut gates = vec![0.0; rows.len() / width.max(1) * half];
        split::rows(runner.threads, &mut gates, half, &|first, gates| {
            let rows = rows.chunks_exact(width).skip(first);
            for (gate, row) in gates.chunks_exact_mut(half).zip(rows) {
                let (from, values) = row.split_at(half);
                gate.copy_from_slice(from);
                runner.kernels.run(Apply { function: self, gate, values: Some(values) });
            }
        });
        gates
    }
}

struct Apply<'a> {
    function: Function,
    gate: &'a mut [f32],
    values: Option<&'a [f32]>,
}

impl LaneOp for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) {
        match self.function {
            Function::Silu => self.each(
                s,
                #[inline(always)]
                |x| silu(s, x, 1.0),
            ),
            Function::Gelu => self.each(
                s,
                #[inline(always)]
                |x| gelu(s, x),
            ),
            Function::GeluExact => self.each(
                s,
                #[inline(always)]
                |x| gelu_exact(s, x),
            ),
            Function::Relu => self.each(
                s,
                #[inline(always)]
                |x| s.max(x, s.splat(0.0)),
            ),
            Function::ReluSquared => self.each(
                s,
                #[inline(always)]
                |x| {
                    let x = s.max(x, s.splat(0.0));
                    s.mul(x, x)
                },
            ),
            Function::ClampedSwiglu => self.clamped(s),
            Function::Xielu(numbers) => self.each(
                s,
                #[inline(always)]
                |x| xielu(s, x, numbers),
            ),
        }
    }
}

impl Apply<'_> {
    #[inline(always)]
    fn each<S: Lanes>(self, s: S, function: impl Fn(S::F32) -> S::F32) {
        let (mut a, mut b) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        match self.values {
            None => {
                for gate in self.gate.chunks_mut(S::N) {
                    a[..gate.len()].copy_from_slice(gate);
                    s.store(function(s.load(&a)), &mut b);
                    gate.copy_from_slice(&b[..gate.len()]);
                }
            }
            Some(values) => {
                for (gate, values) in self.gate.chunks_mut(S::N).zip(values.chunks(S::N)) {
                    a[..gate.len()].copy_from_slice(gate);
                    b[..gate.len()].copy_from_slice(values);
                    let product = s.mul(function(s.load(&a)), s.load(&b));
                    s.store(product, &mut a);
                    gate.copy_from_slice(&a[..gate.len()]);
                }
            }
        }
    }

    #[inline(always)]
    fn clamped<S: Lanes>(self, s: S) {
        let (mut a, mut b) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        let (limit, low) = (s.splat(7.0), s.splat(-7.0));
        for (gate, values) in
            self.gate.chunks_mut(S::N).zip(self.values.unwrap_or_default().chunks(S::N))
        {
            a[..gate.len()].copy_from_slice(gate);
            b[..gate.len()].copy_from_slice(values);
            let x = s.min(s.load(&a), limit);
            let y = s.max(s.min(s.load(&b), limit), low);
            let product = s.mul(silu(s, x, 1.702), s.add(y, s.splat(1.0)));
            s.store(product, &mut a);
            gate.copy_from_slice(&a[..gate.len()]);
        }
    }
}

/// x · sigmoid(steepness · x).
#[inline(always)]
fn silu<S: Lanes>(s: S, x: S::F32, steepness: f32) -> S::F32 {
    let power = s.exp(s.mul(x, s.splat(-steepness)));
    s.div(x, s.add(s.splat(1.0), power))
}

/// The sigmoid of the argument is (1 + tanh(z)) / 2 for twice it.
#[inline(always)]
fn gelu<S: Lanes>(s: S, x: S::F32) -> S::F32 {
    const ROOT: f32 = 0.797_884_6;
    let cubed = s.mul(x, s.add(s.splat(1.0), s.mul(s.splat(0.044_715), s.mul(x, x))));
    let power = s.exp(s.mul(cubed, s.splat(-2.0 * ROOT)));
    s.div(x, s.add(s.splat(1.0), power))
}

/// With Abramowitz and Stegun's 7.1.26 for erf, which is off by 1.5e-7 at most.
#[inline(always)]
fn gelu_exact<S: Lanes>(s: S, x: S::F32) -> S::F32 {
    const A: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let z = s.mul(s.abs(x), s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = s.div(s.splat(1.0), s.add(s.splat(1.0), s.mul(s.splat(0.327_591_1), z)));
    let mut sum = s.splat(A[0]);
    for a in &A[1..] {
        sum = s.add(s.mul(sum, t), s.splat(*a));
    }
    let tail = s.mul(s.mul(sum, t), s.exp(s.sub(s.splat(0.0), s.mul(z, z))));
    // x · (1 + erf) / 2, where 1 + erf is 2 − tail above zero and tail below.
    let half = s.mul(s.mul(x, s.splat(0.5)), tail);
    s.select(s.lt(x, s.splat(0.0)), half, s.sub(x, half))
}

/// `above · x² + linear · x` above zero, `below · (eˣ − 1 − x) + linear · x` below.
#[inline(always)]
fn xielu<S: Lanes>(s: S, x: S::F32, numbers: Xielu) -> S::F32 {
    let zero = s.splat(0.0);
    let square = s.mul(s.mul(x, x), s.splat(numbers.above));
    let power = s.sub(s.exp(s.min(x, s.splat(numbers.limit))), s.splat(1.0));
    let falling = s.mul(s.sub(power, x), s.splat(numbers.below));
    s.add(s.select(s.lt(zero, x), square, falling), s.mul(x, s.splat(numbers.linear)))
}

/// `cap · tanh(x / cap)` of every value.
pub(crate) struct SoftCap<'a> {
    pub(crate) cap: f32,
    pub(crate) values: &'a mut [f32],
}

impl LaneOp for SoftCap<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) {
        let mut lanes = [0.0; MAX_LANES];
        for values in self.values.chunks_mut(S::N) {
            lanes[..values.len()].copy_from_slice(values);
            let capped = soft_cap(s, s.load(&lanes), self.cap);
            s.store(capped, &mut lanes);
            values.copy_from_slice(&lanes[..values.len()]);
        }
    }
}

/// `cap · tanh(x / cap)`.
#[inline(always)]
pub(crate) fn soft_cap<S: Lanes>(s: S, x: S::F32, cap: f32) -> S::F32 {
    let power = s.exp(s.mul(x, s.splat(2.0 / cap)));
    let below = s.div(s.splat(2.0), s.add(power, s.splat(1.0)));
    s.mul(s.splat(cap), s.sub(s.splat(1.0), below))
}
