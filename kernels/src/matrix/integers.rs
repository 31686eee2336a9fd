//! Formats whose values are looked up in a codebook.
//!
//! Blocks are unpacked to small integers by plain code, compiled once for each format and not for each
//! instruction set. For few columns rows are multiplied one by one from there: a lane holds four neighbours
//! of a row. For many columns the integers of as many rows as there are lanes become a panel.

use std::ops::Range;

use quant_core::{
    formats::{FACTORS, Integers, QK_K, SIGNS},
    lanes::MAX_LANES,
};

use super::{
    coded::{Layout, subs},
    dot_lanes::DotLanes,
    drive::Product,
    format::FEW,
    packed::GROUP,
    sources::{MAX_SUBS, Panel},
};

/// What is added to integers, from −63 to 63, so that they become codes. Two products with 127 fit 16 bits.
pub(crate) const BIAS: i32 = 64;

/// A block of each row of a group, as [`Integers`] says.
#[repr(C, align(64))]
pub(crate) struct Unpacked {
    codes: [[u8; QK_K]; GROUP],
    signs: [[u8; SIGNS]; GROUP],
    factors: [[i16; FACTORS]; GROUP],
    units: [f32; GROUP],
}

impl Unpacked {
    const EMPTY: Self = Self {
        codes: [[0; QK_K]; GROUP],
        signs: [[0; SIGNS]; GROUP],
        factors: [[0; FACTORS]; GROUP],
        units: [0.0; GROUP],
    };
}

/// How the blocks of a format become integers.
#[derive(Clone, Copy)]
pub(crate) struct Unpack {
    /// Unpacks some rows of a block of a group, given the blocks of its rows one after the other.
    rows: fn(&[u8], Range<usize>, &mut Unpacked),
    /// Bytes in a block.
    bytes: usize,
    /// See [`Integers::SIGNED`].
    signed: bool,
}

impl Unpack {
    /// That of a format.
    pub(crate) fn of<F: Integers>() -> Self {
        Self { rows: rows::<F>, bytes: F::TYPE.block_bytes(), signed: F::SIGNED }
    }
}

/// As [`Unpack::rows`].
fn rows<F: Integers>(blocks: &[u8], rows: Range<usize>, out: &mut Unpacked) {
    let blocks: &[F::Block] = bytemuck::cast_slice(blocks);
    for r in rows {
        out.units[r] = F::head(&blocks[r], &mut out.signs[r], &mut out.factors[r]);
        F::integers(&blocks[r], &mut out.codes[r]);
    }
}

/// A product with few columns.
#[inline(always)]
pub(crate) fn few<S: DotLanes>(s: S, job: &Product<'_>, rows: Range<usize>, unpack: Unpack) {
    if unpack.signed {
        few_columns::<S, true>(s, job, rows, unpack);
    } else {
        few_columns::<S, false>(s, job, rows, unpack);
    }
}

#[inline(always)]
fn few_columns<S: DotLanes, const SIGNED: bool>(
    s: S,
    job: &Product<'_>,
    rows: Range<usize>,
    unpack: Unpack,
) {
    let blocks = job.cols / QK_K;
    let tiles = &job.inputs.tiles[..job.inputs.tiles.len().min(FEW)];
    let Some(first) = tiles.first() else { return };
    let mut columns = [job.inputs.columns::<1>(first, 0..blocks); FEW];
    for (column, tile) in columns.iter_mut().zip(tiles) {
        *column = job.inputs.columns(tile, 0..blocks);
    }
    let (mut unpacked, mut sums) = (Unpacked::EMPTY, [0.0; GROUP * MAX_LANES]);
    let end = rows.end;
    for row in rows.step_by(GROUP) {
        let group = job.group(row);
        let live = GROUP.min(end - row);
        let mut totals = [[0.0; GROUP]; FEW];
        for (b, group) in group.chunks_exact(GROUP * unpack.bytes).enumerate() {
            (unpack.rows)(group, 0..live, &mut unpacked);
            for (totals, column) in totals.iter_mut().zip(&columns[..tiles.len()]) {
                let words = &column.words[b * QK_K / 4..][..QK_K / 4];
                for (r, sums) in sums.chunks_exact_mut(S::N).enumerate().take(live) {
                    let sum = products::<S, SIGNED>(s, &unpacked, r, bytemuck::cast_slice(words));
                    s.store_part(s.bits_to_f32(sum), sums);
                }
                add_up(s, &sums, &unpacked.units, column.scales[b][0], totals);
            }
        }
        for (tile, totals) in tiles.iter().zip(&totals) {
            job.y.write(job.columns[tile.first].y, row, &totals[..live]);
        }
    }
}

