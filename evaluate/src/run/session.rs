//! A text that a model reads.

use std::{ops::Range, sync::Arc};

use super::{
    CachePrecision, Function, Runner,
    attend::Sight,
    attention::{Attention, Place},
    cache::LayerCache,
    feed_forward::FeedForward,
    functions::SoftCap,
    matrix::Matrix,
    norm::Norm,
    recurrence::State,
    recurrent::Recurrent,
    rope::{Rope, Turns},
    split,
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

    /// The same rows where they meet several tensors, which need be looked at once only.
    fn matmul_inputs(
        &mut self,
        tensors: &[&str],
        expert: Option<usize>,
        rows: &[f32],
        columns: usize,
    ) {
        for tensor in tensors {
            self.matmul_input(tensor, expert, rows, columns);
        }
    }
}

/// The observer of a run, if there is one.
pub(crate) struct Watch<'a>(pub(crate) Option<&'a mut dyn Observer>);

impl Watch<'_> {
    pub(crate) fn input(&mut self, matrix: &Matrix, rows: &[f32]) {
        self.inputs(&[matrix], rows);
    }

    /// Rows that meet several matrices.
    pub(crate) fn inputs(&mut self, matrices: &[&Matrix], rows: &[f32]) {
        if let (Some(observer), Some(first)) = (&mut self.0, matrices.first()) {
            let names: Vec<_> = matrices.iter().map(|matrix| matrix.name.as_str()).collect();
            observer.matmul_inputs(&names, None, rows, first.columns);
        }
    }

    /// Rows of which each meets the next `used` of the ids, in each of some matrices.
    pub(crate) fn expert_inputs(
        &mut self,
        matrices: &[&Matrix],
        x: &[f32],
        ids: &[u32],
        used: usize,
    ) {
        let (Some(observer), Some(matrix)) = (&mut self.0, matrices.first()) else { return };
        let names: Vec<_> = matrices.iter().map(|matrix| matrix.name.as_str()).collect();
        let mut order: Vec<_> = ids.iter().enumerate().collect();
        order.sort_by_key(|(_, expert)| **expert);
        for same in order.chunk_by(|a, b| a.1 == b.1) {
            let Some((_, expert)) = same.first() else { continue };
            let start = |i: usize| i / used * matrix.columns;
            let row = |i: usize| x.get(start(i)..start(i) + matrix.columns).unwrap_or_default();
            let rows: Vec<f32> = same.iter().flat_map(|(i, _)| row(*i)).copied().collect();
            observer.matmul_inputs(&names, Some(**expert as usize), &rows, matrix.columns);
        }
    }
}

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
    state: Option<State>,
}

impl Memory {
    /// Forgets all tokens. Keys and values need no clearing: nobody sees those behind a position.
    pub(crate) fn clear(&mut self) {
        if let Some(state) = &mut self.state {
            state.clear();
        }
    }
}

