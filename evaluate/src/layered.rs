//! Models larger than memory: all windows of a text go through a layer before the next one is read.
//!
//! Perplexity, KL divergence and importance matrices need no more of a model at a time than one layer. The
//! numbers are those of a [`Session`], to the bit: the same rows meet the same weights in
//! the same order.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use crate::{
    Error, Model, Observer, Result, Session,
    importance::Importance,
    measure::{Predictor, Progress, parts},
    perplexity::{Window, Windows},
    run::{Chunk, Memory, Turns, Watch, chunk_len},
};

/// Reads the windows of a text in their order, layer by layer.
///
/// As a [`Predictor`] it is restarted for each window, and reads that window as the functions of
/// [`measure`](crate::measure) do. It takes as many windows at a time as their vectors fit
/// [`Options::activations`](crate::Options::activations), and reads the model once for each such batch.
pub struct LayerByLayer<'a> {
    model: &'a Model,
    windows: Windows<'a>,
    /// Positions whose predictions are asked for together.
    at_once: usize,
    /// Windows at a time.
    batch: usize,
    /// Those that have been run, and what is left of them.
    done: Range<usize>,
    results: VecDeque<VecDeque<Chunk>>,
    /// The window that is read, after the first restart.
    at: Option<usize>,
    /// Hears how many layers are done, of all batches together.
    progress: Progress<'a>,
}

impl std::fmt::Debug for LayerByLayer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerByLayer")
            .field("windows", &self.windows.len())
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

impl<'a> LayerByLayer<'a> {
    /// A reader of these windows. `at_once` is how many positions' predictions are asked for together:
    /// [`measure::at_once`](crate::measure::at_once) for a divergence, else all of a window. `progress`
    /// hears how many layers are done, each counted once for each batch of windows, and may break off.
    ///
    /// The model may be one that was opened [layer by layer](crate::Options::layer_by_layer), or any other.
    pub fn new(
        model: &'a Model,
        windows: Windows<'a>,
        at_once: usize,
        progress: Progress<'a>,
    ) -> Self {
        let batch = windows_at_once(model, windows.size());
        let results = VecDeque::new();
        Self { model, windows, at_once, batch, done: 0..0, results, at: None, progress }
    }

    /// Runs the batch that begins with a window.
    fn run_batch(&mut self, first: usize) -> Result<()> {
        let windows: Vec<Window> = self.windows.iter().skip(first).take(self.batch).collect();
        let end = first + windows.len();
        let cuts: Vec<_> = match windows.first() {
            Some(window) => parts(window, self.at_once).collect(),
            None => Vec::new(),
        };
        let (batch, batches) = (first / self.batch, self.windows.len().div_ceil(self.batch));
        let layers = self.model.weights.layers.len();
        let progress = &mut *self.progress;
        let mut layer_done = |layer: usize| match progress(batch * layers + layer, batches * layers)
        {
            std::ops::ControlFlow::Continue(()) => Ok(()),
            std::ops::ControlFlow::Break(()) => Err(Error::Stopped),
        };
        self.results = run(self.model, &windows, &cuts, &mut Watch(None), &mut layer_done)?;
        self.done = first..end;
        Ok(())
    }
}

/// How many windows of so many tokens are run at a time.
fn windows_at_once(model: &Model, size: usize) -> usize {
    let weights = &model.weights;
    let inputs = weights.inputs.as_ref().map_or(0, |inputs| inputs.of_layer * weights.layers.len());
    let vectors = 4 * (size as u64).saturating_mul((weights.width + inputs) as u64);
    let kept = lenders(model).into_iter().filter_map(|layer| weights.layers.get(layer));
    let kept = kept.map(|layer| layer.cache_bytes(model.options.cache, size));
    let each = kept.fold(vectors, u64::saturating_add);
    usize::try_from(model.options.activations / each.max(1)).unwrap_or(usize::MAX).max(1)
}

/// The layers whose keys and values others use.
fn lenders(model: &Model) -> Vec<usize> {
    let layers = model.weights.layers.iter();
    let mut lenders: Vec<_> = layers.filter_map(|layer| layer.lender()).collect();
    lenders.sort_unstable();
    lenders.dedup();
    lenders
}

