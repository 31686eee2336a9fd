//! How tensors are cut into pieces of work.

use std::ops::Range;

use quant_core::GgmlType;
use quant_weights::Cut;

use crate::{
    job::{Form, Job},
    model::{Model, Tensor},
};

/// A range of a tensor's elements: whole blocks, and whole rows where rows matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Indices of the jobs that are done with it: neighbours of one tensor, which is read once.
    pub(crate) jobs: Range<usize>,
    /// First element.
    pub(crate) start: u64,
    /// Number of elements.
    pub(crate) len: u64,
}

impl Chunk {
    /// The elements.
    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.len)
    }

    /// Where the chunk's bytes begin in the tensor's, in the type it is written in.
    pub(crate) fn offset(&self, ty: GgmlType) -> u64 {
        self.start / ty.block_len() as u64 * ty.block_bytes() as u64
    }

    /// Which of the tensor's matrices the chunk is in.
    pub(crate) fn matrix(&self, tensor: &Tensor) -> usize {
        let matrix = matrix_len(tensor).max(1);
        usize::try_from(self.start / matrix).unwrap_or(usize::MAX)
    }
}

fn matrix_len(tensor: &Tensor) -> u64 {
    tensor.shape.iter().take(2).product()
}

/// All chunks of some jobs, tensor by tensor. Jobs of a tensor that follow each other share its chunks.
pub(crate) fn chunks(model: &Model, jobs: &[&Job]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut first = 0usize;
    for same in jobs.chunk_by(|a, b| a.tensor == b.tensor) {
        let end = first.saturating_add(same.len());
        let Some(tensor) = same.first().and_then(|job| model.tensors.get(job.tensor)) else {
            continue;
        };
        // Each matrix of a stack has importance of its own: no chunk spans two.
        let weighted = same.iter().any(|job| job.importance.is_some());
        let section = weighted.then(|| matrix_len(tensor));
        // Whole rows are whole blocks of every type that the tensor may get.
        let rows = same.iter().filter_map(|job| rows(job)).max();
        let cut = rows.map_or(Cut::blocks(tensor), |rows| Cut {
            unit: rows.saturating_mul(tensor.row_len()),
            ..Cut::rows(tensor)
        });
        let ranges = Cut { section, ..cut }.ranges(tensor.elements());
        chunks.extend(ranges.map(|range| Chunk {
            jobs: first..end,
            start: range.start,
            len: range.end - range.start,
        }));
        first = end;
    }
    chunks
}

/// How many rows have to stay together, if any do.
fn rows(job: &Job) -> Option<u64> {
    match job.form {
        // Whole words of zero points, which are packed along the rows.
        Form::Packed { groups, .. } => Some(u64::from(32 / groups.ty.bits())),
        Form::Blocks { .. } => Some(1),
        Form::Ggml(_) => job.importance.is_some().then_some(1),
    }
}
