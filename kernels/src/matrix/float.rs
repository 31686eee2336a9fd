//! The kernel for weights that are floats.

#![allow(
    clippy::needless_range_loop,
    reason = "several arrays of registers are indexed alike; iterators hide that"
)]

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
const BLOCK: usize = 256;

/// How far ahead to prefetch, in bytes.
const AHEAD: usize = 4096;

/// The products of `MR` vectors of rows and `NR` columns of floats, given by their bits.
#[inline(always)]
pub(crate) fn tile<S: DotLanes, F: FloatFormat, const MR: usize, const NR: usize>(
    s: S,
    groups: [&[u8]; MR],
    columns: &[[i32; NR]],
) -> [[S::F32; MR]; NR] {
    let mut totals = [[s.splat(0.0); MR]; NR];
    for (b, columns) in columns.chunks(BLOCK).enumerate() {
        // Several chains of sums hide the latency where there are few columns.
        let mut sums = [[[s.splat(0.0); MR]; NR]; 2];
        for (i, pair) in columns.chunks(2).enumerate() {
            let at = (b * BLOCK + 2 * i) * GROUP * F::BYTES;
            for (x, (k, sums)) in pair.iter().zip(sums.iter_mut().enumerate()) {
                let at = at + k * GROUP * F::BYTES;
                let mut w = [F::load(s, &groups[0][at..]); MR];
                for m in 0..MR {
                    let bytes = &groups[m][at..];
                    if k == 0 {
                        s.prefetch(&bytes[..1], AHEAD);
                    }
                    w[m] = F::load(s, bytes);
                }
                for c in 0..NR {
                    let x = s.splat(f32::from_bits(x[c] as u32));
                    for m in 0..MR {
                        sums[c][m] = s.mul_add(w[m], x, sums[c][m]);
                    }
                }
            }
        }
        for c in 0..NR {
            for m in 0..MR {
                totals[c][m] = s.add(totals[c][m], s.add(sums[0][c][m], sums[1][c][m]));
            }
        }
    }
    totals
}