/// A product with one column: look-ups stay in registers.
#[inline(always)]
pub(crate) fn single<S: DotLanes, F: Integers>(s: S, job: &Product<'_>, rows: Range<usize>) {
    let (blocks, bytes) = (job.cols / QK_K, F::TYPE.block_bytes());
    let Some(tile) = job.inputs.tiles.first() else { return };
    let column = job.inputs.columns::<1>(tile, 0..blocks);
    let (mut signs, mut factors) = ([0; SIGNS], [0; FACTORS]);
    let (mut units, mut sums) = ([0.0; GROUP], [0.0; GROUP * MAX_LANES]);
    let end = rows.end;
    for row in rows.step_by(GROUP) {
        let live = GROUP.min(end - row);
        let mut totals = [0.0; GROUP];
        let group = job.group(row).chunks_exact(GROUP * bytes);
        for (b, group) in group.enumerate() {
            let group: &[F::Block] = bytemuck::cast_slice(group);
            let x: &[u8] = bytemuck::cast_slice(&column.words[b * QK_K / 4..][..QK_K / 4]);
            let each = group.iter().zip(&mut units).zip(sums.chunks_exact_mut(S::N)).take(live);
            for ((block, unit), sums) in each {
                *unit = F::head(block, &mut signs, &mut factors);
                let mut sum = s.splat_i(0);
                for at in (0..QK_K).step_by(4 * S::N) {
                    let mut x = s.bits(s.floats(&x[at..]));
                    let mut codes = s.eights(|k| F::eight(block, at / 32 + k / 4, k % 4));
                    if F::SIGNED {
                        x = s.negated(x, &signs, at);
                    } else {
                        (codes, x) = s.magnitudes(codes, x);
                    }
                    sum = s.dot_scaled(sum, s.as_codes(codes), x, &factors[at / 16..]);
                }
                s.store_part(s.bits_to_f32(sum), sums);
            }
            add_up(s, &sums, &units, column.scales[b][0], &mut totals);
        }
        job.y.write(job.columns[tile.first].y, row, &totals[..live]);
    }
}

/// Adds to the total of each row the sum of its lanes, integers in the bits of floats, times its unit and
/// the scale of a column.
#[inline(always)]
fn add_up<S: DotLanes>(
    s: S,
    sums: &[f32; GROUP * MAX_LANES],
    units: &[f32; GROUP],
    scale: f32,
    totals: &mut [f32; GROUP],
) {
    for first in (0..GROUP).step_by(S::N) {
        // A row becomes a lane.
        let starts = std::array::from_fn(|lane| (first + lane) * S::N);
        let mut turned = [s.splat(0.0); MAX_LANES];
        s.load_columns(sums, &starts, &mut turned[..S::N]);
        let mut whole = s.splat_i(0);
        for part in &turned[..S::N] {
            whole = s.add_i(whole, s.bits(*part));
        }
        // As in a tile.
        let value = s.mul(s.to_f32(whole), s.load_part(&units[first..]));
        let total = s.mul_add(value, s.splat(scale), s.load_part(&totals[first..]));
        s.store_part(total, &mut totals[first..]);
    }
}

/// The products of a block of row `r` with the activations of a column, times their factors: each lane has
/// a part of the sum.
#[inline(always)]
fn products<S: DotLanes, const SIGNED: bool>(s: S, rows: &Unpacked, r: usize, x: &[u8]) -> S::I32 {
    let mut sum = s.splat_i(0);
    for at in (0..QK_K).step_by(4 * S::N) {
        let mut x = s.bits(s.floats(&x[at..]));
        let mut codes = s.bits(s.floats(&rows.codes[r][at..]));
        if SIGNED {
            x = s.negated(x, &rows.signs[r], at);
        } else {
            (codes, x) = s.magnitudes(codes, x);
        }
        sum = s.dot_scaled(sum, s.as_codes(codes), x, &rows.factors[r][at / 16..]);
    }
    sum
}

