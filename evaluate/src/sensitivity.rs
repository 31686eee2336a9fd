//! How much a model's predictions suffer when tensors are quantized: what the choice of types for a
//! size is made by.
//!
//! The model runs once, in its own precision. Then, for each trial, some tensors are replaced by what
//! quantizing leaves of them, and the model runs again from the first layer that sees the change. The
//! loss is the mean KL divergence of the predictions. Losses of single tensors add up well enough to
//! choose by.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
};

use quant_core::{GgmlType, can_improve, formats::Rows};
use quant_kernels::PackedMatrix;
use quant_weights::{Distortion, Tensor};

use crate::{
    Error, Model, Result, Session,
    kl::log_probabilities,
    logits::exponentials,
    measure::Progress,
    run::{Chunk, Replaced, Runner, Watch, runner::Stored, split},
};

/// Values of a tensor that are quantized at a time, unless a row has more.
const PIECE: usize = 1 << 16;

/// How much is run to measure a model: trials of each tensor, and predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Types that each tensor is tried in, at most.
    pub trials_of_each: usize,
    /// Tokens of the passages.
    pub tokens: usize,
}

/// Multiplications that measuring takes, about: minutes on two cores.
const MULTIPLICATIONS: f64 = 1.2e13;
/// Tokens of a passage.
const PASSAGE: usize = 256;
/// Tokens that are run at least and at most, where the text has them.
const TOKENS: std::ops::RangeInclusive<usize> = 512..=2048;

impl Effort {
    /// Tokens that a text has to have.
    pub const SHORTEST: usize = 32;

    /// For a model of which so many tensors are measured: of small ones all types on much text, of
    /// large ones few types on little.
    pub fn of(model: &Model, tensors: usize) -> Self {
        let of_layers = |t: &&Tensor| layer_of(&t.name).is_some();
        let layers: u64 =
            model.source().tensors().iter().filter(of_layers).map(Tensor::elements).sum();
        let output = model.weights.output.as_ref().map_or(0, |o| o.rows as u64 * o.columns as u64);
        // A trial begins at the layer that it changes, and ends with all logits.
        let trial = (layers as f64 / 2.0 + output as f64) * tensors.max(1) as f64;
        let tokens = |each: usize| MULTIPLICATIONS / (trial * each as f64);
        let enough = |each: &usize| tokens(*each) >= 2.0 * *TOKENS.start() as f64;
        let trials_of_each = (1..=12).rev().find(enough).unwrap_or(1);
        let tokens = tokens(trials_of_each) as usize;
        Self { trials_of_each, tokens: tokens.clamp(*TOKENS.start(), *TOKENS.end()) }
    }

    /// Passages from all over a text, each beginning with `bos` if there is one; none if the text is
    /// too short.
    pub fn passages(&self, text: &[u32], bos: Option<u32>) -> Vec<Vec<u32>> {
        let size = PASSAGE.min(text.len());
        if size < Self::SHORTEST {
            return Vec::new();
        }
        let all = text.len() / size;
        let count = (self.tokens / size).clamp(1, all);
        let passage = |i: usize| {
            let start = i * all / count * size;
            let mut tokens = text.get(start..start + size).unwrap_or_default().to_vec();
            if let (Some(bos), Some(first)) = (bos, tokens.first_mut()) {
                *first = bos;
            }
            tokens
        };
        (0..count).map(passage).collect()
    }
}

/// A tensor, and what it is to be quantized to.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// The tensor's GGUF name.
    pub tensor: &'a str,
    /// A type that can be written, whose blocks divide the tensor's rows.
    pub ty: GgmlType,
    /// Importance of the columns of each of its matrices.
    pub importance: Option<&'a [f32]>,
    /// Whether its blocks are [improved](quant_core::improve), in types for which that can be done.
    pub better: bool,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// [`Distortion::relative`] of the tensor.
    pub error: f64,
    /// The mean KL divergence of the model's predictions with this tensor alone quantized, in nats.
    pub loss: f64,
}

/// A tensor that was quantized and restored.
pub struct Replacement {
    name: String,
    /// The first layer that sees it; as many as there are layers if that is the output alone.
    layer: usize,
    matrix: Option<Stored>,
    tokens: HashMap<u32, Vec<f32>>,
    distortion: Distortion,
}

impl std::fmt::Debug for Replacement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replacement").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Replacement {
    /// [`Distortion::relative`] of the tensor.
    pub fn error(&self) -> f64 {
        self.distortion.relative()
    }
}

