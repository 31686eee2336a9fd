//! The public products: checks, threads, experts.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::{
    MatrixError, PackedMatrix, Parallel,
    drive::{self, PANEL_FROM, Product, ROW_STEP},
    inputs::{Column, Inputs},
};
use crate::{Kernels, activation::check_finite};

/// Inputs of a product: `n` rows of a matrix's `cols` elements.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The elements: row `i` is `values[i · stride..][..cols]`.
    pub values: &'a [f32],
    /// Rows.
    pub n: usize,
    /// Elements from the start of a row to that of the next, at least `cols`.
    pub stride: usize,
}

/// Where a product goes: rows of a matrix's `rows` elements. Elements between the rows stay.
#[derive(Debug)]
pub struct Output<'a> {
    /// The elements: row `i` is `values[i · stride..][..rows]`.
    pub values: &'a mut [f32],
    /// Elements from the start of a row to that of the next, at least `rows`.
    pub stride: usize,
}

/// Threads up to which work is divided beforehand; more take pieces as they finish.
const STATIC_SPLIT: usize = 4;

impl PackedMatrix {
    /// `y[n, rows] = x[n, cols] · Wᵀ`.
    ///
    /// Activations are quantized to eight bits as for [`Kernels::dot`], but with scales in single
    /// precision; float weights meet them in single precision. The result depends on the
    /// instruction set by rounding only, and not on the number of threads.
    ///
    /// # Errors
    /// [`MatrixError::NeedsIds`] if there are several experts, [`MatrixError::Stride`] and
    /// [`MatrixError::Short`] if `x` or `y` do not hold their rows, [`MatrixError::Format`] if an
    /// activation is not finite. `y` is unchanged then.
    pub fn matmul(
        &self,
        kernels: Kernels,
        pool: &dyn Parallel,
        x: Input<'_>,
        y: Output<'_>,
    ) -> Result<(), MatrixError> {
        if self.experts != 1 {
            return Err(MatrixError::NeedsIds { experts: self.experts });
        }
        self.check(x, &y, x.n)?;
        let columns: Vec<Column> = (0..x.n).map(|i| Column { x: i, y: i }).collect();
        self.run(kernels, pool, 0, x, &columns, &shared(y));
        Ok(())
    }

    /// The product with one or more experts per input: with `used` ids per row of x,
    /// `y[i · used + k] = x[i] · W[ids[i · used + k]]ᵀ`.
    ///
    /// `ids` has `x.n · used` elements and `y` as many rows. Inputs of the same expert share the
    /// reading of its weights.
    ///
    /// # Errors
    /// As [`matmul`](Self::matmul), with any number of experts; [`MatrixError::Expert`] for an id
    /// that does not exist, [`MatrixError::Short`] if `ids` has another length.
    pub fn matmul_experts(
        &self,
        kernels: Kernels,
        pool: &dyn Parallel,
        x: Input<'_>,
        ids: &[u32],
        used: usize,
        y: Output<'_>,
    ) -> Result<(), MatrixError> {
        let expected = x.n.checked_mul(used).ok_or(MatrixError::TooLarge)?;
        if ids.len() != expected {
            return Err(MatrixError::Short { what: "ids", found: ids.len(), expected });
        }
        self.check(x, &y, ids.len())?;
        let mut by_expert: Vec<(usize, Column)> = Vec::with_capacity(ids.len());
        for (index, &expert) in ids.iter().enumerate() {
            match usize::try_from(expert) {
                Ok(e) if e < self.experts => {
                    by_expert.push((e, Column { x: index / used, y: index }));
                }
                _ => return Err(MatrixError::Expert { index, expert, experts: self.experts }),
            }
        }
        by_expert.sort_by_key(|(expert, _)| *expert);
        let y = shared(y);
        for same in by_expert.chunk_by(|a, b| a.0 == b.0) {
            let columns: Vec<Column> = same.iter().map(|(_, column)| *column).collect();
            self.run(kernels, pool, same[0].0, x, &columns, &y);
        }
        Ok(())
    }

    fn check(&self, x: Input<'_>, y: &Output<'_>, outputs: usize) -> Result<(), MatrixError> {
        check_rows("x", x.values.len(), x.n, x.stride, self.cols)?;
        check_rows("y", y.values.len(), outputs, y.stride, self.rows)?;
        for i in 0..x.n {
            check_finite("the activations", &x.values[i * x.stride..][..self.cols])?;
        }
        Ok(())
    }

    /// The product of one expert with some columns; everything has been checked.
    fn run(
        &self,
        kernels: Kernels,
        pool: &dyn Parallel,
        expert: usize,
        x: Input<'_>,
        columns: &[Column],
        y: &drive::Output<'_>,
    ) {
        if columns.is_empty() || self.rows == 0 {
            return;
        }
        let table = &kernels.0.matrix;
        let many = columns.len() >= PANEL_FROM;
        let layout = (table.layout)(self.format);
        let widths =
            if many || layout.scaling.is_none() { table.panel_widths } else { table.direct_widths };
        let mut inputs = Inputs::new(layout, self.cols, columns.len(), widths);
        (table.fill)(&mut inputs, x.values, x.stride, columns);
        let job = Product {
            weights: self.expert(expert),
            rows: self.rows,
            cols: self.cols,
            inputs: &inputs,
            columns,
            y: *y,
        };
        let rows = |from: usize, to: usize| from * ROW_STEP..self.rows.min(to * ROW_STEP);
        let steps = self.rows.div_ceil(ROW_STEP);
        let threads = pool.threads().max(1);
        if threads <= STATIC_SPLIT {
            pool.run(&|thread| {
                let part = |thread: usize| (steps * thread.min(threads)) / threads;
                let rows = rows(part(thread), part(thread + 1));
                (table.multiply)(self.format, many, &job, rows);
            });
        } else {
            // Pieces small enough that the last ones end together.
            let piece = steps.div_ceil(threads * 8).max(1);
            let next = AtomicUsize::new(0);
            pool.run(&|_| {
                loop {
                    let first = next.fetch_add(piece, Ordering::Relaxed);
                    if first >= steps {
                        return;
                    }
                    let rows = rows(first, steps.min(first + piece));
                    (table.multiply)(self.format, many, &job, rows);
                }
            });
        }
    }
}

/// The output as workers share it.
fn shared(y: Output<'_>) -> drive::Output<'_> {
    let values: *mut [f32] = y.values;
    // SAFETY: `AtomicU32` has the size and alignment of f32, and any bits are valid for both; the
    // exclusive borrow that ends here lasts as long as the result, so that nothing else sees the
    // memory meanwhile.
    let values = unsafe { &*(values as *const [AtomicU32]) };
    drive::Output { values, stride: y.stride }
}

fn check_rows(
    what: &'static str,
    found: usize,
    rows: usize,
    stride: usize,
    len: usize,
) -> Result<(), MatrixError> {
    if rows == 0 {
        return Ok(());
    }
    if stride < len {
        return Err(MatrixError::Stride { what, found: stride, expected: len });
    }
    let expected = (rows - 1)
        .checked_mul(stride)
        .and_then(|n| n.checked_add(len))
        .ok_or(MatrixError::TooLarge)?;
    if found < expected {
        return Err(MatrixError::Short { what, found, expected });
    }
    Ok(())
}
