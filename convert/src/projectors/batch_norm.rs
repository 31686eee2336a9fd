//! Batch norms, which GGUF has as what they come to when a model only runs: a factor and a summand.

use std::collections::HashMap;

use gguf_io::SourceFile;
use quant_kernels::Kernels;
use quant_weights::TensorReader;

use crate::{
    Result,
    model::{Tensor, TensorData},
};

/// What is added to variances; no config.json has it.
const EPSILON: f32 = 1e-5;

/// Ends of the names that rules give to what a batch norm counted in training.
const MEAN: &str = ".running_mean";
/// As [`MEAN`], of the variances.
const VARIANCE: &str = ".running_var";

/// Puts means and variances into the weights and biases of the same names, and takes them away.
///
/// Returns the names of the biases, each with that of its weight: the reference converter writes them
/// one after the other.
///
/// # Errors
/// If values cannot be read.
pub(super) fn fold(
    files: &[SourceFile],
    tensors: &mut Vec<Tensor>,
) -> Result<HashMap<String, String>> {
    let by_name: HashMap<&str, &Tensor> =
        tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut reader = TensorReader::new(files, Kernels::default());
    let (mut folded, mut pairs) = (HashMap::new(), HashMap::new());
    for name in tensors.iter().filter_map(|tensor| tensor.name.strip_suffix(VARIANCE)) {
        let mut values = |end: &str| match by_name.get(format!("{name}{end}").as_str()) {
            Some(tensor) => {
                reader.values(tensor, 0..tensor.elements()).map(|values| Some(values.to_vec()))
            }
            None => Ok(None),
        };
        let all = (values(VARIANCE)?, values(MEAN)?, values(".weight")?, values(".bias")?);
        let (Some(variances), Some(means), Some(weights), Some(biases)) = all else { continue };
        let scaled = weights.iter().zip(&variances);
        let factors: Vec<f32> =
            scaled.map(|(weight, variance)| weight / (variance + EPSILON).sqrt()).collect();
        let rest = biases.iter().zip(&means).zip(&factors);
        let summands: Vec<f32> = rest.map(|((bias, mean), factor)| bias - mean * factor).collect();
        folded.insert(format!("{name}.weight"), factors);
        folded.insert(format!("{name}.bias"), summands);
        pairs.insert(format!("{name}.bias"), format!("{name}.weight"));
    }
    tensors.retain(|tensor| !(tensor.name.ends_with(VARIANCE) || tensor.name.ends_with(MEAN)));
    for tensor in tensors {
        if let Some(values) = folded.remove(&tensor.name) {
            tensor.data = TensorData::Computed(values);
        }
    }
    Ok(pairs)
}
