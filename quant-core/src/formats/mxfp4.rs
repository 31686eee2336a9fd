//! MXFP4: 32 values, a power of two, 4-bit floats.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Importance, Quantizer, Rows, batch::scatter, q4_0::nibbles};
use crate::{
    GgmlType,
    lanes::{Lanes, MAX_LANES},
};

const LEN: usize = 32;

/// Twice what the codes stand for (ggml's `kvalues_mxfp4`).
pub(super) const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// A block of MXFP4: value `i` is `2^(e − 127)` times what its code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockMXFP4 {
    /// Exponent of the scale, biased by 127.
    pub e: u8,
    /// Codes: the low nibbles hold values 0..16, the high nibbles 16..32.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockMXFP4>() == GgmlType::MXFP4.block_bytes());

/// The format of [`GgmlType::MXFP4`].
#[derive(Debug)]
pub struct MXFP4;

impl BlockFormat for MXFP4 {
    type Block = BlockMXFP4;
    const TYPE: GgmlType = GgmlType::MXFP4;

    #[inline(always)]
    fn dequantize(block: &BlockMXFP4, out: &mut [f32]) {
        let half = half_of_power(block.e);
        let (low, high) = out.split_at_mut(LEN / 2);
        for ((low, high), q) in low.iter_mut().zip(high).zip(block.qs) {
            *low = f32::from(DOUBLED[usize::from(q & 15)]) * half;
            *high = f32::from(DOUBLED[usize::from(q >> 4)]) * half;
        }
    }
}

/// `2^(e − 128)`, subnormal for the lowest two, as ggml has it.
#[inline(always)]
fn half_of_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (u32::from(e) - 1) << 23 })
}

/// What the positive codes above zero stand for, doubled, each with the middle between it and the one
/// before; at a middle the lower is taken.
const STEPS: [(f32, f32); 7] =
    [(0.5, 1.0), (1.5, 2.0), (2.5, 3.0), (3.5, 4.0), (5.0, 6.0), (7.0, 8.0), (10.0, 12.0)];

impl Quantizer for MXFP4 {
    const IMPORTANCE: Importance = Importance::Ignored;
    const SEARCHES: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockMXFP4]) {
        let count = blocks.len();
        let zero = s.splat(0.0);
        let mut x = [zero; LEN];
        let mut codes = [s.splat_i(0); LEN];
        let (mut largest, mut halves) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, LEN);
            s.load_columns(rows.values, &batch.starts, &mut x);
            let mut magnitude = zero;
            for &v in &x {
                magnitude = s.max(magnitude, s.abs(v));
            }
            s.store(magnitude, &mut largest);
            let blocks = &mut blocks[batch.first..batch.first + batch.live];
            for lane in 0..S::N {
                let e = exponent(largest[lane]);
                halves[lane] = half_of_power(e);
                if let Some(block) = blocks.get_mut(lane) {
                    block.e = e;
                }
            }
            let half = s.load(&halves);
            // What overflows is nearest to nothing.
            let infinity = s.splat(f32::INFINITY);
            let mut middles = [infinity; STEPS.len()];
            for (scaled, (middle, value)) in middles.iter_mut().zip(STEPS) {
                let fits = s.lt(s.mul(half, s.splat(value)), infinity);
                *scaled = s.select(fits, s.mul(half, s.splat(middle)), infinity);
            }
            for (code, v) in codes.iter_mut().zip(x) {
                let size = s.abs(v);
                let mut steps = s.splat_i(0);
                for middle in middles {
                    let above = s.lt(middle, size);
                    steps = s.select_i(above, s.add_i(steps, s.splat_i(1)), steps);
                }
                // There is no minus zero: of two equal values ggml takes the first.
                let negative = s.and(s.lt(v, zero), s.not(s.eq_i(steps, s.splat_i(0))));
                *code = s.select_i(negative, s.or_i(steps, s.splat_i(8)), steps);
            }
            scatter(s, &nibbles(s, &codes), blocks, |b| &mut b.qs);
        }
    }
}

/// The biased exponent of the scale of a block: that of its largest magnitude less two, in eight bits
/// that wrap, as ggml has it.
#[inline(always)]
fn exponent(largest: f32) -> u8 {
    match largest {
        v if v > 0.0 => (floor_log2(v) + 125) as u8,
        _ => 0,
    }
}

/// `floorf(log2f(v))` for positive `v`: the exponent, but one more where the logarithm, rounded to
/// single precision, is that of the next power of two.
#[inline(always)]
fn floor_log2(v: f32) -> i32 {
    // Subnormal values get their implicit bit by a multiplication.
    let (v, shift) = if v < f32::MIN_POSITIVE { (v * 8_388_608.0, 23) } else { (v, 0) };
    let bits = v.to_bits();
    let exponent = (bits >> 23) as i32 - 127 - shift;
    // v is `below` units of 2⁻²⁴ below the next power of two, and its logarithm `below` / ln 2 of them
    // below a whole number. Next to a number of magnitude 2ᵖ to 2ᵖ⁺¹ floats are 2·2ᵖ units apart (on
    // the side of zero a power of two counts as the end of the range below it), and what is less than
    // half of that away is rounded to the number: up to 2ᵖ · ln 2.
    const LIMITS: [u32; 8] = [0, 1, 2, 5, 11, 22, 44, 88];
    let below = 0x0080_0000 - (bits & 0x007f_ffff);
    let next = exponent + 1;
    let size = next.unsigned_abs();
    let p = if next > 0 { size - 1 } else { size }.checked_ilog2().unwrap_or(0);
    let rounds_up = next != 0 && below <= LIMITS[p as usize & 7];
    exponent + i32::from(rounds_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thresholds found by a search with the C library's `log2f`.
    #[test]
    fn logarithms_are_rounded_before_they_are_cut_off() {
        let below = |power: i32, units: u32| {
            let bits = (power + 127) as u32 * 0x0080_0000 - units;
            floor_log2(f32::from_bits(bits))
        };
        for (power, limit) in
            [(-100, 44), (-3, 1), (-1, 0), (0, 0), (1, 0), (4, 1), (5, 2), (127, 44)]
        {
            assert_eq!(below(power, 0), power);
            assert_eq!(below(power, limit), power, "{power}");
            assert_eq!(below(power, limit + 1), power - 1, "{power}");
        }
        assert_eq!(floor_log2(f32::from_bits(1)), -149);
        assert_eq!(floor_log2(f32::from_bits(0x007f_ffff)), -126);
        assert_eq!(exponent(0.0), 0);
        assert_eq!(exponent(6.0), 127);
        // Below 2⁻¹²⁵ the exponent wraps, as ggml's does.
        assert_eq!(exponent(f32::MIN_POSITIVE), 255);
    }
}
