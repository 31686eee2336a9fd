//! What this machine can do at most: the limits that benchmarks compare with.

use crate::matrix::dot_lanes::DotLanes;

/// Sums that do not wait for each other.
const CHAINS: usize = 12;

/// Multiplies and adds bytes in registers, `CHAINS · N · 4` products per turn; returns their
/// number. The result goes to `sink` so that the work is not removed.
#[inline(always)]
pub(crate) fn int8<S: DotLanes>(s: S, turns: usize, sink: &mut i32) -> u64 {
    // Different codes in each chain, which the compiler cannot see through.
    let bytes = std::hint::black_box([[1u8; 64]; CHAINS]);
    let codes = bytes.each_ref().map(|bytes| s.codes(bytes));
    let mut sums = [s.begin(s.splat_i(*sink)); CHAINS];
    for turn in 0..turns {
        let x = s.splat_i(turn as i32 & 0x0101_0101);
        for (sum, codes) in sums.iter_mut().zip(codes) {
            *sum = s.dot(*sum, codes, x);
        }
    }
    let mut lanes = [0; quant_core::lanes::MAX_LANES];
    for sum in sums {
        s.store_i(s.finish(s.splat_i(0), sum), &mut lanes);
        *sink = lanes[..S::N].iter().fold(*sink, |sum, v| sum.wrapping_add(*v));
    }
    (turns * CHAINS * S::N * 4) as u64
}

/// Multiplies and adds floats in registers, `CHAINS · N` per turn; returns their number.
#[inline(always)]
pub(crate) fn float<S: DotLanes>(s: S, turns: usize, sink: &mut f32) -> u64 {
    let factors = std::hint::black_box([0.5f32; CHAINS]);
    let mut sums = [s.splat(*sink); CHAINS];
    for turn in 0..turns {
        let x = s.splat((turn & 1) as f32);
        for (sum, factor) in sums.iter_mut().zip(factors) {
            *sum = s.mul_add(s.splat(factor), *sum, x);
        }
    }
    let mut lanes = [0.0; quant_core::lanes::MAX_LANES];
    for sum in sums {
        s.store(sum, &mut lanes);
        *sink += lanes[..S::N].iter().sum::<f32>();
    }
    (turns * CHAINS * S::N) as u64
}

/// Bytes that [`read`] prefetches at a time.
const PIECE: usize = 256;

/// Reads all bytes once, in vectors, prefetching as the kernels do.
#[inline(always)]
pub(crate) fn read<S: DotLanes>(s: S, bytes: &[u8], sink: &mut i32) {
    let mut all = [s.codes(&[0; 64]); 4];
    let vectors = PIECE / (4 * S::N);
    for piece in bytes.as_chunks::<PIECE>().0 {
        s.prefetch(piece, 4096);
        for i in 0..vectors {
            all[i % 4] = s.codes_or(all[i % 4], s.codes(&piece[4 * S::N * i..]));
        }
    }
    let mut lanes = [0; quant_core::lanes::MAX_LANES];
    for all in all {
        let sum =
            s.finish(s.splat_i(0), s.dot(s.begin(s.splat_i(0)), s.codes_and(all, 1), s.splat_i(1)));
        s.store_i(sum, &mut lanes);
        *sink = lanes[..S::N].iter().fold(*sink, |sum, v| sum.wrapping_add(*v));
    }
}
