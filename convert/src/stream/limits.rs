//! Whether the output holds what it was made of.

use std::ops::Range;

use quant_core::{GgmlType, can_dequantize};
use quant_weights::finite::{LARGEST_HALF, Stored};

use super::Worker;
use crate::{
    Error, Result,
    chunks::Chunk,
    job::{Form, Job},
    model::Tensor,
};

/// More than any block with a half-precision scale holds: of all types Q6_K multiplies it with the
/// largest codes.
const MOST_OF_BLOCKS: f32 = LARGEST_HALF * 128.0 * 32.0;

impl Worker<'_> {
    /// Refuses importance with which the sums of quantizers would overflow.
    pub(super) fn check_sums(
        &self,
        job: &Job,
        chunk: &Chunk,
        importance: Option<&[f32]>,
        magnitude: f32,
    ) -> Result<()> {
        let most = importance.map(|row| row.iter().fold(0.0, |most: f32, v| most.max(*v)));
        if !most.is_some_and(|most| sums_overflow(most, magnitude)) {
            return Ok(());
        }
        let ty = match job.form {
            Form::Ggml(ty) | Form::Blocks { ty, .. } => ty,
            Form::Packed { .. } => GgmlType::F16,
        };
        let tensor = &self.model.tensors[job.tensor];
        Err(self.overflow(tensor, ty, chunk, 0..self.reader.loaded().len(), most))
    }

    /// Refuses output that is not finite, as llama-quantize does when it validates rows, and weights
    /// beyond what blocks hold, whose scales need not be infinite but mean nothing. Returns whether
    /// there may be blocks, or floats, all of which are zero though their weights are not.
    pub(super) fn check_finite(
        &self,
        tensor: &Tensor,
        ty: GgmlType,
        chunk: &Chunk,
        magnitude: f32,
    ) -> Result<bool> {
        let all = || 0..self.reader.loaded().len();
        let stored = Stored::from(ty);
        if let Stored::Blocks(..) = stored {
            let scales = stored.scales(&self.bytes);
            if !scales.finite {
                let (block, _) = stored.find(&self.bytes).unwrap_or_default();
                let start =
                    usize::try_from(block).unwrap_or_default().saturating_mul(ty.block_len());
                let end = start.saturating_add(ty.block_len());
                return Err(self.overflow(tensor, ty, chunk, start..end, None));
            }
            if magnitude > MOST_OF_BLOCKS && stored.is_scaled_by_halves() {
                return Err(self.overflow(tensor, ty, chunk, all(), None));
            }
            return Ok(scales.zero);
        }
        let (least, too_large) = match ty {
            // Halfway to the least number, and to the one after the largest: ties go to the even
            // zero and to infinity.
            GgmlType::F16 => (2f32.powi(-25), 65520.0),
            GgmlType::BF16 => (f32::from_bits(0x8000), f32::from_bits(0x7f7f_8000)),
            _ => return Ok(false),
        };
        if magnitude >= too_large {
            return Err(self.overflow(tensor, ty, chunk, all(), None));
        }
        Ok(magnitude > 0.0 && magnitude <= least)
    }

    /// The error that refuses some values of a chunk, with the largest of them.
    pub(super) fn overflow(
        &self,
        tensor: &Tensor,
        ty: GgmlType,
        chunk: &Chunk,
        within: Range<usize>,
        importance: Option<f32>,
    ) -> Error {
        let (index, magnitude) = self.reader.largest(within);
        let index = chunk.start.saturating_add(index);
        Error::Overflow { tensor: tensor.name.clone(), ty, magnitude, index, importance }
    }

    /// What is carried over is as finite as what is converted.
    pub(super) fn check_copied(&mut self, tensor: &Tensor, chunk: &Chunk) -> Result<()> {
        let source = tensor.source_type();
        let Some((first, count)) = Stored::from(source).find(&self.bytes) else { return Ok(()) };
        if can_dequantize(source) {
            // Finds the very values.
            self.reader.load_finite(tensor, chunk.range())?;
        }
        let len = source.block_len() as u64;
        Err(Error::NonFinite {
            tensor: tensor.name.clone(),
            index: chunk.start.saturating_add(first.saturating_mul(len)),
            value: f32::NAN,
            count: count.saturating_mul(len),
        })
    }
}

/// Whether single precision may not hold what quantizers sum up of a block: products of importance,
/// the weight and the square of the weight or of its code, of which 256 are less than this.
fn sums_overflow(importance: f32, magnitude: f32) -> bool {
    let (importance, magnitude) = (f64::from(importance), f64::from(magnitude));
    let square = (magnitude * magnitude).max(128.0 * 128.0);
    256.0 * 1.5 * importance * magnitude * square >= f64::from(f32::MAX)
}
