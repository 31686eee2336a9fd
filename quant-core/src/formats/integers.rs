//! Formats with a codebook as small integers, for products: a value is the unit of its block times the
//! factor of its sub-block times an integer.

use super::{BlockFormat, IQ1M, IQ1S, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS, QK_K, TQ1_0};
use crate::codebook::{self, Codebook};

/// Sub-blocks in a block, at most.
pub const FACTORS: usize = 16;

/// A format of [`QK_K`] values that are small integers times the scale of their sub-block.
pub trait Integers: BlockFormat {
    /// Values that share a factor: 16 or 32.
    const SUB: usize;

    /// The integers of a block, each plus 128, and the factors of its sub-blocks; returns the unit. The
    /// integers are −127 to 127. Factors beyond the sub-blocks stay as they are.
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K], factors: &mut [i32; FACTORS]) -> f32;
}

/// Evaluates `$body` with `$format` naming the [`Integers`](crate::formats::Integers) of the type, or
/// `$otherwise` for types that are none.
#[doc(hidden)]
#[macro_export]
macro_rules! with_integers {
    ($ty:expr, $format:ident => $body:expr, $otherwise:expr) => {
        $crate::choose_format!($ty, $format => $body, $otherwise;
            IQ1_S IQ1S, IQ1_M IQ1M,
            IQ2_XXS IQ2XXS, IQ2_XS IQ2XS, IQ2_S IQ2S, IQ3_XXS IQ3XXS, IQ3_S IQ3S,
            TQ1_0 TQ1_0,
        )
    };
}

/// The same byte eight times.
const fn bytes(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// What the points of a book stand for, a byte for each coordinate, the first lowest.
const fn points<const DIMS: usize, const N: usize>(book: &[u64], levels: &[u8]) -> [u64; N] {
    let codes: [u16; N] = codebook::codes::<DIMS, N>(book);
    let mut points = [0; N];
    let mut index = 0;
    while index < N {
        let mut i = 0;
        while i < DIMS {
            let level = codes[index] as usize >> (Codebook::<DIMS>::BITS as usize * i)
                & ((1 << Codebook::<DIMS>::BITS) - 1);
            points[index] |= (levels[level] as u64) << (8 * i);
            i += 1;
        }
        index += 1;
    }
    points
}

const LEVELS_2: [u8; 4] = [8, 25, 43, 0];
static IQ2_XXS: [u64; 256] = points::<8, _>(&codebook::points::IQ2_XXS, &LEVELS_2);
static IQ2_XS: [u64; 512] = points::<8, _>(&codebook::points::IQ2_XS, &LEVELS_2);
static IQ2_S: [u64; 1024] = points::<8, _>(&codebook::points::IQ2_S, &LEVELS_2);
static IQ3_XXS: [u64; 256] =
    points::<4, _>(&codebook::points::IQ3_XXS, &[4, 12, 20, 28, 36, 44, 52, 62]);
static IQ3_S: [u64; 512] = points::<4, _>(&codebook::points::IQ3_S, &[1, 3, 5, 7, 9, 11, 13, 15]);
/// Eight times the level less one, plus 128: the shift is one more or less.
static IQ1: [u64; 2048] = points::<8, _>(&codebook::points::IQ1, &[120, 128, 136, 0]);

/// For each eight signs a byte of ones where one is set.
static SIGNS: [u64; 256] = {
    let mut signs = [0; 256];
    let mut i = 0;
    while i < 256 * 8 {
        if (i / 8) >> (i % 8) & 1 == 1 {
            signs[i / 8] |= 0xff << (8 * (i % 8));
        }
        i += 1;
    }
    signs
};

/// As [`SIGNS`], for seven signs and an eighth that makes their number even.
static EVEN_SIGNS: [u64; 128] = {
    let mut signs = [0; 128];
    let mut seven = 0;
    while seven < 128 {
        signs[seven] = SIGNS[seven | (seven.count_ones() as usize & 1) << 7];
        seven += 1;
    }
    signs
};

/// Eight magnitudes below 128 with their signs, plus 128.
#[inline(always)]
const fn signed(magnitudes: u64, signs: u64) -> u64 {
    // 127 less the magnitude where the sign is set, so that adding one carries into no other byte.
    (magnitudes ^ bytes(0x80) ^ signs).wrapping_add(signs & bytes(1))
}

/// Two points of four coordinates.
#[inline(always)]
const fn pair(low: u64, high: u64) -> u64 {
    low | high << 32
}

/// Writes the codes, eight at a time.
#[inline(always)]
fn each_eight(codes: &mut [u8; QK_K], eight: impl Fn(usize) -> u64) {
    for (k, codes) in codes.as_chunks_mut().0.iter_mut().enumerate() {
        *codes = eight(k).to_le_bytes();
    }
}

/// Factors from codes of four bits, two in a byte, the lower first.
#[inline(always)]
fn odd_factors<const N: usize>(scales: &[u8; N], factors: &mut [i32; FACTORS]) {
    for (factors, byte) in factors.as_chunks_mut::<2>().0.iter_mut().zip(scales) {
        *factors = [2 * i32::from(byte & 15) + 1, 2 * i32::from(byte >> 4) + 1];
    }
}

impl Integers for IQ2XXS {
    const SUB: usize = 32;

    #[inline(always)]
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K], factors: &mut [i32; FACTORS]) -> f32 {
        for (j, (codes, qs)) in codes.as_chunks_mut::<32>().0.iter_mut().zip(&block.qs).enumerate()
        {
            let [points @ .., a, b, c, e] = *qs;
            let word = u32::from_le_bytes([a, b, c, e]);
            factors[j] = (word >> 28) as i32 * 2 + 1;
            for (k, (codes, point)) in codes.as_chunks_mut().0.iter_mut().zip(points).enumerate() {
                let signs = EVEN_SIGNS[(word >> (7 * k)) as usize & 127];
                *codes = signed(IQ2_XXS[usize::from(point)], signs).to_le_bytes();
            }
        }
        0.125 * block.d.to_f32()
    }
}