/// A text as the model reads it.
struct Passage {
    tokens: Vec<u32>,
    /// The tokens before each layer, and behind the last one.
    inputs: Vec<Chunk>,
    /// Probabilities, a row for each token.
    predictions: Vec<f32>,
    /// The sum of each row's products of probability and log-probability, and of its probabilities.
    sums: Vec<(f64, f64)>,
}

/// Measures what changes of a model's tensors do to its predictions.
pub struct Prober<'m> {
    model: &'m Model,
    session: Session<'m>,
    passages: Vec<Passage>,
}

impl std::fmt::Debug for Prober<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").field("passages", &self.passages.len()).finish_non_exhaustive()
    }
}

impl<'m> Prober<'m> {
    /// Runs the model over passages, each a text of its own. Memory: of each token a row of
    /// log-probabilities and a vector for each layer.
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub fn new(
        model: &'m Model,
        passages: impl IntoIterator<Item = Vec<u32>>,
        progress: Progress<'_>,
    ) -> Result<Self> {
        let passages: Vec<Vec<u32>> = passages.into_iter().collect();
        let longest = passages.iter().map(Vec::len).max().unwrap_or(0);
        let mut prober =
            Self { model, session: Session::new(model, longest)?, passages: Vec::new() };
        let all = passages.len();
        for (done, tokens) in passages.into_iter().enumerate() {
            if progress(done, all).is_break() {
                break;
            }
            // Refuses tokens that there are not.
            prober.session.clear();
            prober.session.forward(&tokens, 0..0, |_, _| {})?;
            prober.session.clear();
            let runner = prober.session.runner();
            let mut chunk = prober.session.chunk(runner, &tokens, &(0..tokens.len()))?;
            let mut inputs = Vec::new();
            let watch = &mut Watch(None);
            prober.session.run_layers(runner, watch, 0, &mut chunk, &mut |chunk| {
                inputs.push(chunk.clone());
            })?;
            inputs.push(chunk.clone());
            let (mut predictions, mut sums, mut row) = (Vec::new(), Vec::new(), Vec::new());
            chunk.finish(model, runner, watch, true, &mut |_, logits| {
                log_probabilities(logits, &mut row);
                let (mut products, mut total) = (0.0, 0.0);
                predictions.extend(row.iter().map(|log| {
                    let probability = log.exp();
                    products += f64::from(probability) * f64::from(*log);
                    total += f64::from(probability);
                    probability
                }));
                sums.push((products, total));
            })?;
            prober.passages.push(Passage { tokens, inputs, predictions, sums });
        }
        Ok(prober)
    }

    /// Predictions that losses are means of.
    pub fn predictions(&self) -> usize {
        self.passages.iter().map(|passage| passage.tokens.len()).sum()
    }

    /// Quantizes and restores a tensor; `None` for one that has no part in predictions, as layers that
    /// guess further tokens have.
    ///
    /// # Errors
    /// If the model has no such tensor, or it cannot be read or quantized to the type.
    pub fn replace(&self, trial: &Trial<'_>) -> Result<Option<Replacement>> {
        let source = self.model.source();
        let Some(tensor) = source.tensor(trial.tensor) else {
            return Err(self.error(trial.tensor, "is not in the model"));
        };
        let weights = &self.model.weights;
        let is_table = weights.embedding.tensor.name == tensor.name;
        let is_output = weights.output.as_ref().is_some_and(|o| o.name == tensor.name);
        let layer = match layer_of(&tensor.name) {
            Some(layer) if layer < weights.layers.len() => layer,
            Some(_) => return Ok(None),
            None if is_table => 0,
            None if is_output => weights.layers.len(),
            None => return Ok(None),
        };
        let (values, distortion) = self.restored(tensor, trial)?;
        let width = weights.width;
        let mut tokens = HashMap::new();
        if is_table {
            for &token in self.passages.iter().flat_map(|passage| &passage.tokens) {
                let row = (token as usize).saturating_mul(width);
                let vector = values.get(row..row.saturating_add(width)).unwrap_or_default();
                tokens.insert(token, vector.to_vec());
            }
        }
        let matrix = match is_table && !is_output {
            true => None,
            false => Some(self.pack(tensor, &values)?),
        };
        Ok(Some(Replacement { name: tensor.name.clone(), layer, matrix, tokens, distortion }))
    }

