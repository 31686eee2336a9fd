//! Norms.

use gguf_model::Norm as Kind;

use super::{runner::Runner, split};

/// A norm, with its weights and biases if it has any.
pub(crate) struct Norm {
    pub(crate) kind: Kind,
    pub(crate) epsilon: f32,
    pub(crate) weight: Option<Vec<f32>>,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Norm {
    /// Normalizes every `width` values in place. Weights that are as long as several of them go round.
    pub(crate) fn apply(&self, runner: Runner<'_>, values: &mut [f32], width: usize) {
        let around = self.weight.as_ref().map_or(width, Vec::len).max(width);
        split::rows(runner.threads, values, around, &|_, values| {
            for values in values.chunks_mut(around) {
                self.rows(values, width);
            }
        });
    }

    /// As [`apply`](Self::apply), of values that weights go round once at most, on this thread.
    pub(crate) fn rows(&self, values: &mut [f32], width: usize) {
        for (at, row) in values.chunks_mut(width).enumerate() {
            self.row(row, at * width);
        }
    }

    /// One row, whose first weight is this.
    fn row(&self, row: &mut [f32], first: usize) {
        let part = |all: &'_ Option<Vec<f32>>| -> Option<std::ops::Range<usize>> {
            all.as_ref()
                .filter(|all| all.len() >= first + row.len())
                .map(|_| first..first + row.len())
        };
        let (weight, bias) = (part(&self.weight), part(&self.bias));
        let count = row.len() as f32;
        if self.kind == Kind::Layer {
            let mean = sum(row, |v| v) / count;
            row.iter_mut().for_each(|v| *v -= mean);
        }
        let scale = 1.0 / (sum(row, |v| v * v) / count + self.epsilon).sqrt();
        match (weight, &self.weight) {
            (Some(part), Some(weight)) => {
                row.iter_mut().zip(&weight[part]).for_each(|(v, w)| *v = *v * scale * w);
            }
            _ => row.iter_mut().for_each(|v| *v *= scale),
        }
        if let (Some(part), Some(bias)) = (bias, &self.bias) {
            row.iter_mut().zip(&bias[part]).for_each(|(v, b)| *v += b);
        }
    }
}

/// A sum in sixteen running parts: quick, and the same everywhere.
fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut parts = [0.0f32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (part, v) in parts.iter_mut().zip(chunk) {
            *part += of(*v);
        }
    }
    for (part, v) in parts.iter_mut().zip(rest) {
        *part += of(*v);
    }
    // Pairs, so that the order does not favour any.
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            parts[i] += parts[i + half];
        }
    }
    parts[0]
}