impl Model {
    /// Bytes that it takes to run windows of so many tokens of a text, at most, layer by layer: what is not
    /// in layers, the largest layer, its cache, and the vectors of as many of the windows as
    /// are run at a time.
    pub fn layered_bytes(&self, size: usize, windows: usize) -> u64 {
        let weights = &self.weights;
        let of_layers = weights.layer_bytes.iter().copied().fold(0, u64::saturating_add);
        let largest = weights.layer_bytes.iter().max().copied().unwrap_or(0);
        let caches = weights.layers.iter().map(|l| l.cache_bytes(self.options.cache, size));
        let batch = windows_at_once(self, size).min(windows) as u64;
        let vectors = 4 * (size as u64).saturating_mul(weights.width as u64);
        (weights.bytes - of_layers)
            .saturating_add(largest)
            .saturating_add(caches.max().unwrap_or(0))
            .saturating_add(batch.saturating_mul(vectors))
    }
}

/// Runs windows through all layers. `cuts` are the parts of each: its tokens, and those that are wanted.
fn run(
    model: &Model,
    windows: &[Window],
    cuts: &[(Range<usize>, Range<usize>)],
    watch: &mut Watch<'_>,
    layer_done: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<VecDeque<VecDeque<Chunk>>> {
    let weights = &model.weights;
    let context = windows.first().map_or(0, |window| window.tokens.len());
    // The chunks of all windows are cut alike.
    let at_most = chunk_len(model);
    let chunks: Vec<_> = cuts
        .iter()
        .flat_map(|(tokens, wanted)| {
            let starts = tokens.clone().step_by(at_most);
            let end = tokens.end;
            starts.map(move |start| (start..end.min(start + at_most), wanted.clone()))
        })
        .collect();
    let turns: Vec<Arc<Vec<Turns>>> =
        chunks.iter().map(|(tokens, _)| weights.turns(tokens, context)).collect();
    let mut all = VecDeque::new();
    for window in windows {
        let mut of_window = VecDeque::new();
        for ((tokens, wanted), turns) in chunks.iter().zip(&turns) {
            let ids = window.tokens.get(tokens.clone()).unwrap_or_default();
            weights.check_tokens(ids)?;
            of_window.push_back(Chunk::new(
                model,
                model.runner(),
                ids,
                tokens.start,
                turns.clone(),
                wanted,
            )?);
        }
        all.push_back(of_window);
    }
    let lenders = lenders(model);
    let too_little = || Error::Memory {
        what: format!("the cache for {context} tokens"),
        needed: model.cache_bytes(context),
        available: 0,
        hint: "give a shorter context",
    };
    let mut memories: Vec<Memory> = weights.layers.iter().map(|_| Memory::default()).collect();
    let mut kept: Vec<BTreeMap<usize, Memory>> = windows.iter().map(|_| BTreeMap::new()).collect();
    for index in 0..weights.layers.len() {
        let loaded = match model.options.layer_by_layer {
            true => Some(model.load_layer(index)?),
            false => None,
        };
        let Some(layer) = loaded.as_ref().or(weights.layers.get(index)) else { break };
        let is_last = index + 1 == weights.layers.len();
        let mut own = layer.memory(model.options.cache, context).ok_or_else(too_little)?;
        for (window, kept) in all.iter_mut().zip(&mut kept) {
            own.clear();
            let at = layer.lender().unwrap_or(index);
            if let (Some(place), Some(lent)) = (memories.get_mut(at), kept.get_mut(&at)) {
                std::mem::swap(place, lent);
            }
            if let Some(place) = memories.get_mut(index) {
                std::mem::swap(place, &mut own);
            }
            for chunk in window {
                chunk.run(model, model.runner(), watch, index, layer, is_last, &mut memories)?;
            }
            if let Some(place) = memories.get_mut(index) {
                std::mem::swap(place, &mut own);
            }
            if let (Some(place), Some(lent)) = (memories.get_mut(at), kept.get_mut(&at)) {
                std::mem::swap(place, lent);
            }
            if lenders.contains(&index) {
                let next = layer.memory(model.options.cache, context).ok_or_else(too_little)?;
                kept.insert(index, std::mem::replace(&mut own, next));
            }
        }
        layer_done(index + 1)?;
    }
    Ok(all)
}

impl Predictor for LayerByLayer<'_> {
    type Error = Error;

    fn vocabulary(&self) -> usize {
        self.model.vocabulary()
    }

    fn restart(&mut self) {
        self.at = Some(self.at.map_or(0, |at| at + 1));
        if self.done.start < self.at.unwrap_or(0) && !self.done.is_empty() {
            self.done.start += 1;
            self.results.pop_front();
        }
    }

    /// The tokens are those of the window, and the positions those that it was made for.
    fn read(
        &mut self,
        tokens: &[u32],
        _: Range<usize>,
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let at = self.at.unwrap_or(0);
        if self.done.is_empty() {
            self.run_batch(at)?;
        }
        let Some(chunks) = self.results.front_mut() else { return Ok(()) };
        let mut left = tokens.len();
        while left > 0
            && let Some(chunk) = chunks.pop_front()
        {
            left = left.saturating_sub(chunk.tokens());
            chunk.finish(self.model, self.model.runner(), &mut Watch(None), true, logits)?;
        }
        Ok(())
    }
}

