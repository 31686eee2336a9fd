//! Multi-head latent attention: keys and values of all heads are compressed to a few values.

use super::{
    matrix::Matrix,
    norm::Norm,
    projected::{Place, Projected},
    runner::Runner,
    split::split_rows,
    watch::Watch,
};
use crate::Result;

/// What compresses and restores.
pub(crate) struct Latent {
    /// Compresses queries, in large models.
    pub(crate) query_down: Option<(Matrix, Norm)>,
    pub(crate) query: Matrix,
    /// Makes the compressed values, and behind them the part of a key that RoPE turns.
    pub(crate) down: Matrix,
    pub(crate) norm: Norm,
    pub(crate) up: Up,
    pub(crate) heads: usize,
    /// Values of a head's key that RoPE leaves alone, and that it turns.
    pub(crate) still: usize,
    pub(crate) turned: usize,
    /// Compressed values.
    pub(crate) rank: usize,
    /// Values of a head's value.
    pub(crate) value: usize,
}

/// Where heads get their keys and values.
pub(crate) enum Up {
    /// Queries are brought to the compressed keys, and compressed values to the heads after attention: a
    /// matrix for each head.
    Absorbed { key: Matrix, value: Matrix },
    /// Keys and values are restored before attention, head by head.
    Restored(Matrix),
}

impl Latent {
    pub(crate) fn project(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        place: &Place<'_>,
        x: &[f32],
    ) -> Result<Projected> {
        let n = place.count;
        let mut queries = match &self.query_down {
            Some((down, norm)) => {
                watch.input(down, x);
                let mut low = down.times(runner, x, n)?;
                norm.apply(runner, &mut low, down.rows);
                watch.input(&self.query, &low);
                self.query.times(runner, &low, n)?
            }
            None => {
                watch.input(&self.query, x);
                self.query.times(runner, x, n)?
            }
        };
        watch.input(&self.down, x);
        let low = self.down.times(runner, x, n)?;
        let [mut compressed, mut turned] =
            split_rows(runner.threads, &low, self.down.rows, [self.rank, self.turned]);
        self.norm.apply(runner, &mut compressed, self.rank);
        let head = self.still + self.turned;
        if let Some(turns) = place.turns {
            turns.apply(runner, &mut queries, self.heads * head, head, self.still);
            turns.apply(runner, &mut turned, self.turned, self.turned, 0);
        }
        match &self.up {
            Up::Absorbed { key, .. } => {
                let [still, turning] =
                    split_rows(runner.threads, &queries, head, [self.still, self.turned]);
                let ids = self.ids(n);
                watch.input(key, &still);
                let absorbed = key.times_experts(runner, &still, &ids, 1)?;
                Ok(Projected {
                    queries: join(&absorbed, self.rank, &turning, self.turned),
                    keys: join(&compressed, self.rank, &turned, self.turned),
                    values: compressed,
                    gates: Vec::new(),
                })
            }
            Up::Restored(matrix) => {
                watch.input(matrix, &compressed);
                let both = matrix.times(runner, &compressed, n)?;
                let [still, values] = split_rows(
                    runner.threads,
                    &both,
                    self.still + self.value,
                    [self.still, self.value],
                );
                // All heads share the part that is turned.
                let shared: Vec<f32> = turned
                    .chunks_exact(self.turned)
                    .flat_map(|row| std::iter::repeat_n(row, self.heads).flatten())
                    .copied()
                    .collect();
                let keys = join(&still, self.still, &shared, self.turned);
                Ok(Projected { queries, keys, values, gates: Vec::new() })
            }
        }
    }

    /// The heads' values from what attention made.
    pub(crate) fn restore(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        attended: Vec<f32>,
    ) -> Result<Vec<f32>> {
        let Up::Absorbed { value, .. } = &self.up else { return Ok(attended) };
        let ids = self.ids(attended.len() / (self.heads * self.rank).max(1));
        watch.input(value, &attended);
        value.times_experts(runner, &attended, &ids, 1)
    }

    /// The number of the head for each head of each token.
    fn ids(&self, tokens: usize) -> Vec<u32> {
        (0..tokens).flat_map(|_| 0..self.heads as u32).collect()
    }
}

/// Rows of two, side by side.
fn join(a: &[f32], a_width: usize, b: &[f32], b_width: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(a.len() + b.len());
    for (a, b) in a.chunks_exact(a_width.max(1)).zip(b.chunks_exact(b_width.max(1))) {
        rows.extend_from_slice(a);
        rows.extend_from_slice(b);
    }
    rows
}
