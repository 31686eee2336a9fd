//! A network of two or three matrices.

use super::{Function, matrix::Matrix, runner::Runner, watch::Watch};
use crate::Result;

/// One network for all tokens.
pub(crate) struct Mlp {
    pub(crate) up: Matrix,
    pub(crate) gate: Gating,
    pub(crate) down: Matrix,
    pub(crate) function: Function,
    /// What the activated values are divided by.
    pub(crate) divisors: Option<Vec<f32>>,
}

/// Where the gate comes from.
pub(crate) enum Gating {
    None,
    /// A matrix of its own.
    By(Matrix),
    /// The first half of the results of `up`.
    InUp,
}

impl Mlp {
    pub(crate) fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        x: &[f32],
        n: usize,
    ) -> Result<Vec<f32>> {
        match &self.gate {
            Gating::By(gate) => watch.inputs(&[&self.up, gate], x),
            Gating::None | Gating::InUp => watch.input(&self.up, x),
        }
        let mut up = self.up.times(runner, x, n)?;
        let mut hidden = match &self.gate {
            Gating::None => {
                self.function.apply(runner, &mut up, None);
                up
            }
            Gating::By(matrix) => {
                let mut gate = matrix.times(runner, x, n)?;
                self.function.apply(runner, &mut gate, Some(&up));
                gate
            }
            Gating::InUp => self.function.apply_halves(runner, &up, self.up.rows),
        };
        if let Some(divisors) = &self.divisors {
            for row in hidden.chunks_exact_mut(divisors.len().max(1)) {
                row.iter_mut().zip(divisors).for_each(|(v, divisor)| *v /= divisor);
            }
        }
        watch.input(&self.down, &hidden);
        self.down.times(runner, &hidden, n)
    }
}
