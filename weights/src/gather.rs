//! Reading what a view takes: runs of stored units, put where the view has them.

use std::ops::Range;

use crate::{
    Result,
    view::{Axis, Run, View, origin},
};

/// Reads units of a view, those of a range of its order. A unit is `width` elements; `span` reads
/// stored units that are next to each other, from the one of a number on.
pub(crate) fn gather<T: Copy + Default>(
    view: &View,
    range: Range<u64>,
    width: usize,
    out: &mut [T],
    buffer: &mut Vec<T>,
    span: &mut impl FnMut(u64, &mut [T]) -> Result<()>,
) -> Result<()> {
    let (start, axes) = view.simplified();
    match &axes[..] {
        [outer @ .., rows, row] if row.stride > rows.stride => {
            tiles((start, outer, *rows, *row), range, width, out, buffer, span)
        }
        _ => rows(view.runs(range), width, out, buffer, span),
    }
}

/// Rows whose units are next to each other, or a few apart.
fn rows<T: Copy + Default>(
    runs: impl Iterator<Item = Run>,
    width: usize,
    mut out: &mut [T],
    buffer: &mut Vec<T>,
    span: &mut impl FnMut(u64, &mut [T]) -> Result<()>,
) -> Result<()> {
    for run in runs {
        let (now, later) = out.split_at_mut(size(run.len)?.saturating_mul(width).min(out.len()));
        if run.stride == 1 {
            span(run.first, now)?;
        } else {
            buffer.resize(size(run.end() - run.first)?.saturating_mul(width), T::default());
            span(run.first, buffer)?;
            let step = size(run.stride)?.saturating_mul(width).max(1);
            for (out, unit) in now.chunks_exact_mut(width).zip(buffer.chunks(step)) {
                out.copy_from_slice(unit.get(..width).unwrap_or_default());
            }
        }
        out = later;
    }
    Ok(())
}

/// Rows whose units are far apart, as in a transposed matrix: what several rows take from one place
/// is read at once.
fn tiles<T: Copy + Default>(
    (start, outer, rows, row): (u64, &[Axis], Axis, Axis),
    range: Range<u64>,
    width: usize,
    out: &mut [T],
    buffer: &mut Vec<T>,
    span: &mut impl FnMut(u64, &mut [T]) -> Result<()>,
) -> Result<()> {
    let (columns, height) = (row.len.max(1), rows.len.max(1));
    let (mut at, last) = (range.start / columns, range.end.div_ceil(columns));
    while at < last {
        let (index, within) = (at / height, at % height);
        let count = (rows.len - within).min(last - at);
        let first = start + origin(outer, index) + within * rows.stride;
        buffer.resize(size((count - 1) * rows.stride + 1)?.saturating_mul(width), T::default());
        let step = size(rows.stride)?.saturating_mul(width).max(1);
        for column in 0..row.len {
            span(first + column * row.stride, buffer)?;
            for (line, unit) in (at..).zip(buffer.chunks(step)) {
                // A range may begin and end within a row.
                let Some(place) = (line * columns + column).checked_sub(range.start) else {
                    continue;
                };
                let place = size(place)?.saturating_mul(width);
                if let Some(out) = out.get_mut(place..place.saturating_add(width)) {
                    out.copy_from_slice(unit.get(..width).unwrap_or_default());
                }
            }
        }
        at += count;
    }
    Ok(())
}

/// A length in memory.
pub(crate) fn size(n: u64) -> Result<usize> {
    Ok(usize::try_from(n).map_err(|_| quant_core::Error::TooLarge)?)
}
