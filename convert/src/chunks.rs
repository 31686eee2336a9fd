//! How tensors are cut into pieces of work.

use quant_core::GgmlType;

use crate::{
    job::{Form, Job},
    model::{Model, Tensor},
};

/// Elements in a chunk, unless a row is longer: its buffers stay within a core's second-level
/// cache, and it fills the lanes of every instruction set many times over.
const CHUNK: u64 = 1 << 16;

/// Elements in a chunk of values that are gathered from many places: what is read from each place
/// should be worth the call.
const GATHERED: u64 = 1 << 19;

/// Elements in which a chunk without importance can be cut: a multiple of every block length.
const BLOCKS: u64 = 256;

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
        let reordered = tensor.is_reordered();
        let unit = match job.form {
            // Whole words of zero points, which are packed along the rows.
            Form::Packed { groups, .. } => {
                u64::from(32 / groups.ty.bits()).saturating_mul(tensor.row_len())
            }
            Form::Blocks { .. } => tensor.row_len(),
            Form::Ggml(_) if job.importance.is_some() || reordered => tensor.row_len(),
            Form::Ggml(_) => BLOCKS,
        };
        // Each matrix of a stack has importance of its own: no chunk spans two.
        let section = if job.importance.is_some() { matrix_len(tensor) } else { tensor.elements() };
        let size = if reordered { GATHERED } else { CHUNK };
        let step = (size / unit.max(1)).max(1).saturating_mul(unit);
        let elements = tensor.elements();
        let (mut start, mut section_end) = (0, section);
        while start < elements {
            if start == section_end {
                section_end = section_end.saturating_add(section).min(elements);
            }
            let len = step.min(section_end - start);
            chunks.push(Chunk { job: index, start, len });
            start += len;
        }
    }
    chunks
}
