//! The error of tensors in types, measured by quantizing them.

use std::sync::Mutex;

use quant_core::formats::Rows;
use quant_weights::{Cut, Distortion, Source};

use super::free::Free;
use crate::{
    Control, Error, Progress, Result,
    model::{Model, Tensor},
    options::Running,
    workers,
};

/// The relative error of each tensor in each of its candidates; infinite where a type does not hold the
/// weights. Chunks of rows are read once, for all types, in a fixed window for each thread.
pub(super) fn measure(
    model: &Model,
    all: &[Free],
    running: &Running,
    control: Control<'_>,
) -> Result<Vec<Vec<f64>>> {
    let mut pieces = Vec::new();
    for (at, free) in all.iter().enumerate() {
        let Some(tensor) = model.tensors.get(free.index) else { continue };
        // Each matrix of a stack has importance of its own.
        let section = tensor.shape.iter().take(2).product();
        let cut = Cut { section: Some(section), ..Cut::rows(tensor) };
        pieces.extend(cut.ranges(tensor.elements()).map(|range| (at, range)));
    }
    // A sum of floats depends on its order: every piece has a place of its own.
    let sums: Mutex<Vec<Vec<Distortion>>> = Mutex::new(vec![Vec::new(); pieces.len()]);
    let done = Mutex::new(0u64);
    let read = all.iter().filter_map(|free| model.tensors.get(free.index));
    let total = read.map(Tensor::source_bytes).fold(0, u64::saturating_add);
    let state = || (model.reader(running.kernels), Vec::new(), Vec::new());
    workers::run(running.threads, pieces.len(), state, |(reader, bytes, restored), i| {
        control.check()?;
        let Some((at, range)) = pieces.get(i) else { return Ok(()) };
        let Some(free) = all.get(*at) else { return Ok(()) };
        let Some(tensor) = model.tensors.get(free.index) else { return Ok(()) };
        let size = |n: u64| usize::try_from(n).map_err(|_| quant_core::Error::TooLarge);
        reader.load_finite(tensor, range.clone())?;
        let row_len = size(tensor.row_len())?.max(1);
        let matrix = tensor.shape.iter().take(2).product::<u64>().max(1);
        let matrix = size(range.start / matrix)?;
        let weights = free.importance.as_deref();
        let importance = weights.and_then(|all| all.chunks(row_len).nth(matrix));
        let mut found = Vec::with_capacity(free.candidates.len());
        for candidate in &free.candidates {
            let mut distortion = Distortion::default();
            // Kept as it is, whatever that is.
            if candidate.ty != tensor.source_type() {
                let values = reader.loaded();
                bytes.resize(size(candidate.ty.row_bytes(values.len() as u64)?)?, 0);
                restored.resize(values.len(), 0.0);
                let rows = Rows { values, row_len, importance };
                running.search.quantize(reader.kernels(), candidate.ty, rows, bytes)?;
                reader.kernels().widen(candidate.ty, bytes, restored)?;
                distortion.add(reader.kernels(), values, restored, importance);
            }
            found.push(distortion);
        }
        if let Some(place) = sums.lock().unwrap_or_else(|e| e.into_inner()).get_mut(i) {
            *place = found;
        }
        if let Some(progress) = control.progress {
            let elements = tensor.elements().max(1);
            let share = u128::from(tensor.source_bytes()) * u128::from(range.end - range.start);
            let share = u64::try_from(share / u128::from(elements)).unwrap_or(0);
            // Told under the lock, so that it never goes back.
            let mut done = done.lock().unwrap_or_else(|e| e.into_inner());
            *done = done.saturating_add(share);
            progress(Progress { done: *done, total, tensor: &tensor.name });
        }
        Ok::<_, Error>(())
    })?;
    let mut totals: Vec<Vec<Distortion>> =
        all.iter().map(|free| vec![Distortion::default(); free.candidates.len()]).collect();
    let sums = sums.into_inner().unwrap_or_else(|e| e.into_inner());
    for ((at, _), found) in pieces.iter().zip(&sums) {
        let Some(totals) = totals.get_mut(*at) else { continue };
        totals.iter_mut().zip(found).for_each(|(total, part)| total.merge(part));
    }
    for file in &model.files {
        file.check_unchanged()?;
    }
    let finite = |error: f64| if error.is_finite() { error } else { f64::INFINITY };
    let relative = |all: &Vec<Distortion>| all.iter().map(|d| finite(d.relative())).collect();
    Ok(totals.iter().map(relative).collect())
}
