//! A text that a model reads.

use std::ops::Range;

use super::{
    Runner,
    attention::{Attention, Place},
    cache::LayerCache,
    feed_forward::FeedForward,
    functions::SoftCap,
    matrix::Matrix,
    norm::Norm,
};
use crate::{Error, Model, Result};

/// Tokens that run through the layers together, at most.
const CHUNK: usize = 512;
/// And at least, whatever that takes: products with fewer columns are slower.
const SMALLEST_CHUNK: usize = 32;
/// Values of logits that are in memory at a time, unless one row has more.
const LOGITS: usize = 8 << 20;

/// Sees what goes into the products with weights.
pub trait Observer {
    /// The rows of activations that meet a tensor, `columns` values each: those of all tokens of a
    /// chunk in their order; of a tensor with experts those that pass one of them, expert by expert.
    fn matmul_input(&mut self, tensor: &str, expert: Option<usize>, rows: &[f32], columns: usize);
}

/// The observer of a run, if there is one.
pub(crate) struct Watch<'a>(pub(crate) Option<&'a mut dyn Observer>);

impl Watch<'_> {
    pub(crate) fn input(&mut self, matrix: &Matrix, rows: &[f32]) {
        if let Some(observer) = &mut self.0 {
            observer.matmul_input(&matrix.name, None, rows, matrix.columns);
        }
    }

    /// Rows of which each meets the next `used` of the ids.
    pub(crate) fn expert_inputs(&mut self, matrix: &Matrix, x: &[f32], ids: &[u32], used: usize) {
        let Some(observer) = &mut self.0 else { return };
        let mut order: Vec<_> = ids.iter().enumerate().collect();
        order.sort_by_key(|(_, expert)| **expert);
        for same in order.chunk_by(|a, b| a.1 == b.1) {
            let Some((_, expert)) = same.first() else { continue };
            let start = |i: usize| i / used * matrix.columns;
            let row = |i: usize| x.get(start(i)..start(i) + matrix.columns).unwrap_or_default();
            let rows: Vec<f32> = same.iter().flat_map(|(i, _)| row(*i)).copied().collect();
            observer.matmul_input(&matrix.name, Some(**expert as usize), &rows, matrix.columns);
        }
    }
}

/// A layer.
pub(crate) struct Layer {
    pub(crate) attention_norm: Option<Norm>,
    pub(crate) attention: Attention,
    pub(crate) attention_post_norm: Option<Norm>,
    pub(crate) attention_sum_norm: Option<Norm>,
    pub(crate) feed_forward_norm: Option<Norm>,
    pub(crate) feed_forward: FeedForward,
    pub(crate) feed_forward_post_norm: Option<Norm>,
    pub(crate) feed_forward_sum_norm: Option<Norm>,
    /// Whether both parts work on the layer's input.
    pub(crate) is_parallel: bool,
}

