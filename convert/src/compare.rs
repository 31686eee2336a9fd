//! How far the tensors of one model are from those of another.

use std::{collections::HashMap, sync::Mutex};

use quant_core::{Metrics, can_dequantize};
use quant_kernels::Kernels;
use quant_weights::{Cut, Source};

use crate::{Error, Options, Result, model::Model, workers};

/// A tensor that both models have, in the same shape.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Difference {
    /// Its name in a GGUF file.
    pub name: String,
    /// Dimensions, innermost first.
    pub shape: Vec<u64>,
    /// What it is stored as in the reference, by [`Tensor::stored_type`](crate::model::Tensor::stored_type).
    pub reference: String,
    /// What it is stored as in the candidate.
    pub candidate: String,
    /// How far the values are apart; NaN if any value is NaN.
    pub metrics: Metrics,
}

/// What is different between two models.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
#[must_use = "it says whether the models are alike"]
pub struct Comparison {
    /// Tensors that could be compared, in the order of the reference.
    pub tensors: Vec<Difference>,
    /// Tensors that only the reference has.
    pub missing: Vec<String>,
    /// Tensors that only the candidate has.
    pub extra: Vec<String>,
    /// Tensors of different shapes: name, shape in the reference, shape in the candidate.
    pub shapes: Vec<(String, Vec<u64>, Vec<u64>)>,
    /// Tensors of types whose values this version does not restore.
    pub skipped: Vec<String>,
}

impl Comparison {
    /// The metrics of all values taken together.
    pub fn total(&self) -> Metrics {
        let mut total = Metrics::default();
        self.tensors.iter().for_each(|tensor| total.merge(&tensor.metrics));
        total
    }

    /// Whether the models have the same tensors in the same shapes, all of them compared.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
            && self.extra.is_empty()
            && self.shapes.is_empty()
            && self.skipped.is_empty()
    }
}

/// Compares all tensors of two models [opened](crate::open) before, in a fixed memory window on
/// `options.threads` threads. The result does not depend on their number.
///
/// # Errors
/// [`Error::Files`] for whatever reading runs into, or if a file changes meanwhile.
pub fn compare(reference: &Model, candidate: &Model, options: &Options) -> Result<Comparison> {
    let others: HashMap<_, _> = candidate.tensors.iter().map(|t| (&t.name[..], t)).collect();
    let mut result = Comparison::default();
    let mut pairs = Vec::new();
    for tensor in &reference.tensors {
        let name = tensor.name.clone();
        match others.get(&tensor.name[..]) {
            None => result.missing.push(name),
            Some(other) if other.written_shape() != tensor.written_shape() => {
                result.shapes.push((name, tensor.shape.clone(), other.shape.clone()));
            }
            Some(other) if ![tensor, *other].iter().all(|t| can_dequantize(t.source_type())) => {
                result.skipped.push(name);
            }
            Some(other) => pairs.push((tensor, *other)),
        }
    }
    let names: HashMap<_, _> = reference.tensors.iter().map(|t| (&t.name[..], ())).collect();
    let extra = candidate.tensors.iter().filter(|t| !names.contains_key(&t.name[..]));
    result.extra = extra.map(|t| t.name.clone()).collect();

    let mut pieces = Vec::new();
    for (index, (a, b)) in pairs.iter().enumerate() {
        // Of the two ways of cutting that which suits the one that is harder to read.
        let (of_a, of_b) = (Cut::blocks(a), Cut::blocks(b));
        let cut = if of_b.size > of_a.size { of_b } else { of_a };
        pieces.extend(cut.ranges(a.elements()).map(|range| (index, range)));
    }
    for (model, of) in [(reference, 0), (candidate, 1)] {
        model.will_read(pairs.iter().map(|pair| if of == 0 { pair.0 } else { pair.1 }));
    }
    // A sum of floats depends on its order: every piece has a place of its own.
    let sums = Mutex::new(vec![Metrics::default(); pieces.len()]);
    let kernels = Kernels::best();
    let state = || (reference.reader(kernels), candidate.reader(kernels));
    workers::run(options.threads, pieces.len(), state, |(left, right), i| {
        let Some((index, range)) = pieces.get(i) else { return Ok(()) };
        let Some((a, b)) = pairs.get(*index) else { return Ok(()) };
        let mut metrics = Metrics::default();
        metrics.add(left.values(a, range.clone())?, right.values(b, range.clone())?)?;
        if let Some(sum) = sums.lock().unwrap_or_else(|e| e.into_inner()).get_mut(i) {
            *sum = metrics;
        }
        Ok::<_, Error>(())
    })?;
    result.tensors = pairs
        .iter()
        .map(|(a, b)| Difference {
            name: a.name.clone(),
            shape: a.shape.clone(),
            reference: a.stored_type().to_owned(),
            candidate: b.stored_type().to_owned(),
            metrics: Metrics::default(),
        })
        .collect();
    let sums = sums.into_inner().unwrap_or_else(|e| e.into_inner());
    for ((index, ..), sum) in pieces.iter().zip(&sums) {
        if let Some(tensor) = result.tensors.get_mut(*index) {
            tensor.metrics.merge(sum);
        }
    }
    for file in reference.files.iter().chain(&candidate.files) {
        file.check_unchanged()?;
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Origin, Tensor, TensorData};

    #[test]
    fn outer_dimensions_of_one_make_no_difference() {
        // As Qwen2-MoE's gate is in a checkpoint and in a GGUF file.
        let model = |shape: &[u64]| Model {
            metadata: gguf_io::Metadata::new(),
            tensors: vec![Tensor {
                name: "gate".into(),
                shape: shape.into(),
                data: TensorData::Computed(vec![1.0; 64]),
            }],
            files: vec![],
            origin: Origin::Gguf,
            left_out: vec![],
        };
        let options = Options::default();
        let same = compare(&model(&[64, 1]), &model(&[64]), &options).unwrap();
        assert!(same.shapes.is_empty() && same.tensors.len() == 1);
        let turned = compare(&model(&[1, 64]), &model(&[64]), &options).unwrap();
        assert_eq!(turned.shapes.len(), 1);
    }
}
