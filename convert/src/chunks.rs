//! How tensors are cut into pieces of work.

use quant_core::GgmlType;
use quant_weights::Cut;

use crate::{
    job::{Form, Job},
    model::{Model, Tensor},
};

/// A range of a tensor's elements: whole blocks, and whole rows where rows matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Index into the jobs.
    pub(crate) job: usize,
    /// First element.
    pub(crate) start: u64,
    /// Number of elements.
    pub(crate) len: u64,
}

impl Chunk {
    /// The elements.
    pub(crate) fn range(&self) -> std::ops::Range<u64> {
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

/// All chunks of some jobs, tensor by tensor.
pub(crate) fn chunks(model: &Model, jobs: &[&Job]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let tensor = &model.tensors[job.tensor];
        let rows = Cut::rows(tensor);
        let cut = match job.form {
            // Whole words of zero points, which are packed along the rows.
            Form::Packed { groups, .. } => {
                let unit = u64::from(32 / groups.ty.bits()).saturating_mul(rows.unit);
                Cut { unit, ..rows }
            }
            Form::Blocks { .. } => rows,
            Form::Ggml(_) if job.importance.is_some() => rows,
            Form::Ggml(_) => Cut::blocks(tensor),
        };
        // Each matrix of a stack has importance of its own: no chunk spans two.
        let section = job.importance.is_some().then(|| matrix_len(tensor));
        let ranges = Cut { section, ..cut }.ranges(tensor.elements());
        chunks.extend(ranges.map(|range| Chunk {
            job: index,
            start: range.start,
            len: range.end - range.start,
        }));
    }
    chunks
}
