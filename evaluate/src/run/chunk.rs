//! Tokens that run through the layers together.

use std::{ops::Range, sync::Arc};

use super::{
    functions::SoftCap,
    layer::{Layer, Memory},
    matrix::Matrix,
    projected::Place,
    rope::{Rope, Turns},
    runner::Runner,
    split,
    watch::Watch,
};
use crate::{Error, Model, Result, load::Weights};

/// Tokens that run through the layers together, at most.
const CHUNK: usize = 512;
/// And at least, whatever that takes: products with fewer columns are slower.
const SMALLEST_CHUNK: usize = 32;
/// Values of logits that are in memory at a time, unless one row has more.
const LOGITS: usize = 8 << 20;

/// Tokens on their way through the layers.
#[derive(Clone)]
pub(crate) struct Chunk {
    /// The position of the first token.
    first: usize,
    count: usize,
    /// Those of the tokens whose results are wanted.
    rows: Range<usize>,
    /// Tokens that have been left behind.
    dropped: usize,
    /// A row for each of the others.
    x: Vec<f32>,
    /// A row of all layers' vectors for each token, if layers have any.
    inputs: Option<Vec<f32>>,
    /// Those of each of the model's ropes.
    turns: Arc<Vec<Turns>>,
}

/// Tokens that run through the layers together, at most.
pub(crate) fn chunk_len(model: &Model) -> usize {
    let per_token = 4 * model.weights.widest_layer;
    (model.options.working_space / per_token.max(1)).clamp(SMALLEST_CHUNK, CHUNK)
}

impl Chunk {
    /// The vectors of some tokens.
    pub(crate) fn new(
        model: &Model,
        runner: Runner<'_>,
        tokens: &[u32],
        first: usize,
        turns: Arc<Vec<Turns>>,
        wanted: &Range<usize>,
    ) -> Result<Self> {
        let weights = &model.weights;
        let count = tokens.len();
        let from = wanted.start.saturating_sub(first).min(count);
        let rows = from..wanted.end.saturating_sub(first).clamp(from, count);
        let x = weights.embed(&*model.source, runner, tokens, first)?;
        let inputs = match &weights.inputs {
            Some(inputs) => Some(inputs.of(&*model.source, runner, tokens, &x)?),
            None => None,
        };
        Ok(Self { first, count, rows, dropped: 0, x, inputs, turns })
    }

    /// How many tokens they are.
    pub(crate) fn tokens(&self) -> usize {
        self.count
    }

    /// Runs the tokens through a layer. `memories` are those of all layers.
    #[allow(clippy::too_many_arguments, reason = "each is another part of the run")]
    pub(crate) fn run(
        &mut self,
        model: &Model,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        index: usize,
        layer: &Layer,
        is_last: bool,
        memories: &mut [Memory],
    ) -> Result<()> {
        let weights = &model.weights;
        // What nobody asked for need not pass the last layer, unless somebody looks.
        let needed = match is_last && watch.0.is_none() {
            true if self.rows.is_empty() => self.count,
            true => self.rows.start,
            false => 0,
        };
        let turns = layer.attention.as_ref().and_then(|attention| attention.rope);
        let place = Place {
            first: self.first,
            count: self.count,
            needed,
            turns: turns.and_then(|rope| self.turns.get(rope)),
        };
        let width = weights.width;
        layer.run(runner, watch, memories, index, &place, weights.residual_scale, &mut self.x)?;
        if let (Some(own), Some(all), Some(kind)) = (&layer.input, &self.inputs, &weights.inputs) {
            let of_all = all.len() / self.count.max(1);
            let vectors: Vec<f32> = all
                .chunks_exact(of_all.max(1))
                .skip(needed)
                .filter_map(|row| row.get(index * kind.of_layer..(index + 1) * kind.of_layer))
                .flatten()
                .copied()
                .collect();
            own.run(runner, watch, &vectors, width, &mut self.x)?;
        }
        if let Some(scale) = layer.output_scale {
            split::rows(runner.threads, &mut self.x, width, &|_, x| {
                x.iter_mut().for_each(|v| *v *= scale);
            });
        }
        self.dropped = needed;
        Ok(())
    }

    /// What comes out behind the last layer, for each wanted token.
    pub(crate) fn finish(
        mut self,
        model: &Model,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        to_logits: bool,
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let weights = &model.weights;
        if self.rows.is_empty() {
            return Ok(());
        }
        let width = weights.width;
        let mut position = self.first + self.rows.start;
        let rows = self.rows.start - self.dropped..self.rows.end - self.dropped;
        let wanted = self.x.get_mut(rows.start * width..rows.end * width).unwrap_or_default();
        if let Some(norm) = &weights.output_norm {
            norm.apply(runner, wanted, width);
        }
        let Some(output) = weights.output.as_ref().filter(|_| to_logits) else {
            for (i, row) in wanted.chunks_exact(width).enumerate() {
                logits(position + i, row);
            }
            return Ok(());
        };
        watch.input(output, wanted);
        let at_once = output.logits_at_once();
        for x in wanted.chunks(at_once * width) {
            let mut results = output.times(runner, x, x.len() / width)?;
            weights.finish(runner, &mut results);
            for row in results.chunks_exact(output.rows) {
                logits(position, row);
                position += 1;
            }
        }
        Ok(())
    }
}

impl Matrix {
    /// Rows of logits that are made at a time by the output's matrix.
    fn logits_at_once(&self) -> usize {
        (LOGITS / self.rows.max(1)).clamp(1, CHUNK)
    }

    /// Bytes of these.
    pub(crate) fn logits_bytes(&self) -> u64 {
        4 * (self.logits_at_once() as u64).saturating_mul(self.rows as u64)
    }
}

impl Weights {
    /// An error for tokens that the vocabulary does not have.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocabulary = self.embedding.rows;
        let unknown =
            |(_, id): &(usize, &u32)| usize::try_from(**id).is_ok_and(|id| id >= vocabulary);
        match tokens.iter().enumerate().find(unknown) {
            Some((index, id)) => Err(Error::Token { index, id: *id, vocabulary }),
            None => Ok(()),
        }
    }

    /// What each rope turns at some positions of a text of at most `context` tokens.
    pub(crate) fn turns(&self, positions: &Range<usize>, context: usize) -> Arc<Vec<Turns>> {
        let turns = |rope: &Rope| rope.turns(positions.start, positions.len(), context);
        Arc::new(self.ropes.iter().map(turns).collect())
    }

    /// What becomes of the output's results before they are logits.
    fn finish(&self, runner: Runner<'_>, logits: &mut [f32]) {
        if self.logit_scale != 1.0 {
            split::rows(runner.threads, logits, 1024, &|_, values| {
                values.iter_mut().for_each(|v| *v *= self.logit_scale);
            });
        }
        if self.logit_cap != 0.0 {
            split::rows(runner.threads, logits, 1024, &|_, values| {
                runner.kernels.run(SoftCap { cap: self.logit_cap, values });
            });
        }
    }
}
