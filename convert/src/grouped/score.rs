//! How sensitive layers are to being quantized.

use std::sync::Mutex;

use quant_core::{
    GgmlType,
    grouped::{Grouped, GroupedType, Job, dequantize},
};

use quant_weights::{Cut, Source};

use crate::{Control, Result, model::Model, options::Running, workers};

/// What a layer's sensitivity is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sensitivity {
    /// By the weights alone: the error of INT8_ASYM per channel, as NNCF's data-free metric.
    #[default]
    Weights,
    /// The squared error of INT8_ASYM per channel, weighed by the mean square of each input: the
    /// error that reaches the layer's output.
    Hessian,
    /// The error of [`Weights`](Self::Weights) times the mean square of the inputs.
    Activations,
}

impl Sensitivity {
    /// Names on the command line.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("weights", Self::Weights),
        ("hessian", Self::Hessian),
        ("activations", Self::Activations),
    ];
}

/// A layer to be judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer<'a> {
    /// Index into the model's tensors.
    pub(crate) tensor: usize,
    /// Mean squares of the inputs, a row for each matrix.
    pub(crate) squares: Option<&'a [f32]>,
}

/// Values that one thread works on at a time.
const STEP: u64 = 1 << 18;

/// Scores in the order of the layers. Reads all of their weights.
pub(crate) fn scores(
    model: &Model,
    layers: &[Layer<'_>],
    sensitivity: Sensitivity,
    running: &Running,
    control: Control<'_>,
) -> Result<Vec<f64>> {
    let mut pieces = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let tensor = &model.tensors[layer.tensor];
        let rows = Cut { size: STEP, ..Cut::rows(tensor) };
        pieces.extend(rows.ranges(tensor.elements()).map(|range| (index, range)));
    }
    model.will_read(layers.iter().map(|layer| &model.tensors[layer.tensor]));
    // The parts are put together in their order, whatever the number of threads.
    let parts: Mutex<Vec<Part>> = Mutex::new(vec![Part::default(); pieces.len()]);
    let kernels = running.kernels;
    let state = || (model.reader(kernels), Grouped::default(), Vec::new());
    workers::run(running.threads, pieces.len(), state, |(reader, groups, restored), index| {
        control.check()?;
        let Some((layer, range)) = pieces.get(index) else { return Ok(()) };
        let layer = layers[*layer];
        let tensor = &model.tensors[layer.tensor];
        reader.load_finite(tensor, range.clone())?;
        let row_len = usize::try_from(tensor.row_len()).unwrap_or(usize::MAX);
        let values = reader.loaded();
        groups.resize(values.len(), row_len);
        restored.resize(values.len(), 0.0);
        let ty = GroupedType::Int8Asym;
        let job = Job { ty, values, group_len: row_len, refinement: None };
        kernels.quantize_groups(job, groups.view_mut())?;
        dequantize(groups.view(), row_len, restored)?;
        let rows_per_matrix = tensor.shape.get(1).copied().unwrap_or(1).max(1);
        let mut part = Part::default();
        for (row, (values, restored)) in
            values.chunks_exact(row_len).zip(restored.chunks_exact(row_len)).enumerate()
        {
            let row = range.start / tensor.row_len().max(1) + row as u64;
            let matrix = usize::try_from(row / rows_per_matrix).unwrap_or(usize::MAX);
            let squares = layer.squares.and_then(|s| s.chunks_exact(row_len).nth(matrix));
            part.add_row(values, restored, squares);
        }
        if let Some(place) = parts.lock().unwrap_or_else(|e| e.into_inner()).get_mut(index) {
            *place = part;
        }
        Ok(())
    })?;
    let parts = parts.into_inner().unwrap_or_else(|e| e.into_inner());
    let mut sums = vec![Part::default(); layers.len()];
    for ((layer, ..), part) in pieces.iter().zip(&parts) {
        sums[*layer].merge(part);
    }
    Ok(layers
        .iter()
        .zip(&sums)
        .map(|(layer, sum)| {
            let tensor = &model.tensors[layer.tensor];
            let error = 1.0 / (sum.largest_mean + epsilon(tensor.source_type()));
            let squares = layer.squares.unwrap_or_default();
            let mean = squares.iter().map(|s| f64::from(*s)).sum::<f64>() / squares.len() as f64;
            match sensitivity {
                _ if squares.is_empty() => error,
                Sensitivity::Weights => error,
                Sensitivity::Hessian => sum.weighted,
                Sensitivity::Activations => sum.largest_mean * mean,
            }
        })
        .collect())
}

/// What is known of some rows.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// The largest mean squared error of a row.
    largest_mean: f64,
    /// Squared errors, each weighed by the mean square of its input.
    weighted: f64,
}

impl Part {
    fn add_row(&mut self, values: &[f32], restored: &[f32], squares: Option<&[f32]>) {
        let error = |(v, r): (&f32, &f32)| f64::from(r - v) * f64::from(r - v);
        let pairs = values.iter().zip(restored);
        let mean = pairs.clone().map(error).sum::<f64>() / values.len() as f64;
        self.largest_mean = self.largest_mean.max(mean);
        if let Some(squares) = squares {
            let weighted = pairs.map(error).zip(squares).map(|(e, s)| e * f64::from(*s));
            self.weighted += weighted.sum::<f64>();
        }
    }

    fn merge(&mut self, other: &Self) {
        self.largest_mean = self.largest_mean.max(other.largest_mean);
        self.weighted += other.weighted;
    }
}

/// The distance from 1 to the next number of a type.
fn epsilon(ty: GgmlType) -> f64 {
    match ty {
        GgmlType::F16 => f64::from(half::f16::EPSILON.to_f32()),
        GgmlType::BF16 => f64::from(half::bf16::EPSILON.to_f32()),
        _ => f64::from(f32::EPSILON),
    }
}