impl Integers for IQ2XS {
    const SUB: usize = 16;

    #[inline(always)]
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K], factors: &mut [i32; FACTORS]) -> f32 {
        odd_factors(&block.scales, factors);
        each_eight(codes, |k| {
            let q = usize::from(u16::from_le_bytes(block.qs[k]));
            signed(IQ2_XS[q & 511], EVEN_SIGNS[q >> 9])
        });
        0.125 * block.d.to_f32()
    }
}

impl Integers for IQ2S {
    const SUB: usize = 16;

    #[inline(always)]
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K], factors: &mut [i32; FACTORS]) -> f32 {
        odd_factors(&block.scales, factors);
        each_eight(codes, |k| {
            let high = usize::from(block.qh[k / 4] >> (2 * (k % 4)) & 3);
            let point = IQ2_S[usize::from(block.qs[k]) | high << 8];
            signed(point, SIGNS[usize::from(block.signs[k])])
        });
        0.125 * block.d.to_f32()
    }
}

impl Integers for IQ3XXS {
    const SUB: usize = 32;

    #[inline(always)]
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K], factors: &mut [i32; FACTORS]) -> f32 {
        for (factor, word) in factors.iter_mut().zip(block.scales_and_signs) {
            *factor = (u32::from_le_bytes(word) >> 28) as i32 * 2 + 1;
        }
        each_eight(codes, |k| {
            let (qs, i) = (&block.qs[k / 4], k % 4);
            let word = u32::from_le_bytes(block.scales_and_signs[k / 4]);
            let point = pair(IQ3_XXS[usize::from(qs[2 * i])], IQ3_XXS[usize::from(qs[2 * i + 1])]);
            signed(point, EVEN_SIGNS[(word >> (7 * i)) as usize & 127])
        });
        0.25 * block.d.to_f32()
    }
}