    /// The loss with some tensors replaced, all at once.
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub fn loss(&mut self, replacements: Vec<Replacement>) -> Result<f64> {
        let mut from = self.model.weights.layers.len();
        let mut embeds = false;
        let mut replaced = Replaced::default();
        for Replacement { name, layer, matrix, tokens, .. } in replacements {
            from = from.min(layer);
            embeds |= !tokens.is_empty();
            replaced.tokens.extend(tokens);
            replaced.matrices.extend(matrix.map(|matrix| (name, matrix)));
        }
        let runner = Runner { replaced: Some(&replaced), ..self.session.runner() };
        let (mut sum, mut count) = (0.0, 0usize);
        let vocabulary = self.model.vocabulary().max(1);
        let from = self.first_to_run(from);
        for passage in &self.passages {
            self.session.clear();
            let whole = 0..passage.tokens.len();
            let mut chunk = match passage.inputs.get(from).filter(|_| !embeds) {
                Some(input) => input.clone(),
                None => self.session.chunk(runner, &passage.tokens, &whole)?,
            };
            let watch = &mut Watch(None);
            self.session.run_layers(runner, watch, from, &mut chunk, &mut |_| {})?;
            let mut rows = passage.predictions.chunks_exact(vocabulary).zip(&passage.sums);
            chunk.finish(self.model, runner, watch, true, &mut |_, logits| {
                sum += rows.next().map_or(0.0, |(row, sums)| divergence(row, *sums, logits));
                count += 1;
            })?;
        }
        Ok(sum / count.max(1) as f64)
    }

    /// The first layer that has to run where the change is in layer `from`: layers behind it may use the
    /// keys and values of one before it.
    fn first_to_run(&self, from: usize) -> usize {
        let behind = self.model.weights.layers.iter().skip(from);
        behind.filter_map(|layer| layer.lender()).fold(from, usize::min)
    }

    /// The values that quantizing leaves of a tensor.
    fn restored(&self, tensor: &Tensor, trial: &Trial<'_>) -> Result<(Vec<f32>, Distortion)> {
        let source = self.model.source();
        let runner = self.session.runner();
        let mut reader = source.reader(runner.kernels);
        let mut values = reader.values(tensor, 0..tensor.elements())?.to_vec();
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).max(1);
        let row_len = size(tensor.row_len());
        let matrix_len = size(tensor.shape.iter().take(2).product());
        let rows = (PIECE / row_len).max(1) * row_len;
        let pieces = values
            .chunks_mut(matrix_len)
            .enumerate()
            .flat_map(|(matrix, values)| values.chunks_mut(rows).map(move |piece| (matrix, piece)));
        // A sum of floats depends on its order: pieces are added up in theirs.
        let found = Mutex::new((BTreeMap::new(), None));
        split::pieces(runner.threads, pieces.enumerate(), &|(i, (matrix, piece))| {
            let importance = trial.importance.and_then(|all| all.chunks(row_len).nth(matrix));
            let done = quantize(runner, trial, piece, row_len, importance);
            let (all, problem) = &mut *found.lock().unwrap_or_else(PoisonError::into_inner);
            match done {
                Ok(distortion) => _ = all.insert(i, distortion),
                Err(error) => *problem = Some(error),
            }
        });
        let (all, problem) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem {
            return Err(self.error(&tensor.name, format!("cannot become {}: {problem}", trial.ty)));
        }
        let mut distortion = Distortion::default();
        all.values().for_each(|part| distortion.merge(part));
        Ok((values, distortion))
    }

    /// A matrix, or one for each expert, in single precision.
    fn pack(&self, tensor: &Tensor, values: &[f32]) -> Result<Stored> {
        let size = |axis: usize| {
            tensor.shape.get(axis).map_or(1, |n| usize::try_from(*n).unwrap_or(usize::MAX))
        };
        let (columns, rows, experts) = (size(0), size(1), size(2));
        let threads = self.session.runner().threads;
        let bytes = bytemuck::cast_slice(values);
        let packed = if experts > 1 {
            PackedMatrix::pack_experts_with(threads, GgmlType::F32, experts, rows, columns, bytes)
        } else {
            PackedMatrix::pack_with(threads, GgmlType::F32, rows, columns, bytes)
        };
        let product = |source| Error::Product { tensor: tensor.name.clone(), source };
        Ok(Stored::Packed(vec![packed.map_err(product)?]))
    }

    fn error(&self, tensor: &str, message: impl Into<String>) -> Error {
        let file = self.model.source().files().first();
        let file = file.map(|file| file.path().to_owned()).unwrap_or_default();
        Error::Tensor { file, tensor: tensor.to_owned(), message: message.into() }
    }
}

impl Prober<'_> {
    /// The loss with the tensors of all trials quantized at once.
    ///
    /// # Errors
    /// As [`replace`](Self::replace) and [`loss`](Self::loss).
    pub fn loss_of(&mut self, trials: &[Trial<'_>]) -> Result<f64> {
        let replaced = trials.iter().filter_map(|trial| self.replace(trial).transpose());
        let replaced = replaced.collect::<Result<_>>()?;
        self.loss(replaced)
    }
}

