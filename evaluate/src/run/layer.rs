//! A layer.

use super::{
    CachePrecision, Function, attention::Attention, cache::LayerCache, feed_forward::FeedForward,
    matrix::Matrix, norm::Norm, projected::Place, recurrence::State, recurrent::Recurrent,
    runner::Runner, sight::Sight, split, watch::Watch,
};
use crate::Result;

/// A layer.
pub(crate) struct Layer {
    pub(crate) attention_norm: Option<Norm>,
    pub(crate) attention: Option<Attention>,
    /// Beside attention, whose results are added, or in its place.
    pub(crate) recurrent: Option<Recurrent>,
    pub(crate) attention_post_norm: Option<Norm>,
    pub(crate) attention_sum_norm: Option<Norm>,
    pub(crate) feed_forward_norm: Option<Norm>,
    pub(crate) feed_forward: Option<FeedForward>,
    pub(crate) feed_forward_post_norm: Option<Norm>,
    pub(crate) feed_forward_sum_norm: Option<Norm>,
    /// Whether both parts work on the layer's input.
    pub(crate) is_parallel: bool,
    /// What is made of the vectors that the tokens have for this layer.
    pub(crate) input: Option<LayerInput>,
    /// What everything is multiplied by at the end.
    pub(crate) output_scale: Option<f32>,
}

/// What a layer makes of its own vectors of the tokens.
pub(crate) struct LayerInput {
    pub(crate) gate: Matrix,
    pub(crate) function: Function,
    pub(crate) projection: Matrix,
    pub(crate) norm: Norm,
}

/// What a layer remembers of the tokens so far.
#[derive(Default)]
pub(crate) struct Memory {
    /// Keys and values, unless it has none or uses those of another.
    keys: Option<LayerCache>,
    pub(super) state: Option<State>,
}

impl Memory {
    /// Forgets all tokens. Keys and values need no clearing: nobody sees those behind a position.
    pub(crate) fn clear(&mut self) {
        if let Some(state) = &mut self.state {
            state.clear();
        }
    }
}

impl LayerInput {
    /// Adds what becomes of the vectors that the tokens have for the layer.
    pub(super) fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        vectors: &[f32],
        width: usize,
        x: &mut [f32],
    ) -> Result<()> {
        let count = x.len() / width.max(1);
        watch.input(&self.gate, x);
        let mut gates = self.gate.times(runner, x, count)?;
        self.function.apply(runner, &mut gates, Some(vectors));
        watch.input(&self.projection, &gates);
        let mut result = self.projection.times(runner, &gates, count)?;
        self.norm.apply(runner, &mut result, width);
        add(runner, x, &result, 1.0);
        Ok(())
    }
}

impl Layer {
    /// What it remembers before the first of so many tokens; `None` if there is not enough memory.
    pub(crate) fn memory(&self, precision: CachePrecision, context: usize) -> Option<Memory> {
        let keys = match self.attention.as_ref().filter(|attention| attention.lender.is_none()) {
            Some(attention) => Some(LayerCache::new(precision, attention.cached(), context)?),
            None => None,
        };
        let state = match &self.recurrent {
            Some(recurrent) => Some(recurrent.state()?),
            None => None,
        };
        Some(Memory { keys, state })
    }

    /// The layer whose keys and values it uses, if it has none of its own.
    pub(crate) fn lender(&self) -> Option<usize> {
        self.attention.as_ref().and_then(|attention| attention.lender)
    }

    /// Tokens that it sees, if not all.
    pub(crate) fn window(&self) -> Option<usize> {
        match self.attention.as_ref()?.sight {
            Sight::Before(width) | Sight::Chunk(width) if width < usize::MAX => Some(width),
            Sight::Around(distance) if distance < usize::MAX => Some(2 * distance + 1),
            _ => None,
        }
    }

    /// Bytes of the state of a recurrent layer.
    pub(crate) fn state_bytes(&self) -> u64 {
        self.recurrent.as_ref().map_or(0, Recurrent::state_bytes)
    }

    /// Bytes of what it remembers of so many tokens.
    pub(crate) fn cache_bytes(&self, precision: CachePrecision, context: usize) -> u64 {
        let keys = match self.attention.as_ref().filter(|attention| attention.lender.is_none()) {
            Some(attention) => LayerCache::bytes(precision, attention.cached(), context),
            None => 0,
        };
        keys.saturating_add(self.state_bytes())
    }