/// A model reading a text: the keys and values of the tokens so far, and the states of recurrent layers.
///
/// Any number of sessions can share a model.
pub struct Session<'a> {
    model: &'a Model,
    memories: Vec<Memory>,
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
    /// so many tokens; [`Error::LayerByLayer`].
    pub fn new(model: &'a Model, context: usize) -> Result<Self> {
        let weights = &model.weights;
        if model.options.layer_by_layer {
            return Err(Error::LayerByLayer);
        }
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
        let memories = weights
            .layers
            .iter()
            .map(|layer| layer.memory(model.options.cache, context))
            .collect::<Option<_>>()
            .ok_or_else(|| too_little(0))?;
        Ok(Self { model, memories, context, tokens: 0 })
    }

    /// Tokens there is room for.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens read so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Forgets the tokens from position `tokens` on. States of recurrent layers cannot go back: a model
    /// that has any forgets all tokens, unless there is nothing to forget. [`tokens`](Self::tokens) says
    /// how many are left.
    pub fn truncate(&mut self, tokens: usize) {
        if tokens >= self.tokens {
            return;
        }
        let mut states = self.memories.iter_mut().filter_map(|memory| memory.state.as_mut());
        self.tokens = match states.next() {
            None => tokens,
            Some(first) => {
                std::iter::once(first).chain(states).for_each(State::clear);
                0
            }
        };
    }

    /// Bytes of keys, values and states.
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
    /// read. After an error while it is run the session holds the tokens that it held before, or none
    /// where the model has recurrent layers.
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
        weights.check_tokens(tokens)?;
        let needed = self.tokens.saturating_add(tokens.len());
        if needed > self.context {
            return Err(Error::Context { needed, what: "context", context: self.context });
        }
        let before = self.tokens;
        // Where tokens see those after them, all go through together.
        let chunk = if weights.is_causal { chunk_len(self.model) } else { tokens.len() };
        for chunk in tokens.chunks(chunk) {
            let result = self.chunk_forward(chunk, &wanted, watch, to_logits, logits);
            // Whatever failed, the states have seen some of the chunk.
            self.tokens += chunk.len();
            if let Err(error) = result {
                self.truncate(before);
                return Err(error);
            }
        }
        Ok(())
    }

    pub(crate) fn runner(&self) -> Runner<'a> {
        self.model.runner()
    }

    fn chunk_forward(
        &mut self,
        tokens: &[u32],
        wanted: &Range<usize>,
        watch: &mut Watch<'_>,
        to_logits: bool,
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let runner = self.runner();
        let mut chunk = self.chunk(runner, tokens, wanted)?;
        self.run_layers(runner, watch, 0, &mut chunk, &mut |_| {})?;
        chunk.finish(self.model, runner, watch, to_logits, logits)
    }

    /// The vectors of tokens after those read so far.
    pub(crate) fn chunk(
        &self,
        runner: Runner<'_>,
        tokens: &[u32],
        wanted: &Range<usize>,
    ) -> Result<Chunk> {
        let places = self.tokens..self.tokens + tokens.len();
        let turns = self.model.weights.turns(&places, self.context);
        Chunk::new(self.model, runner, tokens, self.tokens, turns, wanted)
    }

    /// Runs tokens through the layers from one on, without counting them as read. `before` sees what
    /// goes into each layer.
    pub(crate) fn run_layers(
        &mut self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        from: usize,
        chunk: &mut Chunk,
        before: &mut dyn FnMut(&Chunk),
    ) -> Result<()> {
        let layers = &self.model.weights.layers;
        let last = layers.len().saturating_sub(1);
        for (i, layer) in layers.iter().enumerate().skip(from) {
            before(chunk);
            chunk.run(self.model, runner, watch, i, layer, i == last, &mut self.memories)?;
        }
        Ok(())
    }

    /// Forgets all tokens, also those that were not counted.
    pub(crate) fn clear(&mut self) {
        self.memories.iter_mut().for_each(Memory::clear);
        self.tokens = 0;
    }
}

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
        let x = weights.embed(model, runner, tokens, first)?;
        let inputs = match &weights.inputs {
            Some(inputs) => Some(inputs.of(model, runner, tokens, &x)?),
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
            self.x.iter_mut().for_each(|v| *v *= scale);
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

impl LayerInput {
    /// Adds what becomes of the vectors that the tokens have for the layer.
    fn run(
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
    fn run(
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
        let mut attended = self.attend(runner, watch, memories, index, place, &input)?;
        x.drain(..place.needed * width);
        let count = place.count - place.needed;
        let first = self.feed_forward.as_ref().filter(|part| part.needs_layer_input());
        let first = first.map(|_| x.clone());
        if let (Some(attended), Some(norm)) = (&mut attended, &self.attention_post_norm) {
            norm.apply(runner, attended, width);
        }
        let input = if !self.is_parallel {
            if let Some(attended) = &attended {
                add(runner, x, attended, residual_scale);
                if let Some(norm) = &self.attention_sum_norm {
                    norm.apply(runner, x, width);
                }
            }
            normed(&self.feed_forward_norm, x)
        } else if self.feed_forward_norm.is_some() && self.attention_norm.is_some() {
            normed(&self.feed_forward_norm, x)
        } else {
            input.get(place.needed * width..).unwrap_or_default().to_vec()
        };
        if let Some(attended) = attended.filter(|_| self.is_parallel) {
            add(runner, x, &attended, residual_scale);
        }
        let Some(feed_forward) = &self.feed_forward else { return Ok(()) };
        let mut result = feed_forward.run(runner, watch, &input, x, first.as_deref(), count)?;
        if let Some(norm) = &self.feed_forward_post_norm {
            norm.apply(runner, &mut result, width);
        }
        add(runner, x, &result, residual_scale);
        if let Some(norm) = &self.feed_forward_sum_norm {
            norm.apply(runner, x, width);
        }
        Ok(())
    }
}

fn add(runner: Runner<'_>, x: &mut [f32], values: &[f32], scale: f32) {
    const WIDTH: usize = 1024;
    split::rows(runner.threads, x, WIDTH, &|first, x| {
        let values = values.get(first * WIDTH..).unwrap_or_default();
        x.iter_mut().zip(values).for_each(|(x, v)| *x += scale * v);
    });
}

impl crate::load::Weights {
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
            logits.iter_mut().for_each(|v| *v *= self.logit_scale);
        }
        if self.logit_cap != 0.0 {
            split::rows(runner.threads, logits, 1024, &|_, values| {
                runner.kernels.run(SoftCap { cap: self.logit_cap, values });
            });
        }
    }
}
