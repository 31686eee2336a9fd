//! Weights and products with them.

use quant_core::GgmlType;
use quant_kernels::{Input, MatrixError, Output, PackedMatrix};

use super::{
    runner::{Runner, Stored},
    split,
};
use crate::{Error, Result};

/// Rows that are restored at a time where a type has no products of its own.
const RESTORED_ROWS: usize = 128;

/// A matrix, or one for each expert.
pub(crate) struct Matrix {
    /// Its name, with the suffix.
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) experts: usize,
    pub(crate) weights: Stored,
    /// What is added to the rows, of each expert.
    pub(crate) bias: Option<Vec<f32>>,
    /// What products are multiplied by: one, or one for each expert.
    pub(crate) scale: Option<Vec<f32>>,
}

impl Matrix {
    pub(crate) fn bytes(&self) -> u64 {
        match &self.weights {
            Stored::Packed(parts) => parts.iter().map(|part| part.packed_bytes() as u64).sum(),
            Stored::Plain(_, bytes) => bytes.len() as u64,
            Stored::Unread(bytes) => *bytes,
        }
    }

    /// `y[n, rows] = x[n, columns] · Wᵀ`, with scale and bias.
    pub(crate) fn multiply(
        &self,
        runner: Runner<'_>,
        x: &[f32],
        n: usize,
        y: &mut [f32],
    ) -> Result<()> {
        self.product(runner, x, n, y).map_err(|source| self.error(source))?;
        let scale = match self.scale.as_deref() {
            Some(&[scale]) => scale,
            _ => 1.0,
        };
        if scale == 1.0 && self.bias.is_none() {
            return Ok(());
        }
        split::rows(runner.threads, y, self.rows, &|_, rows| {
            for row in rows.chunks_exact_mut(self.rows) {
                row.iter_mut().for_each(|v| *v *= scale);
                if let Some(bias) = &self.bias {
                    row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
                }
            }
        });
        Ok(())
    }

    /// The same as a new vector.
    pub(crate) fn times(&self, runner: Runner<'_>, x: &[f32], n: usize) -> Result<Vec<f32>> {
        let mut y = vec![0.0; n * self.rows];
        self.multiply(runner, x, n, &mut y)?;
        Ok(y)
    }

    /// `y[i · used + k] = x[i] · W[ids[i · used + k]]ᵀ`, with scales and biases.
    pub(crate) fn times_experts(
        &self,
        runner: Runner<'_>,
        x: &[f32],
        ids: &[u32],
        used: usize,
    ) -> Result<Vec<f32>> {
        let mut y = vec![0.0; ids.len() * self.rows];
        self.product_experts(runner, x, ids, used, &mut y).map_err(|source| self.error(source))?;
        if self.scale.is_none() && self.bias.is_none() {
            return Ok(y);
        }
        split::rows(runner.threads, &mut y, self.rows, &|first, rows| {
            for (row, &id) in rows.chunks_exact_mut(self.rows).zip(ids.iter().skip(first)) {
                if let Some(scale) = self.scale.as_ref().and_then(|all| all.get(id as usize)) {
                    row.iter_mut().for_each(|v| *v *= scale);
                }
                let of_expert = id as usize * self.rows..(id as usize + 1) * self.rows;
                if let Some(bias) = self.bias.as_ref().and_then(|all| all.get(of_expert)) {
                    row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
                }
            }
        });
        Ok(y)
    }

    /// The weights, unless others take their place.
    fn weights<'w>(&'w self, runner: Runner<'w>) -> &'w Stored {
        let replaced = runner.replaced.and_then(|replaced| replaced.matrices.get(&self.name));
        replaced.unwrap_or(&self.weights)
    }

    fn error(&self, source: MatrixError) -> Error {
        Error::Product { tensor: self.name.clone(), source }
    }

    fn product(
        &self,
        runner: Runner<'_>,
        x: &[f32],
        n: usize,
        y: &mut [f32],
    ) -> Result<(), MatrixError> {
        let input = Input { values: x, n, stride: self.columns };
        match self.weights(runner) {
            Stored::Packed(parts) => {
                let mut first = 0;
                for part in parts {
                    let values = y.get_mut(first..).unwrap_or_default();
                    let output = Output { values, stride: self.rows };
                    part.matmul(runner.kernels, runner.threads, input, output)?;
                    first += part.rows();
                }
                Ok(())
            }
            Stored::Plain(ty, bytes) => self.restored(runner, *ty, bytes, input, y),
            // A session runs no model of which layers are unread.
            Stored::Unread(_) => Ok(()),
        }
    }

    /// A product with rows that are restored for it.
    fn restored(
        &self,
        runner: Runner<'_>,
        ty: GgmlType,
        bytes: &[u8],
        input: Input<'_>,
        y: &mut [f32],
    ) -> Result<(), MatrixError> {
        let row_bytes = ty.row_bytes(self.columns as u64)? as usize;
        let mut values = vec![0.0; RESTORED_ROWS.min(self.rows) * self.columns];
        for (i, rows) in bytes.chunks(RESTORED_ROWS * row_bytes).enumerate() {
            let count = rows.len() / row_bytes;
            let values = values.get_mut(..count * self.columns).unwrap_or_default();
            runner.kernels.dequantize_into(ty, rows, values)?;
            let bytes = bytemuck::cast_slice(values);
            let packed =
                PackedMatrix::pack_with(runner.threads, GgmlType::F32, count, self.columns, bytes)?;
            let values = y.get_mut(i * RESTORED_ROWS..).unwrap_or_default();
            let output = Output { values, stride: self.rows };
            packed.matmul(runner.kernels, runner.threads, input, output)?;
        }
        Ok(())
    }

    fn product_experts(
        &self,
        runner: Runner<'_>,
        x: &[f32],
        ids: &[u32],
        used: usize,
        y: &mut [f32],
    ) -> Result<(), MatrixError> {
        let n = ids.len() / used.max(1);
        let input = Input { values: x, n, stride: self.columns };
        match self.weights(runner) {
            Stored::Packed(parts) => {
                let Some(part) = parts.first() else { return Ok(()) };
                let output = Output { values: y, stride: self.rows };
                part.matmul_experts(runner.kernels, runner.threads, input, ids, used, output)
            }
            Stored::Unread(_) => Ok(()),
            Stored::Plain(ty, bytes) => {
                let of_expert = bytes.len() / self.experts.max(1);
                for (expert, weights) in bytes.chunks(of_expert.max(1)).enumerate() {
                    let chosen: Vec<_> =
                        (0..ids.len()).filter(|i| ids.get(*i) == Some(&(expert as u32))).collect();
                    if chosen.is_empty() {
                        continue;
                    }
                    let row = |i: &usize| x.chunks_exact(self.columns).nth(i / used);
                    let inputs: Vec<f32> =
                        chosen.iter().filter_map(row).flatten().copied().collect();
                    let input = Input { values: &inputs, n: chosen.len(), stride: self.columns };
                    let mut out = vec![0.0; chosen.len() * self.rows];
                    self.restored(runner, *ty, weights, input, &mut out)?;
                    for (i, result) in chosen.iter().zip(out.chunks_exact(self.rows)) {
                        if let Some(to) = y.chunks_exact_mut(self.rows).nth(*i) {
                            to.copy_from_slice(result);
                        }
                    }
                }
                Ok(())
            }
        }
    }
}
