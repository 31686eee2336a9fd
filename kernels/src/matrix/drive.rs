//! Which tiles to compute in which order, for a range of rows.

use std::{
    any::Any,
    cell::Cell,
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

use quant_core::lanes::Lanes;

use super::{
    coded::{Coded, Layout},
    dot_lanes::DotLanes,
    float::{self, FloatFormat},
    format::FEW,
    inputs::{Column, Inputs, Tile},
    packed::{GROUP, Groups},
    sources::{Direct, Panel},
    tile::{Number, tile},
};

/// Rows that a worker takes at a time: whole tiles of every instruction set.
pub(crate) const ROW_STEP: usize = 32;
/// As [`ROW_STEP`], where weights are floats.
pub(crate) const FLOAT_ROW_STEP: usize = 64;

/// Columns of the weights in a panel: with 32 rows it fits a level-2 cache beside the inputs. Panels
/// that fit level 1 are slower: each tile starts and ends more often.
const PANEL_COLS: usize = 4096;

/// As [`PANEL_COLS`], where unpacking takes most of the time: a panel that fits a level-1 cache.
const FEW_PANEL_COLS: usize = 512;

/// Tiles that meet a panel before their totals are written: few, because each column is on a page of its own,
/// and stores to many at once wait for each other, where those to a few end while the next are computed.
const TILES: usize = 2;

/// One product: a matrix and some columns.
pub(crate) struct Product<'a> {
    pub(crate) weights: Groups<'a>,
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
    pub(super) fn write(self, y: usize, row: usize, values: &[f32]) {
        let out = &self.values[y * self.stride + row..][..values.len()];
        for (out, v) in out.iter().zip(values) {
            out.store(v.to_bits(), Ordering::Relaxed);
        }
    }
}

impl Product<'_> {
    /// The bytes of a group of rows, of formats that are not [`Coded`].
    #[inline(always)]
    pub(super) fn group(&self, row: usize) -> &[u8] {
        self.weights.group(row / GROUP).0
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

    /// Hints that the totals of some tiles will be written.
    #[inline(always)]
    fn prefetch<S: DotLanes>(&self, s: S, tiles: &[Tile], row: usize) {
        for column in tiles.iter().flat_map(|tile| &self.columns[tile.first..][..tile.live]) {
            s.prefetch(&self.y.values[column.y * self.y.stride + row..][..1], 0);
        }
    }

    /// Writes the totals of some tiles.
    #[inline(always)]
    fn write_all<S: DotLanes, const MR: usize>(
        &self,
        s: S,
        tiles: &[Tile],
        row: usize,
        mut totals: &[[S::F32; MR]],
    ) {
        for tile in tiles {
            let (of_tile, rest) = totals.split_at(tile.width);
            self.write(s, tile, row, of_tile);
            totals = rest;
        }
    }

    /// The first row of vector `m` of those from `row` on: vectors past the end repeat the first.
    #[inline(always)]
    fn vector<S: DotLanes>(&self, row: usize, m: usize) -> usize {
        if row + m * S::N < self.rows { row + m * S::N } else { row }
    }
}

/// The rows of a vector in the packed groups.
#[inline(always)]
fn source<'a, F: Coded>(job: &'a Product<'_>, row: usize) -> Direct<'a, F> {
    Direct::new(job.weights.group(row / GROUP), row % GROUP, job.bfloat16)
}

/// Calls a function for the width of a tile: one of those listed, if the widest is above it, or the widest.
macro_rules! by_width {
    ($tile:ident, $widest:ident; $f:ident::<$($ty:ident),*> $arguments:tt) => {
        $f::<$($ty,)* $widest> $arguments
    };
    (
        $tile:ident, $widest:ident, $width:literal $above:ident $(, $rest:literal $rest_above:ident)*;
        $f:ident::<$($ty:ident),*> $arguments:tt
    ) => {
        if Number::<$widest>::$above && $tile.width == $width {
            $f::<$($ty,)* $width> $arguments
        } else {
            by_width!($tile, $widest $(, $rest $rest_above)*; $f::<$($ty),*> $arguments)
        }
    };
}

