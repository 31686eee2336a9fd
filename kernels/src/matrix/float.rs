//! The kernel for weights that are floats.

#![allow(
    clippy::needless_range_loop,
    reason = "several arrays of registers are indexed alike; iterators hide that"
)]

use quant_core::lanes::MAX_LANES;

use super::{dot_lanes::DotLanes, packed::GROUP};

/// A float type of weights.
pub(crate) trait FloatFormat {
    /// Bytes in an element.
    const BYTES: usize;
    /// A vector of elements.
    fn load<S: DotLanes>(s: S, bytes: &[u8]) -> S::F32;
}

pub(crate) struct F32;
pub(crate) struct F16;
pub(crate) struct Bf16;

impl FloatFormat for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    fn load<S: DotLanes>(s: S, bytes: &[u8]) -> S::F32 {
        s.floats(bytes)
    }
}

impl FloatFormat for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<S: DotLanes>(s: S, bytes: &[u8]) -> S::F32 {
        s.halves(bytes)
    }
}

impl FloatFormat for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<S: DotLanes>(s: S, bytes: &[u8]) -> S::F32 {
        s.bf16s(bytes)
    }
}

/// Elements whose products are added up before they join the totals: long sums lose less.
pub(crate) const BLOCK: usize = 256;

/// How far ahead to prefetch, in bytes.
const AHEAD: usize = 4096;

/// The products of `MR` vectors of rows and `NR` columns of floats, given by their bits.
#[inline(always)]
pub(crate) fn tile<S: DotLanes, F: FloatFormat, const MR: usize, const NR: usize>(
    s: S,
    groups: [&[u8]; MR],
    columns: &[[i32; NR]],
) -> [[S::F32; MR]; NR] {
    let size = GROUP * F::BYTES;
    let mut totals = [[s.splat(0.0); MR]; NR];
    for (b, columns) in columns.chunks(BLOCK).enumerate() {
        let mut block = groups;
        for m in 0..MR {
            block[m] = &groups[m][b * BLOCK * size..];
        }
        let mut sums = [[s.splat(0.0); MR]; NR];
        // Where there are few columns, two chains of sums hide the latency.
        let mut odd = sums;
        let (pairs, rest) = columns.as_chunks::<2>();
        for (i, pair) in pairs.iter().enumerate() {
            // With one column the CPU's own prefetching keeps pace, and ours would only be in its way.
            if NR > 1 {
                for m in 0..MR {
                    s.prefetch(&block[m][2 * i * size..][..1], AHEAD);
                    if F::BYTES == 4 {
                        s.prefetch(&block[m][(2 * i + 1) * size..][..1], AHEAD);
                    }
                }
            }
            column::<S, F, MR, NR>(s, &block, 2 * i * size, &pair[0], &mut sums);
            let second = if NR <= 2 { &mut odd } else { &mut sums };
            column::<S, F, MR, NR>(s, &block, (2 * i + 1) * size, &pair[1], second);
        }
        for x in rest {
            column::<S, F, MR, NR>(s, &block, (columns.len() - 1) * size, x, &mut sums);
        }
        for c in 0..NR {
            for m in 0..MR {
                totals[c][m] = s.add(totals[c][m], s.add(sums[c][m], odd[c][m]));
            }
        }
    }
    totals
}

/// Adds the products of a panel, up to [`BLOCK`] columns of `MR` vectors of rows side by side, and `NR`
/// columns of floats, given by their bits.
#[inline(always)]
pub(crate) fn panel<S: DotLanes, const MR: usize, const NR: usize>(
    s: S,
    panel: &[[S::F32; MR]],
    columns: &[[i32; NR]],
    totals: &mut [[S::F32; MR]; NR],
) {
    let mut sums = [[s.splat(0.0); MR]; NR];
    for (w, x) in panel.iter().zip(columns) {
        for c in 0..NR {
            let x = s.splat(f32::from_bits(x[c] as u32));
            for m in 0..MR {
                sums[c][m] = s.mul_add(w[m], x, sums[c][m]);
            }
        }
    }
    for c in 0..NR {
        for m in 0..MR {
            totals[c][m] = s.add(totals[c][m], sums[c][m]);
        }
    }
}

/// Adds the products of one element of each row.
#[inline(always)]
fn column<S: DotLanes, F: FloatFormat, const MR: usize, const NR: usize>(
    s: S,
    block: &[&[u8]; MR],
    at: usize,
    x: &[i32; NR],
    sums: &mut [[S::F32; MR]; NR],
) {
    let mut w = [F::load(s, &block[0][at..]); MR];
    for m in 1..MR {
        w[m] = F::load(s, &block[m][at..]);
    }
    for c in 0..NR {
        let x = s.splat(f32::from_bits(x[c] as u32));
        for m in 0..MR {
            sums[c][m] = s.mul_add(w[m], x, sums[c][m]);
        }
    }
}

/// Sums that do not wait for each other in a product of single rows.
const CHAINS: usize = 8;

/// The product of one row of weights and one of inputs in single precision, both in bytes.
#[inline(always)]
pub(crate) fn dot<S: DotLanes, F: FloatFormat>(s: S, weights: &[u8], inputs: &[u8]) -> f32 {
    let (w_step, x_step) = (F::BYTES * S::N, 4 * S::N);
    let mut sums = [s.splat(0.0); CHAINS];
    let w_pieces = weights.chunks_exact(CHAINS * w_step);
    let x_pieces = inputs.chunks_exact(CHAINS * x_step);
    let (mut w_rest, mut x_rest) = (w_pieces.remainder(), x_pieces.remainder());
    for (w, x) in w_pieces.zip(x_pieces) {
        for k in 0..CHAINS {
            let w = F::load(s, &w[k * w_step..]);
            sums[k] = s.mul_add(w, s.floats(&x[k * x_step..]), sums[k]);
        }
    }
    while x_rest.len() >= x_step {
        sums[0] = s.mul_add(F::load(s, w_rest), s.floats(x_rest), sums[0]);
        (w_rest, x_rest) = (&w_rest[w_step..], &x_rest[x_step..]);
    }
    // What does not fill a vector, filled up with zeros.
    let (mut w, mut x) = ([0; 4 * MAX_LANES], [0; 4 * MAX_LANES]);
    w[..w_rest.len()].copy_from_slice(w_rest);
    x[..x_rest.len()].copy_from_slice(x_rest);
    sums[1] = s.mul_add(F::load(s, &w), s.floats(&x), sums[1]);

    let mut lanes = [0.0; MAX_LANES];
    let mut total = sums[0];
    for &sum in &sums[1..] {
        total = s.add(total, sum);
    }
    s.store(total, &mut lanes);
    lanes[..S::N].iter().sum()
}
