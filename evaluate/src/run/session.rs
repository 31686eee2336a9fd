//! A text that a model reads.

use std::ops::Range;

use super::{
    chunk::{Chunk, chunk_len},
    layer::Memory,
    recurrence::State,
    runner::Runner,
    watch::{Observer, Watch},
};
use crate::{Error, Model, Result};

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

    /// Tokens that go through the layers together, at most. Reading so many a call gives what one call
    /// for all of them gives.
    pub fn tokens_at_once(&self) -> usize {
        // Where tokens see those after them, all go through together.
        match self.model.weights.is_causal {
            true => chunk_len(self.model),
            false => self.context.max(1),
        }
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
        for chunk in tokens.chunks(self.tokens_at_once()) {
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