    /// Attention, and what is recurrent; `None` if the layer has neither.
    fn attend(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        memories: &mut [Memory],
        index: usize,
        place: &Place<'_>,
        input: &[f32],
    ) -> Result<Option<Vec<f32>>> {
        let mut sum: Option<Vec<f32>> = None;
        if let Some(attention) = &self.attention {
            let cache = memories.get_mut(attention.lender.unwrap_or(index));
            if let Some(cache) = cache.and_then(|memory| memory.keys.as_mut()) {
                sum = Some(attention.run(runner, watch, cache, place, input)?);
            }
        }
        if let Some(recurrent) = &self.recurrent
            && let Some(state) = memories.get_mut(index).and_then(|memory| memory.state.as_mut())
        {
            let mut result = recurrent.run(runner, watch, state, input, place.count)?;
            let width = result.len() / place.count.max(1);
            result.drain(..place.needed * width);
            match &mut sum {
                Some(sum) => add(runner, sum, &result, 1.0),
                None => sum = Some(result),
            }
        }
        Ok(sum)
    }

    /// Runs the tokens of `x` through the layer; what is left in it are those needed.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        memories: &mut [Memory],
        index: usize,
        place: &Place<'_>,
        residual_scale: f32,
        x: &mut Vec<f32>,
    ) -> Result<()> {
        let width = x.len() / place.count.max(1);
        let normed = |norm: &Option<Norm>, values: &[f32]| {
            let mut out = vec![0.0; values.len()];
            split::rows(runner.threads, &mut out, width, &|first, out| {
                let values = values.chunks_exact(width).skip(first);
                for (out, values) in out.chunks_exact_mut(width).zip(values) {
                    out.copy_from_slice(values);
                    if let Some(norm) = norm {
                        norm.rows(out, width);
                    }
                }
            });
            out
        };
        // In a parallel layer with one norm both parts share it.
        let own = if self.is_parallel && self.attention_norm.is_none() {
            &self.feed_forward_norm
        } else {
            &self.attention_norm
        };
        let input = normed(own, x);
        let attended = self.attend(runner, watch, memories, index, place, &input)?;
        x.drain(..place.needed * width);
        let count = place.count - place.needed;
        let first = self.feed_forward.as_ref().filter(|part| part.needs_layer_input());
        let first = first.map(|_| x.clone());
        let residual = Residual { runner, width, scale: residual_scale };
        let input = if !self.is_parallel {
            if let Some(attended) = &attended {
                residual.add(x, attended, &self.attention_post_norm, &self.attention_sum_norm);
            }
            normed(&self.feed_forward_norm, x)
        } else if self.feed_forward_norm.is_some() && self.attention_norm.is_some() {
            normed(&self.feed_forward_norm, x)
        } else {
            input.get(place.needed * width..).unwrap_or_default().to_vec()
        };
        if let Some(attended) = attended.filter(|_| self.is_parallel) {
            residual.add(x, &attended, &self.attention_post_norm, &None);
        }
        let Some(feed_forward) = &self.feed_forward else { return Ok(()) };
        let result = feed_forward.run(runner, watch, &input, x, first.as_deref(), count)?;
        residual.add(x, &result, &self.feed_forward_post_norm, &self.feed_forward_sum_norm);
        Ok(())
    }
}

/// What carries rows past the parts of a layer.
struct Residual<'a> {
    runner: Runner<'a>,
    width: usize,
    scale: f32,
}

impl Residual<'_> {
    /// Adds the results of a part, row by row: its norm, the sum, and the norm behind that in one go.
    fn add(&self, x: &mut [f32], results: &[f32], post: &Option<Norm>, behind: &Option<Norm>) {
        let Self { runner, width, scale } = *self;
        if post.is_none() && behind.is_none() {
            return add(runner, x, results, scale);
        }
        split::rows(runner.threads, x, width, &|first, x| {
            let mut normed = vec![0.0; width];
            let results = results.chunks_exact(width).skip(first);
            for (x, results) in x.chunks_exact_mut(width).zip(results) {
                normed.copy_from_slice(results);
                if let Some(norm) = post {
                    norm.rows(&mut normed, width);
                }
                x.iter_mut().zip(&normed).for_each(|(x, v)| *x += scale * v);
                if let Some(norm) = behind {
                    norm.rows(x, width);
                }
            }
        });
    }
}

fn add(runner: Runner<'_>, x: &mut [f32], values: &[f32], scale: f32) {
    const WIDTH: usize = 1024;
    split::rows(runner.threads, x, WIDTH, &|first, x| {
        let values = values.get(first * WIDTH..).unwrap_or_default();
        x.iter_mut().zip(values).for_each(|(x, v)| *x += scale * v);
    });
}
