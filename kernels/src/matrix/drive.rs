//! Which tiles to compute in which order, for a range of rows.

use std::{
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

use quant_core::lanes::Lanes;

use super::{
    coded::{Coded, Layout},
    dot_lanes::DotLanes,
    float::{self, FloatFormat},
    inputs::{Column, Inputs, Tile},
    packed::GROUP,
    tile::{Direct, Panel, tile},
};

/// Rows that a worker takes at a time: whole tiles of every instruction set.
pub(crate) const ROW_STEP: usize = 32;

/// Columns from which unpacking to a panel pays.
pub(crate) const PANEL_FROM: usize = 9;

/// Columns of the weights in a panel: with 32 rows it fits a level-2 cache beside the inputs. Panels
/// that fit level 1 are slower: each tile starts and ends more often.
const PANEL_COLS: usize = 4096;

/// One product: a matrix and some columns.
pub(crate) struct Product<'a> {
    /// The packed groups of rows of one matrix.
    pub(crate) weights: &'a [u8],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Whether scales are bfloat16, if the format leaves that open.
    pub(crate) bfloat16: bool,
    pub(crate) inputs: &'a Inputs,
    pub(crate) columns: &'a [Column],
    pub(crate) y: Output<'a>,
}

/// The output: workers write different rows of it at the same time.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a> {
    pub(crate) values: &'a [AtomicU32],
    pub(crate) stride: usize,
}

impl Output<'_> {
    /// Writes rows from `row` on of column `y`.
    #[inline(always)]
    fn write(self, y: usize, row: usize, values: &[f32]) {
        let out = &self.values[y * self.stride + row..][..values.len()];
        for (out, v) in out.iter().zip(values) {
            out.store(v.to_bits(), Ordering::Relaxed);
        }
    }
}

impl Product<'_> {
    /// The bytes of a group of rows.
    #[inline(always)]
    fn group(&self, row: usize, row_bytes: usize) -> &[u8] {
        &self.weights[row / GROUP * GROUP * row_bytes..][..GROUP * row_bytes]
    }

    /// Writes a tile of totals.
    #[inline(always)]
    fn write<S: DotLanes, const MR: usize>(
        &self,
        s: S,
        tile: &Tile,
        row: usize,
        totals: &[[S::F32; MR]],
    ) {
        let mut lanes = [0.0; quant_core::lanes::MAX_LANES];
        let columns = &self.columns[tile.first..][..tile.live];
        for (column, totals) in columns.iter().zip(totals) {
            for (m, &total) in totals.iter().enumerate() {
                let row = row + m * S::N;
                if row < self.rows {
                    s.store(total, &mut lanes);
                    self.y.write(column.y, row, &lanes[..S::N.min(self.rows - row)]);
                }
            }
        }
    }
}

/// The first row of each vector in the packed groups: vectors past the end repeat the first.
#[inline(always)]
fn sources<'a, S: DotLanes, F: Coded, const MR: usize>(
    job: &'a Product<'_>,
    row: usize,
) -> [Direct<'a, F>; MR] {
    let row_bytes = job.cols / F::LEN * F::BYTES;
    std::array::from_fn(|m| {
        let at = if row + m * S::N < job.rows { row + m * S::N } else { row };
        Direct::new(job.group(at, row_bytes), at % GROUP, job.bfloat16)
    })
}

/// A product with few columns: each vector of rows meets all of them, straight from the packed
/// weights, up to `NR` at a time. `DR` vectors are read together.
#[inline(always)]
pub(crate) fn direct<S: DotLanes, F: Coded, const DR: usize, const NR: usize>(
    s: S,
    job: &Product<'_>,
    rows: Range<usize>,
) {
    for row in rows.step_by(DR * S::N) {
        let sources = sources::<S, F, DR>(job, row);
        for tile in &job.inputs.tiles {
            match tile.width {
                1 => direct_tile::<S, F, DR, 1>(s, job, row, tile, sources),
                2 if NR > 2 => direct_tile::<S, F, DR, 2>(s, job, row, tile, sources),
                _ => direct_tile::<S, F, DR, NR>(s, job, row, tile, sources),
            }
        }
    }
}