/// A model reading a text: the keys and values of the tokens so far.
///
/// Any number of sessions can share a model.
pub struct Session<'a> {
    model: &'a Model,
    caches: Vec<LayerCache>,
    context: usize,
    tokens: usize,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("context", &self.context)
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// Room for a text of so many tokens.
    ///
    /// # Errors
    /// [`Error::Memory`] if the cache does not fit; [`Error::Context`] if the model has no positions for
    /// so many tokens.
    pub fn new(model: &'a Model, context: usize) -> Result<Self> {
        let weights = &model.weights;
        if let Some(positions) = weights.positions.as_ref().map(|p| p.rows).filter(|n| context > *n)
        {
            return Err(Error::Context {
                needed: context,
                what: "positions of the model",
                context: positions,
            });
        }
        let needed = model.cache_bytes(context);
        let too_little = |available: u64| Error::Memory {
            what: format!("the cache for {context} tokens"),
            needed,
            available,
            hint: "give a shorter context",
        };
        if let Some(limit) = model.options.memory {
            let available = limit.saturating_sub(weights.bytes);
            if needed > available {
                return Err(too_little(available));
            }
        }
        let caches = weights
            .layers
            .iter()
            .map(|layer| {
                let attention = &layer.attention;
                LayerCache::new(model.options.cache, attention.cached(), context)
            })
            .collect::<Option<_>>()
            .ok_or_else(|| too_little(0))?;
        Ok(Self { model, caches, context, tokens: 0 })
    }

    /// Tokens there is room for.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens read so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Forgets the tokens from position `tokens` on.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
    }

    /// Bytes of keys and values.
    pub fn cache_bytes(&self) -> u64 {
        self.model.cache_bytes(self.context)
    }

    /// Reads tokens after those read so far. `logits` is called for the positions in `wanted`, counted
    /// from the start of the text, in order: with the position and a number for each token of the
    /// vocabulary, of which the greatest is the likeliest to follow. Of an encoder, which predicts
    /// nothing, it gets the vectors of the tokens.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Token`] and [`Error::Context`] before anything is run;
    /// [`Error::Product`] if activations are not finite; [`Error::File`] if vectors of tokens cannot be
    /// read. After an error the session holds the tokens that it held before.
    pub fn forward(
        &mut self,
        tokens: &[u32],
        wanted: Range<usize>,
        mut logits: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.read(tokens, wanted, &mut Watch(None), true, &mut logits)
    }

    /// As [`forward`](Self::forward), and shows an observer what goes into each product. The products
    /// that make logits are among them where positions are wanted.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn observe(
        &mut self,
        tokens: &[u32],
        wanted: Range<usize>,
        observer: &mut dyn Observer,
        mut logits: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.read(tokens, wanted, &mut Watch(Some(observer)), true, &mut logits)
    }

    /// As [`forward`](Self::forward), with the vectors that logits are made of.
    pub(crate) fn vectors(
        &mut self,
        tokens: &[u32],
        wanted: Range<usize>,
        watch: &mut Watch<'_>,
        vectors: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.read(tokens, wanted, watch, false, vectors)
    }

    pub(crate) fn model(&self) -> &'a Model {
        self.model
    }

    fn read(
        &mut self,
        tokens: &[u32],
        wanted: Range<usize>,
        watch: &mut Watch<'_>,
        to_logits: bool,
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let weights = &self.model.weights;
        if tokens.is_empty() {
            return Err(Error::Empty);
        }
        let vocabulary = weights.embedding.rows;
        let unknown =
            |(_, id): &(usize, &u32)| usize::try_from(**id).is_ok_and(|id| id >= vocabulary);
        if let Some((index, id)) = tokens.iter().enumerate().find(unknown) {
            return Err(Error::Token { index, id: *id, vocabulary });
        }
        let needed = self.tokens.saturating_add(tokens.len());
        if needed > self.context {
            return Err(Error::Context { needed, what: "context", context: self.context });
        }
        let before = self.tokens;
        // Where tokens see those after them, all go through together.
        let chunk = if weights.is_causal { self.chunk() } else { tokens.len() };
        for chunk in tokens.chunks(chunk) {
            if let Err(error) = self.chunk_forward(chunk, &wanted, watch, to_logits, logits) {
                self.tokens = before;
                return Err(error);
            }
            self.tokens += chunk.len();
        }
        Ok(())
    }

    /// Tokens that run through the layers together.
    fn chunk(&self) -> usize {
        let per_token = 4 * self.model.weights.widest_layer;
        (self.model.options.working_space / per_token.max(1)).clamp(SMALLEST_CHUNK, CHUNK)
    }

    pub(crate) fn runner(&self) -> Runner<'a> {
        Runner::new(self.model.options.kernels, &*self.model.options.threads)
    }

    fn chunk_forward(
        &mut self,
        tokens: &[u32],
        wanted: &Range<usize>,
        watch: &mut Watch<'_>,
        to_logits: bool,
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let (model, runner) = (self.model, self.runner());
        let weights = &model.weights;
        let (first, count) = (self.tokens, tokens.len());
        // The wanted rows of this chunk.
        let from = wanted.start.saturating_sub(first).min(count);
        let rows = from..wanted.end.saturating_sub(first).clamp(from, count);
        let mut x = weights.embed(model, runner, tokens, first)?;
        // What nobody asked for need not pass the last layer, unless somebody looks.
        let needed = match watch.0.is_none() && !weights.layers.is_empty() {
            true if rows.is_empty() => count,
            true => rows.start,
            false => 0,
        };
        self.run_layers(runner, watch, 0, needed, &mut x, &mut |_, _| {})?;
        if rows.is_empty() {
            return Ok(());
        }
        let within = (rows.start - needed) * weights.width..(rows.end - needed) * weights.width;
        let wanted = x.get_mut(within).unwrap_or_default();
        self.predict(runner, watch, first + rows.start, wanted, to_logits, logits)
    }

    /// Runs the vectors in `x`, of tokens after those read so far, through the layers from one on. Of
    /// the last, the first `unneeded` do not come out. `before` sees what goes into each.
    pub(crate) fn run_layers(
        &mut self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        from: usize,
        unneeded: usize,
        x: &mut Vec<f32>,
        before: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let weights = &self.model.weights;
        let (first, count) = (self.tokens, x.len() / weights.width.max(1));
        let turns: Vec<_> =
            weights.ropes.iter().map(|rope| rope.turns(first, count, self.context)).collect();
        let last = weights.layers.len().saturating_sub(1);
        let layers = weights.layers.iter().zip(&mut self.caches).enumerate();
        for (i, (layer, cache)) in layers.skip(from) {
            before(i, x);
            let place = Place {
                first,
                count,
                needed: if i == last { unneeded } else { 0 },
                turns: layer.attention.rope.and_then(|rope| turns.get(rope)),
            };
            let (scale, width) = (weights.residual_scale, weights.width);
            layer.run(runner, watch, cache, &place, scale, width, x)?;
        }
        Ok(())
    }

    /// Makes logits of what has come through all layers, the first at a position; or hands it on.
    pub(crate) fn predict(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        mut position: usize,
        x: &mut [f32],
        to_logits: bool,
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let weights = &self.model.weights;
        let width = weights.width;
        if let Some(norm) = &weights.output_norm {
            norm.apply(runner, x, width);
        }
        let Some(output) = weights.output.as_ref().filter(|_| to_logits) else {
            for (i, row) in x.chunks_exact(width).enumerate() {
                logits(position + i, row);
            }
            return Ok(());
        };
        watch.input(output, x);
        let at_once = (LOGITS / output.rows.max(1)).clamp(1, CHUNK);
        for x in x.chunks(at_once * width) {
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

impl Layer {
    /// Runs the tokens of `x` through the layer; what is left in it are those needed.
    #[allow(clippy::too_many_arguments)]
    fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        cache: &mut LayerCache,
        place: &Place<'_>,
        residual_scale: f32,
        width: usize,
        x: &mut Vec<f32>,
    ) -> Result<()> {
        let normed = |norm: &Option<Norm>, values: &[f32]| {
            let mut values = values.to_vec();
            if let Some(norm) = norm {
                norm.apply(runner, &mut values, width);
            }
            values
        };
        // In a parallel layer with one norm both parts share it.
        let own = if self.is_parallel && self.attention_norm.is_none() {
            &self.feed_forward_norm
        } else {
            &self.attention_norm
        };
        let input = normed(own, x);
        let mut attended = self.attention.run(runner, watch, cache, place, &input)?;
        x.drain(..place.needed * width);
        let count = place.count - place.needed;
        if let Some(norm) = &self.attention_post_norm {
            norm.apply(runner, &mut attended, width);
        }
        let input = if !self.is_parallel {
            add(x, &attended, residual_scale);
            if let Some(norm) = &self.attention_sum_norm {
                norm.apply(runner, x, width);
            }
            normed(&self.feed_forward_norm, x)
        } else if self.feed_forward_norm.is_some() && self.attention_norm.is_some() {
            normed(&self.feed_forward_norm, x)
        } else {
            input.get(place.needed * width..).unwrap_or_default().to_vec()
        };
        let mut result = self.feed_forward.run(runner, watch, &input, count)?;
        if let Some(norm) = &self.feed_forward_post_norm {
            norm.apply(runner, &mut result, width);
        }
        if self.is_parallel {
            add(x, &attended, residual_scale);
        }
        add(x, &result, residual_scale);
        if let Some(norm) = &self.feed_forward_sum_norm {
            norm.apply(runner, x, width);
        }
        Ok(())
    }
}

fn add(x: &mut [f32], values: &[f32], scale: f32) {
    x.iter_mut().zip(values).for_each(|(x, v)| *x += scale * v);
}

impl crate::load::Weights {
    /// What becomes of the output's results before they are logits.
    fn finish(&self, runner: Runner<'_>, logits: &mut [f32]) {
        if self.logit_scale != 1.0 {
            logits.iter_mut().for_each(|v| *v *= self.logit_scale);
        }
        if self.logit_cap != 0.0 {
            super::split::rows(runner.threads, logits, 1024, &|_, values| {
                runner.kernels.run(SoftCap { cap: self.logit_cap, values });
            });
        }
    }
}
