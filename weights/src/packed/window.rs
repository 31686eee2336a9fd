//! Rows of packed layers, in the order in which a view takes them.

use std::ops::Range;

use gguf_io::SourceFile;

use super::{layer::Packed, row::Buffers};
use crate::{
    Result, View,
    code_block::{BLOCK, CodeBlock},
    gather::size,
    view::Run,
};

/// Values that are restored at a time where a view takes rows in another order than they are stored
/// in.
const WINDOW: u64 = 1 << 18;

/// What rows are read as.
pub(crate) trait Unit: Copy + Default {
    /// Values in one.
    const VALUES: u64;

    /// Reads whole rows of a layer, from `first` on.
    fn read(
        packed: &Packed,
        files: &[SourceFile],
        first: u64,
        out: &mut [Self],
        buffers: &mut Buffers,
    ) -> Result<()>;
}

impl Unit for f32 {
    const VALUES: u64 = 1;

    fn read(
        packed: &Packed,
        files: &[SourceFile],
        first: u64,
        out: &mut [Self],
        buffers: &mut Buffers,
    ) -> Result<()> {
        packed.restore(files, first, out, buffers)
    }
}

impl Unit for CodeBlock {
    const VALUES: u64 = BLOCK;

    fn read(
        packed: &Packed,
        files: &[SourceFile],
        first: u64,
        out: &mut [Self],
        buffers: &mut Buffers,
    ) -> Result<()> {
        packed.code_blocks(files, first, out, buffers)
    }
}

/// Rows in the order they are stored in, and what reading them takes.
#[derive(Debug)]
pub(crate) struct Window<T = f32> {
    /// Values of so many rows, unless one row has more.
    pub(super) len: u64,
    pub(super) held: Vec<T>,
    pub(super) buffers: Buffers,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { len: WINDOW, held: Vec::new(), buffers: Buffers::default() }
    }
}

impl<T: Unit> Window<T> {
    /// Reads what a view takes of a layer, a range of its order; both count units. Each row is
    /// restored once for a range whose rows are near each other.
    pub(crate) fn read(
        &mut self,
        packed: &Packed,
        files: &[SourceFile],
        view: &View,
        range: Range<u64>,
        out: &mut [T],
    ) -> Result<()> {
        let [rows, columns] = packed.shape();
        let (rows, columns) = (rows.max(1), (columns / T::VALUES).max(1));
        let step = packed.step();
        // The values that are taken, as they are stored.
        let (first, end) = view
            .runs(range.clone())
            .fold((u64::MAX, 0), |(first, end), run| (run.first.min(first), run.end().max(end)));
        if first >= end {
            return Ok(());
        }
        let row = first / columns;
        let whole = first.is_multiple_of(columns) && end.is_multiple_of(columns);
        if whole && row.is_multiple_of(step) && view.is_contiguous() {
            return T::read(packed, files, row, out, &mut self.buffers);
        }
        let last = end.div_ceil(columns).min(rows);
        let height = (self.len / T::VALUES / columns).max(1).next_multiple_of(step);
        let mut row = row - row % step;
        while row < last {
            let here = height.min(last - row);
            let held = row * columns..(row + here) * columns;
            if view.runs(range.clone()).any(|run| !run.within(&held).is_empty()) {
                self.held.resize(size(here * columns)?, T::default());
                T::read(packed, files, row, &mut self.held, &mut self.buffers)?;
                self.hand_out(view.runs(range.clone()), &held, out)?;
            }
            row += here;
        }
        Ok(())
    }

    /// Copies those of the values held that runs take to their places.
    fn hand_out(
        &self,
        runs: impl Iterator<Item = Run>,
        held: &Range<u64>,
        mut out: &mut [T],
    ) -> Result<()> {
        for run in runs {
            let (now, later) = out.split_at_mut(size(run.len)?.min(out.len()));
            out = later;
            let taken = run.within(held);
            if taken.is_empty() {
                continue;
            }
            let from = size(run.first + taken.start * run.stride - held.start)?;
            let values = self.held.get(from..).unwrap_or_default();
            let now = now.get_mut(size(taken.start)?..size(taken.end)?).unwrap_or_default();
            match size(run.stride)? {
                1 => {
                    let values = values.get(..now.len()).ok_or(quant_core::Error::TooLarge)?;
                    now.copy_from_slice(values);
                }
                stride => {
                    let values = values.iter().step_by(stride.max(1));
                    now.iter_mut().zip(values).for_each(|(out, value)| *out = *value);
                }
            }
        }
        Ok(())
    }
}