/// Computes the totals of a tile of few columns and `DR` vectors of rows, straight from the packed weights.
pub(crate) type FewTile<S, const DR: usize> =
    fn(S, &Product<'_>, usize, &Tile, &mut [[<S as Lanes>::F32; DR]]);

/// Those of tiles of one column, of two and of the widest.
pub(crate) type FewTiles<S, const DR: usize> = [FewTile<S, DR>; 3];

/// The [`FewTiles`] of a format: from a function of a format and a number of columns, and the most columns that a tile
/// has. Widths that no tile has are not compiled.
macro_rules! few_tiles {
    ($format:ident, $tile:ident, $most:literal) => {{
        use $crate::matrix::{coded::Coded, tile::Number};
        let mut tiles: Self::FewTiles = [$tile::<$format, 1>; 3];
        if <$format as Coded>::FEW {
            if Number::<$most>::ABOVE_1 {
                tiles[1] = $tile::<$format, 2>;
                tiles[2] = $tile::<$format, $most>;
            }
        }
        tiles
    }};
}
pub(crate) use few_tiles;

/// A product with few columns: rows meet them straight from the packed weights, `DR` vectors together. Compiled
/// once for all formats.
#[inline(always)]
pub(crate) fn direct<S: DotLanes, const DR: usize>(
    s: S,
    job: &Product<'_>,
    rows: Range<usize>,
    [one, two, most]: FewTiles<S, DR>,
) {
    let mut totals = [[s.splat(0.0); DR]; FEW];
    for row in rows.step_by(DR * S::N) {
        for tile in &job.inputs.tiles {
            let totals = &mut totals[..tile.width];
            match tile.width {
                1 => one(s, job, row, tile, totals),
                2 => two(s, job, row, tile, totals),
                _ => most(s, job, row, tile, totals),
            }
            job.write(s, tile, row, totals);
        }
    }
}

/// As [`FewTile`] says, with tiles of `NR` columns.
#[inline(always)]
pub(crate) fn direct_tile<S: DotLanes, F: Coded, const DR: usize, const NR: usize>(
    s: S,
    job: &Product<'_>,
    row: usize,
    t: &Tile,
    totals: &mut [[S::F32; DR]],
) {
    let Some(totals) = totals.first_chunk_mut::<NR>() else { return };
    let mut sources = [source::<F>(job, row); DR];
    for (m, source_of_vector) in sources.iter_mut().enumerate() {
        *source_of_vector = source(job, job.vector::<S>(row, m));
    }
    *totals = [[s.splat(0.0); DR]; NR];
    let columns = job.inputs.columns::<NR>(t, 0..job.cols / F::LEN);
    tile::<S, F::Layout, _, DR, NR>(s, sources, columns, totals);
}

/// Fills a panel with the rows from some row on, in a range of blocks.
pub(crate) type Fill<'a, S> = dyn FnMut(&mut Panel<S>, usize, Range<usize>) + 'a;

/// Adds the products of panels with some tiles of inputs, in a range of blocks, to the totals of each column.
pub(crate) type PanelTiles<S, const MR: usize> =
    fn(S, &Inputs, &[Tile], &[Panel<S>; MR], Range<usize>, &mut [[<S as Lanes>::F32; MR]]);

/// What a product with several columns needs while it runs.
struct Buffers<S: DotLanes, const MR: usize> {
    panels: [Panel<S>; MR],
    /// Of each column.
    totals: Vec<[S::F32; MR]>,
    /// Of floats, the panels one after the other.
    singles: Vec<[S::F32; MR]>,
}

/// Totals of more columns are not kept for the next product.
const KEPT_COLUMNS: usize = 4096;

thread_local! {
    /// The [`Buffers`] of this thread, of the instruction set that ran last: the time between two
    /// products of a decoder goes to weights, not to the allocator.
    static BUFFERS: Cell<Option<Box<dyn Any>>> = const { Cell::new(None) };
}

impl<S: DotLanes, const MR: usize> Buffers<S, MR> {
    /// Those of this thread, or new ones.
    fn take() -> Box<Self> {
        let new = || {
            let panels = std::array::from_fn(|_| Panel::new());
            Box::new(Self { panels, totals: Vec::new(), singles: Vec::new() })
        };
        BUFFERS.take().and_then(|kept| kept.downcast().ok()).unwrap_or_else(new)
    }

    fn keep(self: Box<Self>) {
        if self.totals.capacity() <= KEPT_COLUMNS {
            BUFFERS.set(Some(self));
        }
    }
}

/// A product with several columns: rows are unpacked once for all of them, `PANEL_COLS` columns of the
/// weights at a time. Blocks have `len` elements; `tiles` is [`panel_tiles`] of the layout of the
/// format, compiled once for all formats that have it.
#[inline(always)]
pub(crate) fn panels<S: DotLanes, const MR: usize>(
    s: S,
    job: &Product<'_>,
    rows: Range<usize>,
    len: usize,
    fill: &mut Fill<'_, S>,
    tiles: PanelTiles<S, MR>,
) {
    let blocks = job.cols / len;
    let mut buffers = Buffers::<S, MR>::take();
    let Buffers { panels, totals, .. } = &mut *buffers;
    totals.clear();
    let width: usize = job.inputs.tiles.iter().map(|tile| tile.width).sum();
    totals.resize(width, [s.splat(0.0); MR]);
    let step = if width <= FEW { FEW_PANEL_COLS } else { PANEL_COLS } / len;
    for row in rows.step_by(MR * S::N) {
        totals.fill([s.splat(0.0); MR]);
        // Without blocks there are totals, too.
        for first in (0..blocks.max(1)).step_by(step) {
            let range = first..blocks.min(first + step);
            for (m, panel) in panels.iter_mut().enumerate() {
                panel.clear();
                fill(panel, job.vector::<S>(row, m), range.clone());
            }
            let mut rest = &mut totals[..];
            for part in job.inputs.tiles.chunks(TILES) {
                let width = part.iter().map(|tile| tile.width).sum();
                let (totals, after) = rest.split_at_mut(width);
                rest = after;
                if range.end == blocks {
                    job.prefetch(s, part, row);
                }
                tiles(s, job.inputs, part, panels, range.clone(), totals);
                if range.end == blocks {
                    job.write_all(s, part, row, totals);
                }
            }
        }
    }
    buffers.keep();
}

/// Fills a panel from the codes of a format.
#[inline(always)]
pub(crate) fn fill_codes<S: DotLanes, F: Coded>(
    s: S,
    panel: &mut Panel<S>,
    job: &Product<'_>,
    row: usize,
    blocks: Range<usize>,
) {
    panel.fill(s, source::<F>(job, row), blocks);
}

/// As [`PanelTiles`] says, with tiles of up to `NR` columns; `TR` vectors of rows at a time.
#[inline(always)]
pub(crate) fn panel_tiles<
    S: DotLanes,
    L: Layout,
    const MR: usize,
    const TR: usize,
    const NR: usize,
>(
    s: S,
    inputs: &Inputs,
    tiles: &[Tile],
    panels: &[Panel<S>; MR],
    blocks: Range<usize>,
    totals: &mut [[S::F32; MR]],
) {
    for (part, panels) in panels.as_chunks::<TR>().0.iter().enumerate() {
        let mut rest = &mut *totals;
        for tile in tiles {
            let (totals, after) = rest.split_at_mut(tile.width);
            rest = after;
            let (blocks, first) = (blocks.clone(), part * TR);
            by_width!(tile, NR, 2 ABOVE_2, 4 ABOVE_4;
                panel_tile::<S, L, MR, TR>(s, inputs, tile, panels, blocks, first, totals));
        }
    }
}

/// The tile of some columns and `TR` of the vectors of rows, from `first` on.
#[inline(always)]
fn panel_tile<S: DotLanes, L: Layout, const MR: usize, const TR: usize, const NR: usize>(
    s: S,
    inputs: &Inputs,
    t: &Tile,
    panels: &[Panel<S>; TR],
    blocks: Range<usize>,
    first: usize,
    totals: &mut [[S::F32; MR]],
) {
    let Some(totals) = totals.first_chunk_mut::<NR>() else { return };
    let mut rows = [panels[0].vector::<L>(); TR];
    for (rows, panel) in rows.iter_mut().zip(panels) {
        *rows = panel.vector();
    }
    let mut sums = [[s.splat(0.0); TR]; NR];
    for (sums, totals) in sums.iter_mut().zip(&*totals) {
        sums.copy_from_slice(&totals[first..first + TR]);
    }
    tile::<S, L, _, TR, NR>(s, rows, inputs.columns::<NR>(t, blocks), &mut sums);
    for (sums, totals) in sums.iter().zip(totals) {
        totals[first..first + TR].copy_from_slice(sums);
    }
}

/// The elements of a vector of rows in its group.
#[inline(always)]
fn elements<'a, F: FloatFormat>(job: &'a Product<'_>, row: usize) -> &'a [u8] {
    // Without columns a group has no bytes.
    job.group(row).get(row % GROUP * F::BYTES..).unwrap_or_default()
}

/// A product of floats with few columns, straight from the packed weights.
#[inline(always)]
pub(crate) fn packed_floats<S: DotLanes, F: FloatFormat, const MR: usize, const NR: usize>(
    s: S,
    job: &Product<'_>,
    rows: Range<usize>,
) {
    for row in rows.step_by(MR * S::N) {
        let groups: [&[u8]; MR] =
            std::array::from_fn(|m| elements::<F>(job, job.vector::<S>(row, m)));
        for tile in &job.inputs.tiles {
            by_width!(tile, NR, 1 ABOVE_1, 2 ABOVE_2, 4 ABOVE_4;
                float_tile::<S, F, MR>(s, job, row, tile, groups));
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

/// Rows whose panels in single precision are multiplied together: with [`float::BLOCK`] columns they fit a
/// level-2 cache, and inputs come from further away once for all of them.
const FLOAT_ROWS: usize = 512;

/// Columns of inputs whose totals are kept while rows are multiplied.
const FLOAT_COLUMNS: usize = 512;

/// Fills a panel of floats with the rows from some row on, in a range of columns.
pub(crate) type FillFloats<'a, P> = dyn FnMut(&mut [P], usize, Range<usize>) + 'a;

/// A product of floats with many columns, by panels in single precision; compiled once for all types.
#[inline(always)]
pub(crate) fn float_panels<S: DotLanes, const MR: usize, const NR: usize>(
    s: S,
    job: &Product<'_>,
    rows: Range<usize>,
    fill: &mut FillFloats<'_, [S::F32; MR]>,
) {
    let mut buffers = Buffers::<S, MR>::take();
    let Buffers { singles, totals, .. } = &mut *buffers;
    for first_row in rows.clone().step_by(FLOAT_ROWS) {
        let panels = FLOAT_ROWS.min(rows.end - first_row).div_ceil(MR * S::N);
        for tiles in job.inputs.tiles.chunks(FLOAT_COLUMNS / NR) {
            let width: usize = tiles.iter().map(|tile| tile.width).sum();
            totals.clear();
            totals.resize(panels * width, [s.splat(0.0); MR]);
            for first in (0..job.cols).step_by(float::BLOCK) {
                let cols = first..job.cols.min(first + float::BLOCK);
                singles.resize(panels * cols.len(), [s.splat(0.0); MR]);
                for (p, panel) in singles.chunks_exact_mut(cols.len()).enumerate() {
                    fill(panel, first_row + p * MR * S::N, cols.clone());
                }
                let mut rest = &mut totals[..];
                for tile in tiles {
                    let (totals, after) = rest.split_at_mut(panels * tile.width);
                    rest = after;
                    by_width!(tile, NR, 2 ABOVE_2, 4 ABOVE_4;
                        add_floats::<S, MR>(s, job, tile, singles, cols.clone(), totals));
                }
            }
            let mut rest = &totals[..];
            for tile in tiles {
                let (totals, after) = rest.split_at(panels * tile.width);
                rest = after;
                for (p, totals) in totals.chunks_exact(tile.width).enumerate() {
                    job.write(s, tile, first_row + p * MR * S::N, totals);
                }
            }
        }
    }
    buffers.keep();
}

/// Fills a panel of floats.
#[inline(always)]
pub(crate) fn fill_floats<S: DotLanes, F: FloatFormat, const MR: usize>(
    s: S,
    panel: &mut [[S::F32; MR]],
    job: &Product<'_>,
    row: usize,
    cols: Range<usize>,
) {
    let step = GROUP * F::BYTES;
    for m in 0..MR {
        let elements = &elements::<F>(job, job.vector::<S>(row, m))[cols.start * step..];
        for (i, panel) in panel.iter_mut().enumerate() {
            panel[m] = F::load(s, &elements[i * step..]);
        }
    }
}

/// Adds the products of panels in single precision with a tile of columns to the totals of each panel.
#[inline(always)]
fn add_floats<S: DotLanes, const MR: usize, const NR: usize>(
    s: S,
    job: &Product<'_>,
    tile: &Tile,
    panels: &[[S::F32; MR]],
    cols: Range<usize>,
    totals: &mut [[S::F32; MR]],
) {
    let len = cols.len();
    let inputs = &job.inputs.floats::<NR>(tile)[cols];
    for (panel, totals) in panels.chunks_exact(len).zip(totals.as_chunks_mut::<NR>().0) {
        float::panel(s, panel, inputs, totals);
    }
}