#[inline(always)]
fn direct_tile<S: DotLanes, F: Coded, const DR: usize, const NR: usize>(
    s: S,
    job: &Product<'_>,
    row: usize,
    t: &Tile,
    sources: [Direct<'_, F>; DR],
) {
    let mut totals = [[s.splat(0.0); DR]; NR];
    let columns = job.inputs.columns::<NR>(t, 0..job.cols / F::LEN);
    tile::<S, F::Layout, _, DR, NR>(s, sources, columns, &mut totals);
    job.write(s, t, row, &totals);
}

/// Adds the products of a panel with all inputs, in a range of blocks, to the totals of each column.
pub(crate) type PanelTiles<S, const MR: usize> =
    fn(S, &Inputs, &Panel<S, MR>, Range<usize>, &mut [[<S as Lanes>::F32; MR]]);

/// A product with many columns: rows are unpacked once for all of them, `PANEL_COLS` columns of
/// the weights at a time. `tiles` is [`panel_tiles`] of the layout of the format, compiled once for
/// all formats that have it.
#[inline(always)]
pub(crate) fn panels<S: DotLanes, F: Coded, const MR: usize>(
    s: S,
    job: &Product<'_>,
    rows: Range<usize>,
    tiles: PanelTiles<S, MR>,
) {
    let blocks = job.cols / F::LEN;
    let mut panel = Panel::<S, MR>::new();
    let width: usize = job.inputs.tiles.iter().map(|tile| tile.width).sum();
    let mut totals = vec![[s.splat(0.0); MR]; width];
    for row in rows.step_by(MR * S::N) {
        totals.fill([s.splat(0.0); MR]);
        for first in (0..blocks).step_by(PANEL_COLS / F::LEN) {
            let range = first..blocks.min(first + PANEL_COLS / F::LEN);
            panel.fill::<F>(s, sources::<S, F, MR>(job, row), range.clone());
            tiles(s, job.inputs, &panel, range, &mut totals);
        }
        let mut rest = &totals[..];
        for tile in &job.inputs.tiles {
            let (totals, after) = rest.split_at(tile.width);
            rest = after;
            job.write(s, tile, row, totals);
        }
    }
}

/// As [`PanelTiles`] says, with tiles of up to `NR` columns.
#[inline(always)]
pub(crate) fn panel_tiles<S: DotLanes, L: Layout, const MR: usize, const NR: usize>(
    s: S,
    inputs: &Inputs,
    panel: &Panel<S, MR>,
    blocks: Range<usize>,
    mut totals: &mut [[S::F32; MR]],
) {
    for tile in &inputs.tiles {
        let (these, after) = std::mem::take(&mut totals).split_at_mut(tile.width);
        totals = after;
        let blocks = blocks.clone();
        match tile.width {
            1 => panel_tile::<S, L, MR, 1>(s, inputs, tile, panel, blocks, these),
            2 if NR > 1 => panel_tile::<S, L, MR, 2>(s, inputs, tile, panel, blocks, these),
            4 if NR > 4 => panel_tile::<S, L, MR, 4>(s, inputs, tile, panel, blocks, these),
            _ => panel_tile::<S, L, MR, NR>(s, inputs, tile, panel, blocks, these),
        }
    }
}

#[inline(always)]
fn panel_tile<S: DotLanes, L: Layout, const MR: usize, const NR: usize>(
    s: S,
    inputs: &Inputs,
    t: &Tile,
    panel: &Panel<S, MR>,
    blocks: Range<usize>,
    totals: &mut [[S::F32; MR]],
) {
    let Some(totals) = totals.as_chunks_mut::<NR>().0.first_mut() else { return };
    let mut rows = [panel.vector::<L>(0); MR];
    for (m, rows) in rows.iter_mut().enumerate() {
        *rows = panel.vector(m);
    }
    tile::<S, L, _, MR, NR>(s, rows, inputs.columns::<NR>(t, blocks), totals);
}

/// A product with weights that are floats.
#[inline(always)]
pub(crate) fn floats<S: DotLanes, F: FloatFormat, const MR: usize, const NR: usize>(
    s: S,
    job: &Product<'_>,
    rows: Range<usize>,
) {
    for row in rows.step_by(MR * S::N) {
        let groups: [&[u8]; MR] = std::array::from_fn(|m| {
            let at = if row + m * S::N < job.rows { row + m * S::N } else { row };
            // Without columns a group has no bytes.
            job.group(at, job.cols * F::BYTES).get(at % GROUP * F::BYTES..).unwrap_or_default()
        });
        for tile in &job.inputs.tiles {
            match tile.width {
                1 => float_tile::<S, F, MR, 1>(s, job, row, tile, groups),
                2 if NR > 1 => float_tile::<S, F, MR, 2>(s, job, row, tile, groups),
                4 if NR > 4 => float_tile::<S, F, MR, 4>(s, job, row, tile, groups),
                _ => float_tile::<S, F, MR, NR>(s, job, row, tile, groups),
            }
        }
    }
}

#[inline(always)]
fn float_tile<S: DotLanes, F: FloatFormat, const MR: usize, const NR: usize>(
    s: S,
    job: &Product<'_>,
    row: usize,
    tile: &Tile,
    groups: [&[u8]; MR],
) {
    let totals = float::tile::<S, F, MR, NR>(s, groups, job.inputs.floats::<NR>(tile));
    job.write(s, tile, row, &totals);
}