impl Integers for IQ3S {
    const SUB: usize = 32;

    #[inline(always)]
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K], factors: &mut [i32; FACTORS]) -> f32 {
        odd_factors(&block.scales, factors);
        each_eight(codes, |k| {
            let high = usize::from(block.qh[k / 4]) >> (2 * (k % 4));
            let point = |i: usize| IQ3_S[usize::from(block.qs[2 * k + i]) | (high >> i & 1) << 8];
            signed(pair(point(0), point(1)), SIGNS[usize::from(block.signs[k])])
        });
        block.d.to_f32()
    }
}

/// Eight coordinates of a book of IQ1 and the shift of their group.
#[inline(always)]
fn shifted(index: usize, down: bool) -> u64 {
    let point = IQ1[index & 2047];
    if down { point.wrapping_sub(bytes(1)) } else { point.wrapping_add(bytes(1)) }
}

impl Integers for IQ1S {
    const SUB: usize = 32;

    #[inline(always)]
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K], factors: &mut [i32; FACTORS]) -> f32 {
        for (factor, word) in factors.iter_mut().zip(block.qh) {
            *factor = i32::from(u16::from_le_bytes(word) >> 12 & 7) * 2 + 1;
        }
        each_eight(codes, |k| {
            let word = usize::from(u16::from_le_bytes(block.qh[k / 4]));
            let high = word >> (3 * (k % 4)) & 7;
            shifted(usize::from(block.qs[k]) | high << 8, word >> 15 == 1)
        });
        0.125 * block.d.to_f32()
    }
}

impl Integers for IQ1M {
    const SUB: usize = 16;

    #[inline(always)]
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K], factors: &mut [i32; FACTORS]) -> f32 {
        for (factors, word) in factors.as_chunks_mut::<4>().0.iter_mut().zip(block.scales) {
            let word = i32::from(u16::from_le_bytes(word));
            for (i, factor) in factors.iter_mut().enumerate() {
                *factor = (word >> (3 * i) & 7) * 2 + 1;
            }
        }
        each_eight(codes, |k| {
            let high = usize::from(block.qh[k / 2] >> (4 * (k % 2)));
            shifted(usize::from(block.qs[k]) | (high & 7) << 8, high & 8 == 8)
        });
        0.125 * block.unit()
    }
}

impl Integers for TQ1_0 {
    const SUB: usize = 32;

    #[inline(always)]
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K], factors: &mut [i32; FACTORS]) -> f32 {
        factors[..QK_K / Self::SUB].fill(1);
        block.digits(codes, |digit| 127 + digit);
        block.d.to_f32()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GgmlType, dequantize};

    /// Every integer times its factor and unit is the value that is restored, for blocks of any bytes.
    #[test]
    fn integers_are_the_values() {
        let mut state = 1u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut seen = 0;
        for &ty in GgmlType::ALL {
            with_integers!(ty, F => for _ in 0..40 {
                seen += 1;
                let bytes: Vec<u8> = (0..ty.block_bytes()).map(|_| byte()).collect();
                let mut values = [0.0; QK_K];
                dequantize(ty, &bytes, &mut values).unwrap();
                let (mut codes, mut factors) = ([0; QK_K], [0; FACTORS]);
                let block = bytemuck::pod_read_unaligned(&bytes);
                let unit = <F as Integers>::integers(&block, &mut codes, &mut factors);
                if !unit.is_finite() {
                    continue;
                }
                for (i, value) in values.iter().enumerate() {
                    let integer = i32::from(codes[i]) - 128;
                    let found = unit * (factors[i / F::SUB] * integer) as f32;
                    let near = (found - value).abs() <= 1e-6 * value.abs();
                    assert!(integer != -128 && near, "{ty} {i}: {found}, not {value}");
                }
            }, {});
        }
        assert_eq!(seen, 8 * 40);
    }
}