/// The product of whole blocks of one row and of Q8_K; the lengths have been checked.
#[inline(always)]
pub(crate) fn dot<S: DotLanes>(s: S, unpack: Unpack, weights: &[u8], activations: &[u8]) -> f32 {
    let mut unpacked = Unpacked::EMPTY;
    let mut total = 0.0;
    let x_size = quant_core::GgmlType::Q8_K.block_bytes();
    let blocks = weights.chunks_exact(unpack.bytes);
    for (weights, x) in blocks.zip(activations.chunks_exact(x_size)) {
        (unpack.rows)(weights, 0..1, &mut unpacked);
        let codes = &x[4..4 + QK_K];
        let sum = if unpack.signed {
            products::<S, true>(s, &unpacked, 0, codes)
        } else {
            products::<S, false>(s, &unpacked, 0, codes)
        };
        let unit = unpacked.units[0] * f32::from_le_bytes([x[0], x[1], x[2], x[3]]);
        total += s.sum_i(sum) as f32 * unit;
    }
    total
}

/// Fills a panel with the rows from `row` on.
#[inline(always)]
pub(crate) fn fill<S: DotLanes, L: Layout>(
    s: S,
    panel: &mut Panel<S>,
    job: &Product<'_>,
    row: usize,
    blocks: Range<usize>,
    unpack: Unpack,
) {
    let (group, first) = (job.group(row), row % GROUP);
    let mut unpacked = Unpacked::EMPTY;
    for b in blocks {
        let group = &group[b * GROUP * unpack.bytes..][..GROUP * unpack.bytes];
        (unpack.rows)(group, first..first + S::N, &mut unpacked);
        let Unpacked { codes, signs, factors, units } = &mut unpacked;
        let plus_128 = s.splat_i(i32::from_ne_bytes([0x80; 4]));
        // Each byte is the larger: nothing is borrowed from its neighbour.
        let less = s.splat_i(i32::from_ne_bytes([0x80 - BIAS as u8; 4]));
        for (codes, signs) in codes.iter_mut().zip(signs).skip(first).take(S::N) {
            for at in (0..QK_K).step_by(4 * S::N) {
                let mut code = s.bits(s.floats(&codes[at..]));
                if unpack.signed {
                    code = s.xor_i(s.negated(code, signs, at), plus_128);
                }
                let code = s.sub_i(code, less);
                s.store_part(s.bits_to_f32(code), bytemuck::cast_slice_mut(&mut codes[at..]));
            }
        }
        // Four columns of a row become a lane.
        let codes: &[f32] = bytemuck::cast_slice(codes.as_flattened());
        for column in (0..QK_K / 4).step_by(16) {
            let starts = std::array::from_fn(|lane| (first + lane) * QK_K / 4 + column);
            let mut turned = [s.splat(0.0); 16];
            s.load_columns(codes, &starts, &mut turned);
            for turned in turned.as_chunks::<8>().0 {
                let mut codes = [s.as_codes(s.bits(turned[0])); 8];
                for t in 1..8 {
                    codes[t] = s.as_codes(s.bits(turned[t]));
                }
                panel.push::<L>(s, codes);
            }
        }
        panel.push_units(s.load_part(&units[first..]), s.splat(0.0));
        let mut of_subs = [s.splat_i(0); MAX_SUBS];
        let of_subs = &mut of_subs[..subs::<L>()];
        for (j, of_sub) in of_subs.iter_mut().enumerate() {
            let mut lanes = [0; MAX_LANES];
            for (lane, factors) in lanes.iter_mut().zip(&factors[first..][..S::N]) {
                *lane = i32::from(factors[j * L::SUB / 16]);
            }
            *of_sub = s.load_i(&lanes);
        }
        panel.push_factors(s, of_subs);
    }
}