/// What reads the windows of a text: a model in memory, or one whose layers are read one at a time.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reader<'a> {
    /// Its layers are in memory.
    Whole(Session<'a>),
    /// They are not.
    LayerByLayer(LayerByLayer<'a>),
}

impl<'a> Reader<'a> {
    /// A reader of these windows, as the model was opened. `at_once` and `layers` are those of
    /// [`LayerByLayer::new`].
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn new(
        model: &'a Model,
        windows: &Windows<'a>,
        at_once: usize,
        layers: Progress<'a>,
    ) -> Result<Self> {
        Ok(match model.is_layer_by_layer() {
            false => Self::Whole(Session::new(model, windows.size())?),
            true => Self::LayerByLayer(LayerByLayer::new(model, windows.clone(), at_once, layers)),
        })
    }
}

impl Predictor for Reader<'_> {
    type Error = Error;

    fn vocabulary(&self) -> usize {
        match self {
            Self::Whole(session) => session.vocabulary(),
            Self::LayerByLayer(reader) => reader.vocabulary(),
        }
    }

    fn restart(&mut self) {
        match self {
            Self::Whole(session) => session.restart(),
            Self::LayerByLayer(reader) => reader.restart(),
        }
    }

    fn read(
        &mut self,
        tokens: &[u32],
        wanted: Range<usize>,
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        match self {
            Self::Whole(session) => session.read(tokens, wanted, logits),
            Self::LayerByLayer(reader) => reader.read(tokens, wanted, logits),
        }
    }
}

/// As [`measure::importance`](crate::measure::importance), layer by layer. `progress` hears how many layers
/// are done, each counted once for each batch of windows; if it breaks off, the windows of whole batches
/// have been added.
///
/// # Errors
/// As [`Session::observe`].
pub fn importance(
    model: &Model,
    windows: &Windows<'_>,
    importance: &mut Importance,
    output: bool,
    progress: Progress<'_>,
) -> Result<()> {
    let batch = windows_at_once(model, windows.size());
    let layers = model.weights.layers.len();
    let batches = windows.len().div_ceil(batch);
    let all: Vec<Window> = windows.iter().collect();
    for (i, windows) in all.chunks(batch).enumerate() {
        let len = windows.first().map_or(0, |window| window.tokens.len());
        let wanted = if output { 0..len } else { 0..0 };
        // What an interrupted batch would add is not that of whole windows.
        let mut sums = importance.clone();
        let mut is_stopped = false;
        let result = {
            let mut layer_done = |layer| {
                is_stopped = progress(i * layers + layer, batches * layers).is_break();
                if is_stopped { Err(Error::Stopped) } else { Ok(()) }
            };
            let observer: &mut dyn Observer = &mut sums;
            let mut watch = Watch(Some(observer));
            run(model, windows, &[(0..len, wanted)], &mut watch, &mut layer_done).and_then(|all| {
                all.into_iter().flatten().try_for_each(|chunk| {
                    chunk.finish(model, model.runner(), &mut watch, true, &mut |_, _| {})
                })
            })
        };
        match result {
            Err(Error::Stopped) if is_stopped => return Ok(()),
            other => other?,
        }
        sums.chunks = sums.chunks.saturating_add(u32::try_from(windows.len()).unwrap_or(u32::MAX));
        *importance = sums;
    }
    Ok(())
}
