//! The public products: checks, threads, experts.

use std::{
    cell::Cell,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};

use quant_core::{Error, GgmlType};

use super::{
    MatrixError, PackedMatrix, Parallel,
    drive::{self, FLOAT_ROW_STEP, Product, ROW_STEP},
    format::{FEW, Format},
    inputs::{Column, Inputs},
    pool::{for_each, whole},
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

/// Buffers larger than this are not kept for the next product, in bytes.
const KEPT: usize = 8 << 20;

/// What a product needs while it runs, kept by its thread for the next: the time between two
/// products of a decoder goes to weights, not to the allocator.
#[derive(Default)]
struct Scratch {
    /// The expert of every column.
    columns: Vec<(usize, Column)>,
    /// Columns of the parts, one after the other.
    sorted: Vec<Column>,
    parts: Vec<Part>,
    /// As many as the most parts so far.
    inputs: Vec<Inputs>,
}

/// The columns that meet one matrix.
struct Part {
    expert: usize,
    columns: Range<usize>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl Scratch {
    /// Calls `work` with this thread's scratch.
    fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        // A product within this one finds an empty scratch.
        let mut scratch = SCRATCH.take();
        let result = work(&mut scratch);
        if scratch.inputs.iter().map(Inputs::capacity).sum::<usize>() <= KEPT {
            SCRATCH.set(scratch);
        }
        result
    }
}

/// Activations that several threads check and quantize: fewer take less time than waking a thread.
const LARGE: usize = 1 << 14;

/// Threads up to which work is divided beforehand; more take pieces as they finish.
const STATIC_SPLIT: usize = 4;

impl PackedMatrix {
    /// `y[n, rows] = x[n, cols] · Wᵀ`.
    ///
    /// Activations are quantized to eight bits as for [`Kernels::dot`], but with scales in single
    /// precision; to meet grouped integers as to meet `Q8_0`, with a scale per group; float weights meet them in single precision. The result depends on the
    /// instruction set by rounding only, and not on the number of threads.
    ///
    /// # Errors
    /// [`MatrixError::NeedsIds`] if there are several experts, [`MatrixError::Stride`] and
    /// [`MatrixError::Short`] if `x` or `y` do not hold their rows, [`MatrixError::Format`] if an
    /// activation is not finite; `y` is unchanged then. [`MatrixError::Parts`] if `pool` does not run
    /// the whole product.
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
        self.check(kernels, pool, x, &y, x.n)?;
        Scratch::with(|scratch| {
            scratch.columns.clear();
            scratch.columns.extend((0..x.n).map(|i| (0, Column { x: i, y: i })));
            self.run(kernels, pool, x, scratch, shared(y))
        })
    }

    /// As [`matmul`](Self::matmul), with rows that follow each other without gaps: `x` has as many as it
    /// holds of `cols` elements, `y` gets as many of `rows`.
    ///
    /// # Errors
    /// As [`matmul`](Self::matmul); [`MatrixError::Ragged`] if `x` is not whole rows,
    /// [`MatrixError::Short`] if `y` does not have the length of the result.
    pub fn matmul_into(
        &self,
        kernels: Kernels,
        pool: &dyn Parallel,
        x: &[f32],
        y: &mut [f32],
    ) -> Result<(), MatrixError> {
        let n = self.whole_rows(x.len())?;
        let expected = n.checked_mul(self.rows).ok_or(MatrixError::TooLarge)?;
        if y.len() != expected {
            return Err(MatrixError::Short { what: "y", found: y.len(), expected });
        }
        let x = Input { values: x, n, stride: self.cols };
        self.matmul(kernels, pool, x, Output { values: y, stride: self.rows })
    }

    /// As [`matmul_into`](Self::matmul_into), with activations that are stored as F16 or BF16 (or F32),
    /// little-endian. They are widened first: the result is that of the same values in single precision.
    ///
    /// # Errors
    /// As [`matmul_into`](Self::matmul_into); [`MatrixError::Format`] for another type, or bytes that are
    /// not whole elements.
    pub fn matmul_stored(
        &self,
        kernels: Kernels,
        pool: &dyn Parallel,
        ty: GgmlType,
        x: &[u8],
        y: &mut [f32],
    ) -> Result<(), MatrixError> {
        if !matches!(ty, GgmlType::F16 | GgmlType::BF16 | GgmlType::F32) {
            return Err(Error::Unsupported { ty, operation: "used as activations" }.into());
        }
        let elements = x.len() / ty.block_bytes();
        self.whole_rows(elements)?;
        let mut values = vec![0.0; elements];
        kernels.widen(ty, x, &mut values)?;
        self.matmul_into(kernels, pool, &values, y)
    }

    /// How many rows so many elements are. Rows without elements are none.
    fn whole_rows(&self, elements: usize) -> Result<usize, MatrixError> {
        let n = elements.checked_div(self.cols).unwrap_or(0);
        if n * self.cols != elements {
            return Err(MatrixError::Ragged { found: elements, cols: self.cols });
        }
        Ok(n)
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
        self.check(kernels, pool, x, &y, ids.len())?;
        if let Some((index, &expert)) = ids
            .iter()
            .enumerate()
            .find(|(_, id)| !usize::try_from(**id).is_ok_and(|e| e < self.experts))
        {
            return Err(MatrixError::Expert { index, expert, experts: self.experts });
        }
        Scratch::with(|scratch| {
            scratch.columns.clear();
            scratch.columns.extend(
                ids.iter().enumerate().map(|(y, &id)| (id as usize, Column { x: y / used, y })),
            );
            scratch.columns.sort_unstable_by_key(|(expert, column)| (*expert, column.y));
            self.run(kernels, pool, x, scratch, shared(y))
        })
    }

    fn check(
        &self,
        kernels: Kernels,
        pool: &dyn Parallel,
        x: Input<'_>,
        y: &Output<'_>,
        outputs: usize,
    ) -> Result<(), MatrixError> {
        check_rows("x", x.values.len(), x.n, x.stride, self.cols)?;
        check_rows("y", y.values.len(), outputs, y.stride, self.rows)?;
        let row = |i: usize| &x.values[i * x.stride..][..self.cols];
        let is_finite = |i: usize| kernels.magnitude(row(i)).is_finite();
        let threads = pool.threads().max(1);
        if threads > 1 && x.n * self.cols >= LARGE {
            let all = AtomicBool::new(true);
            let size = x.n.div_ceil(4 * threads);
            let parts = (0..x.n).step_by(size).map(|first| first..x.n.min(first + size));
            for_each(pool, parts, &|mut rows| {
                if !rows.all(is_finite) {
                    all.store(false, Ordering::Relaxed);
                }
            })?;
            if all.into_inner() {
                return Ok(());
            }
        }
        for i in 0..x.n {
            if !is_finite(i) {
                check_finite("x", i * x.stride, row(i))?;
            }
        }
        Ok(())
    }

    /// Whether so many columns meet unpacked weights.
    fn by_panels(&self, columns: usize) -> bool {
        columns > self.format.most_direct()
    }

    /// The product of the columns in the scratch, in the order of their experts; everything has
    /// been checked.
    fn run(
        &self,
        kernels: Kernels,
        pool: &dyn Parallel,
        x: Input<'_>,
        scratch: &mut Scratch,
        y: drive::Output<'_>,
    ) -> Result<(), MatrixError> {
        if scratch.columns.is_empty() || self.rows == 0 {
            return Ok(());
        }
        let table = &kernels.0.matrix;
        let floats = (table.layout)(self.format, false).scaling.is_none();
        let Scratch { columns, sorted, parts, inputs } = scratch;
        sorted.clear();
        parts.clear();
        for same in columns.chunk_by(|a, b| a.0 == b.0) {
            let start = sorted.len();
            sorted.extend(same.iter().map(|(_, column)| *column));
            parts.push(Part { expert: same[0].0, columns: start..sorted.len() });
        }
        if inputs.len() < parts.len() {
            inputs.resize_with(parts.len(), Inputs::default);
        }
        for (part, inputs) in parts.iter().zip(inputs.iter_mut()) {
            let columns = &sorted[part.columns.clone()];
            let by_panels = self.by_panels(columns.len());
            let layout = (table.layout)(self.format, by_panels);
            let widths = match layout.scaling {
                None if columns.len() > FEW => table.float_widths,
                _ if by_panels => table.widths,
                // Rows meet one column at a time.
                Some(_) if self.format.has_integers() => &[1],
                Some(_) => table.few_widths,
                None => &[1],
            };
            inputs.prepare(layout, self.cols, columns.len(), widths);
            // Parts small enough that the last ones end together.
            let threads = pool.threads().max(1);
            let by_thread = threads > 1 && columns.len() * self.cols >= LARGE;
            let size = if by_thread { columns.len().div_ceil(4 * threads) } else { columns.len() };
            let fill = |mut part| (table.fill)(&mut part, x.values, x.stride, columns);
            if by_thread {
                for_each(pool, inputs.parts(size), &fill)?;
            } else {
                inputs.parts(size).for_each(fill);
            }
        }
        let (sorted, parts, inputs) = (&sorted[..], &parts[..], &inputs[..]);

        // The work is the steps of all parts, one after the other.
        let step = if floats { FLOAT_ROW_STEP } else { ROW_STEP };
        let per_part = self.rows.div_ceil(step);
        let steps = per_part * parts.len();
        let work = |mut range: Range<usize>| {
            while !range.is_empty() {
                let part = range.start / per_part;
                let start = part * per_part;
                let end = range.end.min(start + per_part);
                let columns = &sorted[parts[part].columns.clone()];
                let job = Product {
                    weights: self.expert(parts[part].expert),
                    rows: self.rows,
                    cols: self.cols,
                    bfloat16: matches!(self.format, Format::Int4(layout) if layout.bfloat16),
                    inputs: &inputs[part],
                    columns,
                    y,
                };
                let rows = (range.start - start) * step..self.rows.min((end - start) * step);
                (table.multiply)(self.format, self.by_panels(columns.len()), &job, rows);
                range.start = end;
            }
        };
        let threads = pool.threads().max(1);
        // Whoever brings threads may run too few parts: a product with holes is no result.
        if threads <= STATIC_SPLIT {
            let start = |thread: usize| steps * thread / threads;
            let done = AtomicUsize::new(0);
            pool.run(&|thread| {
                if thread < threads {
                    work(start(thread)..start(thread + 1));
                    done.fetch_or(1 << thread, Ordering::Relaxed);
                }
            });
            whole(done.into_inner().count_ones() as usize, threads)
        } else {
            // Pieces small enough that the last ones end together.
            let piece = steps.div_ceil(threads * 8).max(1);
            let next = AtomicUsize::new(0);
            let done = AtomicUsize::new(0);
            pool.run(&|_| {
                loop {
                    let first = next.fetch_add(piece, Ordering::Relaxed);
                    if first >= steps {
                        return;
                    }
                    work(first..steps.min(first + piece));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            whole(done.into_inner(), steps.div_ceil(piece))
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