/// Measures trials one by one. A trial of a tensor that has no part in predictions is `None`; after
/// `progress` breaks off, so are all that follow.
///
/// # Errors
/// As [`Prober::replace`] and [`Prober::loss`].
pub fn measure(
    prober: &mut Prober<'_>,
    trials: &[Trial<'_>],
    progress: Progress<'_>,
) -> Result<Vec<Option<Found>>> {
    let mut found = Vec::new();
    for trial in trials {
        if progress(found.len(), trials.len()) == ControlFlow::Break(()) {
            break;
        }
        found.push(match prober.replace(trial)? {
            Some(replacement) => {
                let error = replacement.error();
                Some(Found { error, loss: prober.loss(vec![replacement])? })
            }
            None => None,
        });
    }
    found.resize(trials.len(), None);
    Ok(found)
}

/// The number in `blk.7.…`.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// Puts what quantizing leaves of rows in their place.
fn quantize(
    runner: Runner<'_>,
    &Trial { ty, better, .. }: &Trial<'_>,
    values: &mut [f32],
    row_len: usize,
    importance: Option<&[f32]>,
) -> Result<Distortion, quant_core::Error> {
    let mut bytes = vec![0; usize::try_from(ty.row_bytes(values.len() as u64)?).unwrap_or(0)];
    let rows = Rows { values, row_len, importance };
    runner.kernels.quantize_unchecked(ty, rows, &mut bytes)?;
    if better && can_improve(ty) {
        runner.kernels.improve(ty, rows, &mut bytes)?;
    }
    let before = values.to_vec();
    runner.kernels.dequantize_into(ty, &bytes, values)?;
    let mut distortion = Distortion::default();
    distortion.add(runner.kernels, &before, values, importance);
    Ok(distortion)
}

/// The KL divergence of logits from a row of probabilities; the `sums` are those of [`Passage`].
fn divergence(probabilities: &[f32], (products, total): (f64, f64), logits: &[f32]) -> f64 {
    let (greatest, sum) = exponentials(logits);
    let log_sum = f64::from(greatest) + sum.ln();
    let pairs = probabilities.iter().zip(logits);
    let expected: f64 = pairs.map(|(p, logit)| f64::from(*p) * f64::from(*logit)).sum();
    products - expected + total * log_sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_spread_over_the_text() {
        let text: Vec<u32> = (0..2600).collect();
        let effort = Effort { trials_of_each: 1, tokens: 768 };
        let passages = effort.passages(&text, None);
        let starts: Vec<_> = passages.iter().map(|p| p[0]).collect();
        assert_eq!(starts, [0, 768, 1536]);
        assert!(passages.iter().all(|p| p.len() == 256));
        assert_eq!(effort.passages(&text[..40], Some(9)), [[&[9], &text[1..40]].concat()]);
        assert!(effort.passages(&text[..31], None).is_empty());
        let more = Effort { tokens: 1 << 20, ..effort };
        assert_eq!(more.passages(&text, None).len(), 10);
    }

    #[test]
    fn errors_are_those_of_the_search_that_will_write_the_file() {
        let runner = Runner::new(quant_kernels::Kernels::best(), &quant_kernels::Serial);
        let wave = |i: u32| (i as f32 * 0.37).sin() + (i as f32 * 1.7).cos() * 0.4;
        let values: Vec<f32> = (0..512).map(wave).collect();
        let error = |ty, better| {
            let trial = Trial { tensor: "", ty, importance: None, better };
            let mut left = values.clone();
            quantize(runner, &trial, &mut left, 256, None).unwrap().relative()
        };
        assert!(error(GgmlType::Q4_0, true) < error(GgmlType::Q4_0, false));
        // There is nothing to improve here.
        assert_eq!(error(GgmlType::F16, true), error(GgmlType::F16, false));
    }

    #[test]
    fn divergences_are_those_of_the_logits() {
        let mut logs = Vec::new();
        log_probabilities(&[3f32.ln(), 0.0], &mut logs);
        let probabilities: Vec<f32> = logs.iter().map(|log| log.exp()).collect();
        let pairs = logs.iter().zip(&probabilities);
        let products = pairs.map(|(log, p)| f64::from(*log) * f64::from(*p)).sum();
        let total = probabilities.iter().map(|p| f64::from(*p)).sum();
        let found = |logits: &[f32]| divergence(&probabilities, (products, total), logits);
        assert!((found(&[0.0, 3f32.ln()]) - 0.5 * 3f64.ln()).abs() < 1e-6);
        assert!(found(&[5.0 + 3f32.ln(), 5.0]).abs() < 1e-6);
    }
}
